"""Make what a device without internet needs: an archive with every wheel, and a script that installs from it alone.

    python tools/bundle.py [--platform linux-x64]... [--python-version 3.12] [--out dist]

The versions are those of constraints.txt. The wheels come from the package index that pip is set up for; which are
needed is found out here, by the environment markers of the device and not of this machine, so that any platform can be
bundled on any other. The same wheels give the same archive, byte for byte.
"""

import argparse
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
FILES = Path(__file__).resolve().parent / "bundle_files"
MEMBERS = ("proto", "analysis", "agent")
AGENT = "weighin-agent"
# 2020-02-02: no archive format likes an earlier one than 1980.
FILE_TIME = (2020, 2, 2, 0, 0, 0)
FILE_TIME_SECONDS = 1580601600


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A kind of device: the tags of the wheels that run on it, and what environment markers say there."""

    tags: tuple[str, ...]
    system: str
    machine: str
    sys_platform: str
    script: str


def _linux(machine: str) -> Platform:
    # glibc 2.28: Debian 10, Ubuntu 20.04, RHEL 8. onnxruntime has no wheels for older ones, and none for musl.
    tags = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux2010")
    return Platform(
        tags=tuple(f"{tag}_{machine}" for tag in tags),
        system="Linux",
        machine=machine,
        sys_platform="linux",
        script="install.sh",
    )


PLATFORMS = {
    "linux-x64": _linux("x86_64"),
    "linux-arm64": _linux("aarch64"),
    "windows-x64": Platform(
        tags=("win_amd64",), system="Windows", machine="AMD64", sys_platform="win32", script="install.ps1"
    ),
    "macos-arm64": Platform(
        tags=("macosx_14_0_arm64",), system="Darwin", machine="arm64", sys_platform="darwin", script="install.sh"
    ),
}
PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.14")


class MissingWheelsError(Exception):
    """Some wheels of a platform cannot be had; the text names them."""


def main() -> int:
    """Build the bundles that are asked for, and say what each weighs."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description="Make archives that install weighin-agent without a network.")
    parser.add_argument("--platform", action="append", choices=PLATFORMS, help="one of them (default: all)")
    parser.add_argument("--python-version", choices=PYTHON_VERSIONS, default=running, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        own = build_members(Path(scratch) / "members")
        for name in options.platform or PLATFORMS:
            try:
                wheels = collect(name, options.python_version, own, Path(scratch) / name)
            except MissingWheelsError as error:
                print(f"bundle: {error}", file=sys.stderr)
                failed = 1
                continue
            archive = write_archive(options.out, name, options.python_version, wheels)
            data = archive.read_bytes()
            print(f"{archive}  {len(data) / 2**20:.1f} MiB  {len(wheels)} wheels  {hashlib.sha256(data).hexdigest()}")
    return failed


def build_members(folder: Path) -> tuple[Path, ...]:
    """Build the wheels of our own members; their backend writes the same bytes each time."""
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), *(str(ROOT / member) for member in MEMBERS))
    return tuple(sorted(folder.glob("*.whl")))


def collect(platform_name: str, python_version: str, own: Iterable[Path], folder: Path) -> tuple[Path, ...]:
    """Return our wheels, pip's, and all that they require on that platform. MissingWheelsError."""
    environment = environment_of(PLATFORMS[platform_name], python_version)
    pins = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"), environment)
    wheels = {name_of(wheel): wheel for wheel in own}
    wanted = {"pip": version("pip")}
    while wanted:
        found = download(wanted, platform_name, python_version, folder)
        wheels |= {name_of(wheel): wheel for wheel in found}
        needed = {name for wheel in wheels.values() for name in required(wheel, environment)} - wheels.keys()
        if unknown := needed - pins.keys():
            raise MissingWheelsError(f"constraints.txt states no version for {platform_name} of {', '.join(unknown)}")
        wanted = {name: pins[name] for name in sorted(needed)}
    return tuple(sorted(wheels.values(), key=lambda wheel: wheel.name))


