"""Install weighin-agent from this folder into an environment of its own; no index and no network is used.

    python@PYTHON@ install.py [FOLDER]

Nothing outside FOLDER is changed. Run again, it replaces what it installed there before.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

PYTHON = "@PYTHON@"
HERE = Path(__file__).resolve().parent
WHEELS = HERE / "wheels"


def main() -> None:
    """Check, make the environment, install, and say what comes next."""
    parser = argparse.ArgumentParser(description="Install weighin-agent from this folder; no network is used.")
    parser.add_argument("folder", nargs="?", type=Path, default=default_folder(), metavar="FOLDER", help="where to")
    folder: Path = parser.parse_args().folder.expanduser().absolute()
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running != PYTHON:
        sys.exit(f"install: this bundle is for Python {PYTHON}, and this is {running}; use that, or another bundle")
    complaint = damage() or occupied(folder)
    if complaint:
        sys.exit(f"install: {complaint}")
    venv.create(folder, clear=True, symlinks=os.name != "nt")
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    # pip comes with the bundle: some systems leave it out of Python.
    pip = next(WHEELS.glob("pip-*.whl")) / "pip"
    line = [
        str(binaries / "python"),
        "-I",
        str(pip),
        "install",
        "--isolated",
        "--no-index",
        "--find-links",
        str(WHEELS),
    ]
    done = subprocess.run([*line, "--quiet", "--disable-pip-version-check", "weighin-agent"], check=False)
    if done.returncode:
        sys.exit("install: not installed, see above; is this bundle for this system and processor?")
    agent = binaries / "weighin-agent"
    print(f"installed in {folder}. What comes next:")
    command = f'"{agent}"' if " " in str(agent) else agent
    for words in ("enroll --token-file FILE", "run", "schedule install"):
        print(f"  {command} {words}")


def default_folder() -> Path:
    """Return where programs of one user lie."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "Programs" / "weighin-agent"
    return Path.home() / ".local" / "share" / "weighin-agent"


def damage() -> str | None:
    """Return what of the bundle is not as SHA256SUMS says; None if all of it is."""
    listing = HERE / "SHA256SUMS"
    if not listing.is_file() or not WHEELS.is_dir():
        return "SHA256SUMS or wheels/ is missing; unpack the bundle anew"
    lines = listing.read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for path in sorted(WHEELS.iterdir()):
        name = path.relative_to(HERE).as_posix()
        if name not in sums:
            return f"{name} is not in SHA256SUMS; unpack the bundle anew"
    for name, digest in sums.items():
        file = HERE / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            return f"{name} is damaged or missing; unpack the bundle anew"
    return None


def occupied(folder: Path) -> str | None:
    """Return why nothing may be installed in ``folder``; None if it is free, or holds what was installed before."""
    if not folder.exists() or (folder / "pyvenv.cfg").is_file():
        return None
    if not folder.is_dir():
        return f"{folder} is no folder; name another one"
    return f"{folder} holds other files; name a new folder" if any(folder.iterdir()) else None


if __name__ == "__main__":
    main()
