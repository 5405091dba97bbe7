"""The bundle for devices without internet: what is put in, how, and what its script refuses to install.

That a bundle installs and works is shown by end_to_end/test_deploy.py.
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import bundle
import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def made_wheel(folder: Path, name: str, *requirements: str) -> Path:
    """A wheel of nothing but its requirements."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {r}" for r in requirements)]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines) + "\n")
    return wheel


def test_requirements_are_those_of_the_device_and_not_of_this_machine(tmp_path: Path) -> None:
    wheel = made_wheel(
        tmp_path,
        "thing",
        "everywhere>=1",
        "on.Windows ; sys_platform == 'win32'",
        "on_arm ; platform_machine == 'aarch64'",
        "old ; python_version < '3.12'",
        "wanted-by-extra ; extra == 'gpu'",
    )
    windows = bundle.environment_of(bundle.PLATFORMS["windows-x64"], "3.12")
    assert bundle.required(wheel, windows) == {"everywhere", "on-windows"}
    raspberry = bundle.environment_of(bundle.PLATFORMS["linux-arm64"], "3.11")
    assert bundle.required(wheel, raspberry) == {"everywhere", "on-arm", "old"}


@pytest.mark.parametrize("platform_name", bundle.PLATFORMS)
@pytest.mark.parametrize("python_version", bundle.PYTHON_VERSIONS)
def test_every_platform_gets_one_version_of_everything_that_constraints_state(
    platform_name: str, python_version: str
) -> None:
    pins = bundle.pinned(CONSTRAINTS, bundle.environment_of(bundle.PLATFORMS[platform_name], python_version))
    assert ("numpy==" + pins["numpy"]) in CONSTRAINTS
    assert pins["onnxruntime"]
    assert ("colorama" in pins) == (platform_name == "windows-x64")


def test_the_version_of_numpy_is_the_one_for_the_python_of_the_bundle() -> None:
    linux = bundle.PLATFORMS["linux-x64"]
    versions = {
        python: bundle.pinned(CONSTRAINTS, bundle.environment_of(linux, python))["numpy"] for python in ("3.11", "3.13")
    }
    assert versions["3.11"] != versions["3.13"]


@pytest.fixture
def wheels(tmp_path: Path) -> tuple[Path, ...]:
    return made_wheel(tmp_path, "weighin_agent"), made_wheel(tmp_path, "pip")


@pytest.mark.parametrize("platform_name", bundle.PLATFORMS)
def test_the_same_wheels_give_the_same_archive_wherever_they_lie(
    tmp_path: Path, wheels: tuple[Path, ...], platform_name: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copies = [elsewhere / wheel.name for wheel in wheels]
    for copy, wheel in zip(copies, wheels, strict=True):
        copy.write_bytes(wheel.read_bytes())
    first = bundle.write_archive(tmp_path / "first", platform_name, RUNNING, wheels).read_bytes()
    second = bundle.write_archive(tmp_path / "second", platform_name, RUNNING, reversed(copies)).read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first


def test_an_archive_holds_nobodys_name_and_no_time(tmp_path: Path, wheels: tuple[Path, ...]) -> None:
    path = bundle.write_archive(tmp_path, "linux-x64", RUNNING, wheels)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {
        (0, 0, "", bundle.FILE_TIME_SECONDS)
    }
    assert [member.name for member in members] == sorted(member.name for member in members)


@pytest.mark.parametrize("platform_name", bundle.PLATFORMS)
def test_every_file_is_listed_with_its_digest_and_no_blank_is_left_to_fill_in(
    wheels: tuple[Path, ...], platform_name: str
) -> None:
    words = {"VERSION": "1.0", "PLATFORM": platform_name, "PYTHON": RUNNING}
    files = bundle.contents(wheels, platform_name, words)
    listed = dict(line.split("  ")[::-1] for line in files["SHA256SUMS"].decode().splitlines())
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "SHA256SUMS"}
    for name in files.keys() - {f"wheels/{wheel.name}" for wheel in wheels}:
        assert b"@" not in files[name].replace(b"@args", b"").replace(b'"$@"', b"")


def test_a_wheel_that_the_index_does_not_have_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an index that has nothing."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(bundle.MissingWheelsError, match=r"no wheel for macos-arm64 and Python 3.13 of .*numpy==2.5.5"):
        bundle.download({"numpy": "2.5.5"}, "macos-arm64", "3.13", tmp_path / "wheels")


def unpacked(tmp_path: Path, wheels: tuple[Path, ...], python_version: str = RUNNING) -> Path:
    path = bundle.write_archive(tmp_path, "linux-x64", python_version, wheels)
    with tarfile.open(fileobj=BytesIO(path.read_bytes())) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    return folder


def install(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-I", str(folder / "install.py"), str(target)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_damaged_wheel_is_not_installed(tmp_path: Path, wheels: tuple[Path, ...]) -> None:
    folder = unpacked(tmp_path, wheels)
    with (folder / "wheels" / wheels[0].name).open("ab") as wheel:
        wheel.write(b"x")
    done = install(folder, tmp_path / "target")
    assert done.returncode == 1
    assert done.stderr == f"install: wheels/{wheels[0].name} is damaged or missing; unpack the bundle anew\n"
    assert not (tmp_path / "target").exists()


def test_a_wheel_that_is_not_listed_is_not_installed(tmp_path: Path, wheels: tuple[Path, ...]) -> None:
    folder = unpacked(tmp_path, wheels)
    made_wheel(folder / "wheels", "stranger")
    done = install(folder, tmp_path / "target")
    assert "stranger-1.0-py3-none-any.whl is not in SHA256SUMS" in done.stderr
    assert not (tmp_path / "target").exists()


def test_another_python_is_told_which_one_it_takes(tmp_path: Path, wheels: tuple[Path, ...]) -> None:
    other = "3.14" if RUNNING != "3.14" else "3.13"
    done = install(unpacked(tmp_path, wheels, other), tmp_path / "target")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"install: this bundle is for Python {other}, and this is {RUNNING}; use that, or another bundle\n"
    )


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, wheels: tuple[Path, ...]) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    done = install(unpacked(tmp_path, wheels), tmp_path / "letters")
    assert "holds other files; name a new folder" in done.stderr
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["letter.txt"]


def test_the_shell_script_says_so_where_the_python_is_missing(tmp_path: Path, wheels: tuple[Path, ...]) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dirname").symlink_to("/usr/bin/dirname")
    folder = unpacked(tmp_path, wheels)
    line = ["/bin/sh", str(folder / "install.sh")]
    done = subprocess.run(line, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"Python {RUNNING} is not found here" in done.stderr
