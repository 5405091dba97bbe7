import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from weighin_agent.errors import StateError
from weighin_agent.fleet.state import Enrolment, State, state_folder

ENROLMENT = Enrolment(aggregator_address="127.0.0.1:8443", consent_version=1, insecure=True)
HOLD_THE_LOCK = """
import sys
from pathlib import Path
from weighin_agent.fleet.state import State
with State(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def device_id(state: State) -> str:
    identity = state.identity()
    assert identity is not None
    return identity.device_id


def test_the_folder_is_the_one_that_is_named_then_that_of_the_environment_then_that_of_the_system(
    tmp_path: Path,
) -> None:
    environment = {"WEIGHIN_STATE_DIR": str(tmp_path / "environment")}
    assert state_folder(tmp_path / "named", environment) == tmp_path / "named"
    assert state_folder(None, environment) == tmp_path / "environment"
    assert state_folder(None, {}).name == "weighin"


def test_a_device_has_no_identity_before_its_first_start_and_reading_makes_nothing(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    assert (state.identity(), state.enrolment(), state.last_delivery(), state.damaged()) == (None, None, None, ())
    assert not state.folder.exists()


def test_the_first_start_makes_a_random_identity_that_every_later_start_and_enrolment_keeps(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with state.locked():
        first = device_id(state)
        state.save_enrolment(ENROLMENT)
    again = State(tmp_path / "state")
    with again.locked():
        assert device_id(again) == first
        assert again.enrolment() == ENROLMENT
    assert uuid.UUID(first).version == 4
    other = State(tmp_path / "other")
    with other.locked():
        assert device_id(other) != first


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no POSIX modes")
def test_only_the_owner_can_look_into_the_folder_and_its_files(tmp_path: Path) -> None:
    state = State(tmp_path / "deep" / "state")
    with state.locked():
        state.save_enrolment(ENROLMENT)
    assert state.folder.stat().st_mode & 0o777 == 0o700
    for path in state.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_a_sequence_is_never_given_twice_and_lies_above_those_in_the_spool(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.locked():
        assert [state.take_sequence(after=0), state.take_sequence(after=0)] == [1, 2]
    with State(tmp_path).locked():
        assert [state.take_sequence(after=after) for after in (2, 40, 3)] == [3, 41, 42]


@pytest.mark.parametrize("damage", [b"", b"\0" * 80, b"weighin-sealed 1 ", b'{"device_id": "x"}'])
def test_a_damaged_identity_is_set_aside_and_the_device_begins_anew_as_another(tmp_path: Path, damage: bytes) -> None:
    """The sequences of the old identity are lost with it: going on under it would look like a clone."""
    state = State(tmp_path)
    with state.locked():
        first = device_id(state)
    (tmp_path / "identity").write_bytes(damage)
    assert state.identity() is None
    with state.locked():
        assert device_id(state) != first
        assert state.damaged() == ("identity.damaged",)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b'{"aggregator_address": 7}'])
def test_a_damaged_enrolment_is_set_aside_and_the_device_counts_as_not_enrolled(tmp_path: Path, damage: bytes) -> None:
    state = State(tmp_path)
    with state.locked():
        state.save_enrolment(ENROLMENT)
    (tmp_path / "enrolment.json").write_bytes(damage)
    with state.locked():
        assert state.enrolment() is None
        assert state.damaged() == ("enrolment.json.damaged",)
        state.save_enrolment(ENROLMENT)
        assert state.enrolment() == ENROLMENT


def test_a_second_agent_says_in_one_line_that_the_folder_is_taken(tmp_path: Path) -> None:
    with State(tmp_path).locked(), pytest.raises(StateError) as refused, State(tmp_path).locked():
        pass
    assert str(tmp_path) in str(refused.value)
    assert "another weighin-agent" in str(refused.value)
    assert "\n" not in str(refused.value)
    with State(tmp_path).locked():
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_an_agent_that_is_killed_leaves_no_lock_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"locked"
        with pytest.raises(StateError), State(tmp_path).locked():
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(timeout=10)
        with State(tmp_path).locked():
            pass


def test_a_folder_that_cannot_be_used_gives_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match="file/state cannot be used"), State(tmp_path / "file" / "state").locked():
        pass
