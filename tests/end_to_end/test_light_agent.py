"""The agent alone, installed from this checkout into a fresh environment."""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the agent and what it requires, nothing else."""
    folder = tmp_path_factory.mktemp("light") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    members = [str(ROOT / member) for member in ("proto", "analysis", "agent")]
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
        *members,
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" in done.stderr and os.environ.get("WEIGHIN_REQUIRE_ALL") != "1":
        pytest.skip("no package index can be reached to install into a fresh environment")
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_it_brings_no_store_no_charts_and_no_aggregator(environment: Path) -> None:
    for module in ("duckdb", "pyarrow", "altair", "jinja2", "weighin_aggregator"):
        done = subprocess.run([environment / "python", "-c", f"import {module}"], capture_output=True, check=False)
        assert done.returncode == 1, module
        assert b"ModuleNotFoundError" in done.stderr


def test_it_probes_and_prints_its_card_commands(environment: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [environment / "weighin-agent", "probe", "--json", "--state", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["device"]["operating_system"]["family"]


def test_it_judges_with_the_light_core_and_says_what_the_report_needs(environment: Path) -> None:
    subprocess.run([environment / "python", "-c", "import weighin_analysis.judge"], check=True)
    done = subprocess.run(
        [environment / "weighin-analysis", "report", "--snapshot", "x", "--out", "y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == done.stderr.strip().splitlines()[0]
    assert "weighin-analysis[report]" in done.stderr
