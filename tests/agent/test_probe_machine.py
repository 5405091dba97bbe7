"""The whole probe on the machine that runs the tests: it agrees with the system's own tools, and gives nobody away."""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
from dataclasses import asdict, replace
from getpass import getuser
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from weighin_agent.device import Device, ProbeGap
from weighin_agent.probe import android, available_bytes, draws_from_mains, linux, macos, portable, probe, windows
from weighin_agent.probe.assemble import readers_for
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import this_system

Probed = tuple[Device, tuple[ProbeGap, ...]]

GRAIN_BYTES = 64 * 2**20


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Probed:
    return probe(tmp_path_factory.mktemp("storage") / "not" / "yet" / "there")


def output_of(*command: str) -> str:
    """Run one of the system's own tools; skip where it is missing or does not work."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    if done.returncode != 0 and not done.stdout:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture(scope="module")
def lscpu() -> dict[str, str]:
    if platform.system() == "Linux" and os.sched_getaffinity(0) != set(range(os.cpu_count() or 0)):
        pytest.skip("the tests may not use every processor, and lscpu counts them all")
    lines = (line.partition(":") for line in output_of("lscpu").splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def is_gap(probed: Probed, fact: str) -> bool:
    return fact in {gap.fact for gap in probed[1]}


def agrees(probed: Probed, fact: str, theirs: object) -> bool:
    """Whether we read what a tool of the system read; nothing only where we said so."""
    part, name = fact.split(".")
    ours = getattr(getattr(probed[0], part), name)
    return is_gap(probed, fact) if ours is None else bool(ours == theirs)


def test_the_processor_agrees_with_lscpu(probed: Probed, lscpu: dict[str, str]) -> None:
    assert probed[0].cpu.logical_core_count == int(lscpu["CPU(s)"])
    assert probed[0].cpu.architecture == lscpu["Architecture"]
    assert agrees(probed, "cpu.model", lscpu.get("Model name"))
    assert agrees(probed, "cpu.vendor", lscpu.get("Vendor ID"))
    if not is_gap(probed, "cpu.physical_core_count"):  # without topology files, lscpu counts 1 and "-"
        theirs = int(lscpu["Core(s) per socket"]) * int(lscpu["Socket(s)"])
        assert probed[0].cpu.physical_core_count == theirs


def test_the_caches_agree_with_lscpu(probed: Probed) -> None:
    caches = json.loads(output_of("lscpu", "-J", "-B", "-C")).get("caches", [])
    if "one-size" not in (caches or [{}])[0]:
        pytest.skip("this lscpu does not list caches")
    theirs = {(row["level"], row["type"].lower(), int(row["one-size"]), int(row["all-size"])) for row in caches}
    ours = {(c.level, str(c.kind), c.size_bytes, c.size_bytes * c.instance_count) for c in probed[0].cpu.caches}
    if ours and is_gap(probed, "cpu.caches"):
        pytest.skip("the caches of one level differ in size: lscpu states the first, the probe the largest")
    assert ours == theirs or (not ours and is_gap(probed, "cpu.caches"))


def test_the_memory_agrees_with_free(probed: Probed) -> None:
    memory = next(line.split() for line in output_of("free", "-b").splitlines() if line.startswith("Mem:"))
    assert probed[0].memory.total_bytes == int(memory[1])
    # What is available changes from moment to moment, and a container may be allowed less.
    available = available_bytes()
    assert available is not None
    assert 0 < available <= int(memory[1])


def test_the_free_space_agrees_with_df(probed: Probed, tmp_path_factory: pytest.TempPathFactory) -> None:
    free = int(output_of("df", "--output=avail", "-B1", str(tmp_path_factory.getbasetemp())).split()[-1])
    ours = probed[0].storage.free_bytes
    assert ours is not None
    assert ours % GRAIN_BYTES == 0
    assert abs(ours - free) < 64 * GRAIN_BYTES  # others write to the same disk meanwhile


def test_virtualization_agrees_with_systemd(probed: Probed) -> None:
    machine = output_of("systemd-detect-virt", "--vm").strip()
    container = output_of("systemd-detect-virt", "--container").strip()
    virtualization = probed[0].virtualization
    if virtualization is None:
        assert is_gap(probed, "virtualization")
        pytest.skip("the probe cannot tell on this machine, and said so")
    if container == "wsl":
        pytest.skip("systemd calls this a container, the probe a virtual machine")
    assert ("container" in virtualization.kind) == (container != "none")
    assert ("virtual_machine" in virtualization.kind) == (machine != "none")
    for product in {machine, container} - {"none"}:
        assert product in (virtualization.product or product)


def test_the_distribution_agrees_with_python(probed: Probed) -> None:
    if platform.system() != "Linux":
        pytest.skip("only Linux has distributions")
    try:
        theirs = platform.freedesktop_os_release()
    except OSError:
        pytest.skip("this system has no os-release")
    assert agrees(probed, "operating_system.name", theirs["NAME"])
    assert agrees(probed, "operating_system.version", theirs.get("VERSION_ID"))
    assert agrees(probed, "operating_system.kernel", platform.release())


def test_bandwidth_was_measured(probed: Probed) -> None:
    memory = probed[0].memory
    assert memory.read_bandwidth_bytes_per_second is not None
    assert memory.single_thread_read_bandwidth_bytes_per_second is not None
    assert memory.single_thread_read_bandwidth_bytes_per_second > 0


def test_every_absent_fact_has_one_reason_and_no_fact_is_an_empty_text(probed: Probed) -> None:
    device, gaps = probed
    known_gaps = [gap.fact for gap in gaps]
    for part in ("cpu", "memory", "storage", "operating_system", "runtime_versions"):
        for name, value in asdict(getattr(device, part)).items():
            assert value != ""
            if value is None:
                assert known_gaps.count(f"{part}.{name}") == 1
    for whole in ("cpu.caches", "virtualization", "execution_providers"):
        if not attrgetter(whole)(device):
            assert known_gaps.count(whole) == 1
    assert all(gap.detail and "\n" not in gap.detail for gap in gaps)


def test_bandwidth_can_be_left_out(tmp_path: Path) -> None:
    device, gaps = probe(tmp_path, bandwidth=False)
    assert device.memory.read_bandwidth_bytes_per_second is None
    assert [gap.detail for gap in gaps if gap.fact.startswith("memory.")] == ["not measured: left out on request"] * 2


def identifying_texts() -> set[str]:
    """Everything that tells this machine or its user from others, as far as the test may see it."""
    files = ("/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/var/lib/dbus/machine-id")
    serials = [f"/sys/class/dmi/id/{name}" for name in ("product_uuid", "product_serial", "board_serial")]
    texts = {socket.gethostname(), getuser(), str(Path.home()), str(Path.cwd())}
    for path in (Path(name) for name in (*files, *serials)):
        try:
            texts.add(path.read_text().strip())
        except OSError:
            continue
    for addresses in psutil.net_if_addrs().values():
        texts |= {address.address.partition("%")[0] for address in addresses}
    return {text for text in texts if len(text) > 1} - {"127.0.0.1", "::1", "00:00:00:00:00:00"}


def test_nothing_that_the_probe_says_identifies_this_machine_or_its_user(probed: Probed) -> None:
    device, gaps = probed
    said = json.dumps([asdict(device), [asdict(gap) for gap in gaps]])
    for text in identifying_texts():
        for shape in {text, text.replace(":", ""), text.replace("-", "")}:
            assert not re.search(rf"(?<![\w.]){re.escape(shape)}(?![\w.])", said), "an identifying text got through"


def test_the_form_factor_is_what_the_machine_is(probed: Probed) -> None:
    device = probed[0]
    assert device.form_factor is not None or is_gap(probed, "form_factor")
    if device.virtualization is not None and "virtual_machine" in device.virtualization.kind:
        assert device.form_factor == "virtual_machine"


def test_a_linux_machine_without_a_battery_draws_from_the_mains() -> None:
    if platform.system() != "Linux" or psutil.sensors_battery() is not None:
        pytest.skip("this machine has a battery")
    assert draws_from_mains() is True


def test_a_system_without_readers_of_its_own_still_gets_its_facts_and_honest_gaps() -> None:
    readers = readers_for("FreeBSD")
    assert readers is portable
    gaps, system = Gaps(), replace(this_system(), name="FreeBSD")
    cpu = readers.read_cpu(gaps, system)
    assert cpu.logical_core_count == psutil.cpu_count()
    assert readers.read_memory_sizes(gaps, system)[0] == psutil.virtual_memory().total
    assert readers.read_operating_system(gaps, system).family == "freebsd"
    assert readers.read_virtualization(gaps, system) is None
    assert readers.read_form_factor(gaps, system, None) is None
    readers.read_accelerators(gaps, system)
    facts = {gap.fact for gap in gaps.all()}
    assert {"cpu.vendor", "cpu.caches", "virtualization", "form_factor", "accelerators"} <= facts


def test_the_kernel_is_its_release_alone() -> None:
    """FreeBSD's version names the user, the host and the folder that built the kernel."""
    system = replace(this_system(), name="FreeBSD", kernel="14.1-RELEASE")
    assert portable.read_operating_system(Gaps(), system).kernel == "14.1-RELEASE"


@pytest.mark.parametrize("readers", [android, macos, windows, portable])
def test_every_set_of_readers_offers_the_same_names(readers: ModuleType) -> None:
    assert readers.__all__ == linux.__all__
