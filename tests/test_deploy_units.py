"""The units in deploy/, as systemd's own checker sees them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
MOST_EXPOSURE = {"weighin-aggregator.service": 1.5, "weighin-backup.service": 1.5}


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze, which checks units, is not installed")
    return program


@pytest.mark.parametrize("name", sorted(path.name for path in DEPLOY.iterdir()))
def test_systemd_finds_nothing_wrong(analyze: str, tmp_path: Path, name: str) -> None:
    program = tmp_path / "weighin-aggregator"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in DEPLOY.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/weighin/bin/weighin-aggregator", str(program)))
    line = [analyze, "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "weighin" in line]) == (0, [])


@pytest.mark.parametrize("name", MOST_EXPOSURE)
def test_a_service_is_exposed_to_little(analyze: str, name: str) -> None:
    """From 0 to 10; most of what is left is that they use the network."""
    line = [analyze, "security", "--offline=true", "--no-pager", str(DEPLOY / name)]
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSURE[name]