def environment_of(platform: Platform, python_version: str) -> dict[str, str]:
    """Return what the environment markers of requirements say on a device with CPython."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python_version}.0",
        "os_name": "nt" if platform.system == "Windows" else "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": platform.system,
        "platform_version": "",
        "python_full_version": f"{python_version}.0",
        "python_version": python_version,
        "sys_platform": platform.sys_platform,
        "extra": "",
    }


def pinned(constraints: str, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the version of every package that constraints.txt states for an environment."""
    lines = [Requirement(line) for line in constraints.splitlines() if line]
    return {
        canonicalize_name(line.name): next(iter(line.specifier)).version
        for line in lines
        if line.marker is None or line.marker.evaluate(environment)
    }


def required(wheel: Path, environment: Mapping[str, str]) -> frozenset[str]:
    """Return the names of what a wheel requires in an environment, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(path).decode("utf-8"))
    lines = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    return frozenset(
        canonicalize_name(line.name) for line in lines if line.marker is None or line.marker.evaluate(environment)
    )


def download(versions: Mapping[str, str], platform_name: str, python_version: str, folder: Path) -> tuple[Path, ...]:
    """Fetch one wheel per package. MissingWheelsError names every one that the index does not have."""
    line = ["download", "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={python_version}"]
    line += [f"--platform={tag}" for tag in PLATFORMS[platform_name].tags]
    requirements = [f"{name}=={exact}" for name, exact in versions.items()]
    try:
        pip(*line, "--dest", str(folder), *requirements)
    except subprocess.CalledProcessError as error:
        missing = [each for each in requirements if not succeeds(*line, "--dest", str(folder), each)]
        if not missing:
            raise
        what = f"the index has no wheel for {platform_name} and Python {python_version} of {', '.join(missing)}"
        raise MissingWheelsError(what) from error
    return tuple(sorted(folder.glob("*.whl")))


def succeeds(*arguments: str) -> bool:
    """Whether a pip command does what it is asked."""
    try:
        pip(*arguments)
    except subprocess.CalledProcessError:
        return False
    return True


def pip(*arguments: str) -> None:
    """Run pip; what it says of indexes is nobody's business unless it fails. CalledProcessError."""
    line = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(line, check=True, capture_output=True, text=True)


def name_of(wheel: Path) -> str:
    """Return the normalised name of a wheel's package."""
    return parse_wheel_filename(wheel.name)[0]


def write_archive(out: Path, platform_name: str, python_version: str, wheels: Iterable[Path]) -> Path:
    """Write the archive and return its path: a zip for Windows, else a compressed tar."""
    release = version(AGENT)
    name = f"{AGENT}-{release}-{platform_name}-py{python_version.replace('.', '')}"
    members = contents(wheels, platform_name, {"VERSION": release, "PLATFORM": platform_name, "PYTHON": python_version})
    out.mkdir(parents=True, exist_ok=True)
    path = out / (name + (".zip" if platform_name.startswith("windows") else ".tar.gz"))
    path.write_bytes(
        (zipped if path.suffix == ".zip" else tarred)({f"{name}/{at}": data for at, data in members.items()})
    )
    return path


def contents(wheels: Iterable[Path], platform_name: str, words: Mapping[str, str]) -> dict[str, bytes]:
    """Return every file of a bundle by its path, in the order of the archive."""
    files = {"LICENSE": (ROOT / "LICENSE").read_bytes()}
    for name in ("README.txt", "install.py", PLATFORMS[platform_name].script):
        text = (FILES / name).read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        files[name] = text.encode()
    files |= {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in wheels}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return dict(sorted((files | {"SHA256SUMS": sums.encode()}).items()))


def tarred(files: Mapping[str, bytes]) -> bytes:
    """Return a compressed tar that knows no owner and no time. Wheels are compressed already: level 1."""
    whole = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=whole, mode="wb", compresslevel=1, mtime=FILE_TIME_SECONDS, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), FILE_TIME_SECONDS
            archive.addfile(member, io.BytesIO(data))
    return whole.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip that knows no time, its wheels as they are."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, FILE_TIME), data)
    return whole.getvalue()


if __name__ == "__main__":
    sys.exit(main())
