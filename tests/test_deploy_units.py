"""The units in deploy/, as systemd's own checker sees them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "deploy" / "weighin-aggregator.service"
MOST_EXPOSURE = 1.5


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze, which checks units, is not installed")
    return program


def test_systemd_finds_nothing_wrong_with_the_server(analyze: str, tmp_path: Path) -> None:
    program = tmp_path / "weighin-aggregator"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/weighin/bin/weighin-aggregator", str(program)))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_the_server_is_exposed_to_little(analyze: str) -> None:
    """From 0 to 10; most of what is left is that it uses the network."""
    line = [analyze, "security", "--offline=true", "--no-pager", str(UNIT)]
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSURE
