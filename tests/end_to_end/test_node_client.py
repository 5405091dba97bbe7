"""A device in another language, made of the .proto files alone: it enrols, sends, and is refused where it should be."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aggregator_process
import pytest
from agent_process import agent, spooled_runs
from aggregator_process import Server

from weighin.v1 import services_pb2
from weighin_agent.fleet.sealed import unseal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / ".venv/node-client/node_modules"
CLIENT = Path(__file__).with_name("node_client.cjs")


@pytest.fixture(scope="module", autouse=True)
def _needs_node() -> None:
    missing = [name for name in ("node", "openssl") if shutil.which(name) is None]
    if not (MODULES / "@grpc/grpc-js").is_dir():
        missing.append("grpc-js")
    if missing:
        assert os.environ.get("WEIGHIN_REQUIRE_ALL") != "1", f"missing: {missing}; make test brings grpc-js with npm"
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with aggregator_process.serving(folder / "data", folder / "log", mode=()) as server:
        yield server


@pytest.fixture(scope="module")
def run(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file with the bytes of a run that the agent has really measured, and its run_id."""
    folder = tmp_path_factory.mktemp("measured")
    state = folder / "state"
    enrolled = agent("enroll", token(server), "--accept-consent", "1", "--state", state)
    assert enrolled.returncode == 0, enrolled.stderr
    done = agent("run", "--no-submit", "--state", state, suite="brief")
    assert done.returncode == 0, done.stderr
    (spooled,) = spooled_runs(state)
    envelope = services_pb2.RunEnvelope.FromString(unseal(spooled.read_bytes()))
    (folder / "bytes").write_bytes(envelope.run)
    return folder / "bytes", envelope.run_id


def node(*arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        ["node", str(CLIENT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "NODE_PATH": str(MODULES)},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def token(server: Server) -> str:
    data = server.log.parent / "data"
    made = aggregator_process.command("token", "create", "--data", data, "--group", "node")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def enroll(server: Server, folder: Path) -> str:
    folder.mkdir()
    used = token(server)
    answer = node("enroll", ROOT / "proto", used, folder)
    assert answer["run_address"] == server.address
    return used


def submit(folder: Path, run: tuple[Path, str]) -> dict[str, Any]:
    return node("submit", ROOT / "proto", folder, *run, "1")


def test_it_enrols_and_stores_a_run_once_however_often_it_sends_it(
    server: Server, run: tuple[Path, str], tmp_path: Path
) -> None:
    enroll(server, tmp_path / "device")
    assert submit(tmp_path / "device", run) == {"outcome": "OUTCOME_STORED", "reason": ""}
    assert submit(tmp_path / "device", run) == {"outcome": "OUTCOME_DUPLICATE", "reason": ""}

    enroll(server, tmp_path / "other")
    assert submit(tmp_path / "other", run) == {"outcome": "OUTCOME_REJECTED", "reason": "RUN_ID_REUSED"}


def test_a_used_token_and_a_call_without_a_certificate_are_refused(server: Server, tmp_path: Path) -> None:
    used = enroll(server, tmp_path / "device")
    late = tmp_path / "late"
    late.mkdir()
    answer = node("enroll", ROOT / "proto", used, late)
    assert answer == {"code": "UNAUTHENTICATED", "reason": "ENROLLMENT_TOKEN_INVALID"}
    answer = node("submit-without-certificate", ROOT / "proto", tmp_path / "device")
    assert answer == {"code": "UNAVAILABLE", "reason": ""}
