"""A weigh-in: probe the device, run a suite case by case, and put everything that was found out into a run."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import weighin_analysis.conditions
from weighin_agent.bench.job import Job
from weighin_agent.bench.suite_run import Watcher, run_suite
from weighin_agent.conditions import condition_gaps, read_conditions
from weighin_agent.device import Device, ProbeGap, last_level_cache, usable_core_count
from weighin_agent.errors import EnvironmentFailure, UsageError
from weighin_agent.probe import available_bytes, cpu_quota_cores, probe
from weighin_agent.probe.execution_providers import measurable
from weighin_agent.run import CaseFailure, CaseFailureReason, Conditions, Run, Source
from weighin_analysis.card import Card
from weighin_analysis.evidence import DeviceFacts, accelerator_memory_bytes
from weighin_analysis.judge import judge, run_disturbances
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Case, ClockKind, Measurement
from weighin_analysis.plausible import MainMemory, possible_measurements
from weighin_analysis.suite import Processor, Suite, SuiteCase

# So much of the processor in others' hands before the run begins makes wall clocks useless.
BUSY_SHARE = 0.2
_WORK_PREFIX = "weighin-work-"


def weigh_in(
    suite: Suite,
    *,
    execution_provider: str,
    allow_software_adapter: bool,
    state_folder: Path,
    consent_version: int,
    watch: Callable[[Device], Watcher],
) -> Run:
    """Run the suite on this device and return the run; takes as long as the suite's time limit for each provider.

    ``execution_provider`` is "auto", "all", or a name. Synthesised models lie below ``state_folder`` while they are
    needed. ``watch`` is told the device before the first case. UsageError if an execution provider is not measured
    here. KeyboardInterrupt ends the present case and leaves no process and no file behind.
    """
    observe_time, begin = datetime.now(UTC), time.monotonic()
    device, gaps = probe(state_folder)
    providers = measurable(device.execution_providers, allow_software_adapter=allow_software_adapter)
    device = replace(device, execution_providers=providers)
    names = choose_execution_providers(device, gaps, execution_provider)
    before = read_conditions()
    watcher = watch(device)
    measurements: list[Measurement] = []
    failures: list[CaseFailure] = []
    with work_folder(state_folder) as folder:
        for count, name in enumerate(names, start=1):
            found, failed = run_suite(
                suite.cases_on(Processor.CPU if name == "cpu" else Processor.GPU),
                partial(make_job, suite, device=device, execution_provider=name, folder=folder, busy=is_busy(before)),
                # A probe that took long (a driver that had to be given up) leaves the cases half of their time.
                deadline_seconds=max(
                    begin + count * suite.time_limit_seconds, time.monotonic() + suite.time_limit_seconds / 2
                ),
                watcher=watcher,
            )
            measurements += found
            failures += failed
    after = read_conditions()
    return Run(
        source=Source.NATIVE,
        observe_time=observe_time,
        elapsed_seconds=time.monotonic() - begin,
        agent_version=version("weighin-agent"),
        consent_version=consent_version,
        suite=suite.name,
        suite_version=suite.version,
        suite_sha256=suite.sha256,
        device=device,
        probe_gaps=gaps + condition_gaps(before, after),
        before=before,
        after=after,
        measurements=tuple(measurements),
        failures=tuple(failures),
    )


def is_busy(conditions: Conditions) -> bool:
    """Return whether others use so much of the processor that only the CPU time of one thread tells anything."""
    return (conditions.foreign_cpu_share or 0.0) > BUSY_SHARE


def card_of(run: Run) -> Card:
    """Judge a run with the analysis core."""
    return judge(
        possible_measurements(run.measurements, main_memory(run.device)),
        device_facts(run.device),
        conditions=_judged_conditions(run),
        gated_cases=[f.case for f in run.failures if f.reason is CaseFailureReason.MEMORY_GATE],
        failed_cases=[f.case for f in run.failures if f.reason is not CaseFailureReason.MEMORY_GATE],
    )


def disturbances_of(run: Run) -> tuple[str, ...]:
    """Return what casts doubt on a run; nothing if it is clean."""
    return run_disturbances(run.measurements, _judged_conditions(run))


def device_facts(device: Device) -> DeviceFacts:
    """Return what the analysis core needs to know of a device."""
    return DeviceFacts(
        memory_available_bytes=device.memory.available_bytes,
        read_bandwidth_bytes_per_second=device.memory.read_bandwidth_bytes_per_second,
        core_count=usable_core_count(device.cpu, cpu_quota_cores()),
        accelerator_memory_bytes=accelerator_memory_bytes(
            (one.shares_main_memory, one.memory_available_bytes, one.memory_total_bytes) for one in device.accelerators
        ),
        software_providers=frozenset(ep.name for ep in device.execution_providers if ep.is_software),
    )


def main_memory(device: Device) -> MainMemory:
    """Return what decides how fast the processor of a device can read weights."""
    cache = last_level_cache(device.cpu)
    return MainMemory(
        read_bandwidth_bytes_per_second=device.memory.read_bandwidth_bytes_per_second,
        last_level_cache_bytes=cache.size_bytes * cache.instance_count if cache else None,
    )


def _judged_conditions(run: Run) -> tuple[weighin_analysis.conditions.Conditions, ...]:
    return tuple(_judged(conditions) for conditions in (run.before, run.after))


def _judged(conditions: Conditions) -> weighin_analysis.conditions.Conditions:
    canary = conditions.canary
    return weighin_analysis.conditions.Conditions(
        memory_available_bytes=conditions.memory_available_bytes,
        foreign_cpu_share=conditions.foreign_cpu_share,
        steal_cpu_share=conditions.steal_cpu_share,
        power_source=conditions.power_source,
        frequency_hertz=conditions.frequency_hertz,
        temperature_celsius=conditions.temperature_celsius,
        canary_matrix_flops=canary.matrix_flops if canary else None,
        canary_read_bytes_per_second=canary.read_bytes_per_second if canary else None,
    )


def choose_execution_providers(device: Device, gaps: Sequence[ProbeGap], name: str) -> tuple[str, ...]:
    """Return the execution providers to measure: "auto" is the CPU and one for a real GPU, "all" is all that can be.

    UsageError if the one that is named is not measured here.
    """
    measured = [ep for ep in device.execution_providers if ep.measured]
    if name == "all" and measured:
        return tuple(ep.name for ep in measured)
    if name == "auto" and measured:
        real = [ep.name for ep in measured if ep.name != "cpu" and not ep.is_software]
        return ("cpu", *sorted(real)[:1])  # "cuda" before "webgpu": the runtime's own path on that GPU
    check_execution_provider(device, gaps, name)
    return (name,)


def check_execution_provider(device: Device, gaps: Sequence[ProbeGap], name: str) -> None:
    """Raise UsageError unless the execution provider is measured here; its text names those that are.

    EnvironmentFailure where the runtime itself could not be loaded.
    """
    if not device.execution_providers:
        why = next((gap.detail for gap in gaps if gap.fact == "execution_providers"), "it offers nothing")
        raise EnvironmentFailure(f"onnxruntime cannot be used on this device: {why}")
    measured = [ep.name for ep in device.execution_providers if ep.measured]
    if name in measured:
        return
    offered = {ep.name: ep.reason for ep in device.execution_providers}
    why = f"is not measured here: {offered[name]}" if name in offered else "is not offered by the runtime here"
    raise UsageError(f"execution provider {name!r} {why}; use --ep {' or '.join(measured) or 'auto'}")


def make_job(
    suite: Suite,
    suite_case: SuiteCase,
    *,
    device: Device,
    execution_provider: str,
    folder: Path,
    busy: bool = False,
    full_model_loads: int | None = None,
) -> Job:
    """Return the job of a case on this device: a thread on every core that may run, a share of the free memory.

    A single thread is timed by its CPU time, which does not see preemption; with more, waiting threads spin and count
    as busy. So on a ``busy`` device one thread is used. Under a quota of less than one core CPU time would hide the
    throttling, and Windows counts it in ticks of 16 ms. ``full_model_loads`` is 1 for an anchor and else 0, unless it
    is given.
    """
    available, quota = available_bytes(), cpu_quota_cores()
    thread_time_tells = (quota is None or quota >= 1) and sys.platform != "win32"
    threads = 1 if busy and thread_time_tells else usable_core_count(device.cpu, quota)
    return Job(
        case=Case(
            architecture=suite_case.architecture,
            scheme=suite_case.scheme,
            execution_provider=execution_provider,
            threads=threads,
            probe_layers=suite_case.probe_layers,
            short_probe_layers=suite_case.short_probe_layers,
            head_columns=suite_case.head_columns,
        ),
        folder=folder,
        weights=suite.weights,
        lengths=suite.lengths,
        rounds=suite.rounds,
        layer_probe=not suite_case.anchor,
        full_model_loads=int(suite_case.anchor) if full_model_loads is None else full_model_loads,
        memory_limit_bytes=None if available is None else round(current_limits().memory_share * available),
        clock=ClockKind.THREAD_CPU
        if threads == 1 and thread_time_tells and execution_provider == "cpu"
        else ClockKind.WALL,
    )


@contextmanager
def work_folder(state_folder: Path) -> Iterator[Path]:
    """Make a folder for synthesised models that is gone afterwards; what a killed agent left goes first.

    The caller holds the lock of the state folder, so that no other agent is at work in it. EnvironmentFailure where
    there is no room or no permission.
    """
    for leftover in state_folder.glob(f"{_WORK_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        folder = tempfile.TemporaryDirectory(prefix=_WORK_PREFIX, dir=state_folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise EnvironmentFailure(f"no models can be made in {state_folder}: {error.strerror}; make room") from error
    with folder as name:
        yield Path(name)
