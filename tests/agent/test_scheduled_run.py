"""A scheduled start weighs in where one is due and nobody is disturbed, else says why not and sends what waits."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from agent_process import spooled_runs
from captured_system import system_at
from example_runs import example_run
from hypothesis import given
from hypothesis import strategies as st

from weighin_agent.fleet import actions as fleet
from weighin_agent.fleet.state import State
from weighin_agent.probe.presence import parse_hid_idle_seconds, parse_idle_hint, person_present
from weighin_agent.schedule.moment import Moment, read_moment, reason_to_wait

HOUR = 3600.0
DAY = 24 * HOUR
GOOD = Moment(
    newest_run_age_seconds=25 * HOUR,
    on_mains=True,
    person_present=False,
    foreign_cpu_share=0.05,
)
TESTS = Path(__file__).parents[1]


def test_a_quiet_device_on_mains_power_weighs_in_when_one_is_due() -> None:
    assert reason_to_wait(GOOD, DAY) is None
    assert reason_to_wait(replace(GOOD, newest_run_age_seconds=None), DAY) is None


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (replace(GOOD, newest_run_age_seconds=6 * HOUR), "the newest is 6.0 h old, and one is due every 24 h"),
        (replace(GOOD, on_mains=False), "on battery power"),
        (replace(GOOD, on_mains=None), "the system does not tell whether it is on mains power"),
        (replace(GOOD, foreign_cpu_share=0.5), "other programs use 50% of the processor"),
        (replace(GOOD, person_present=True), "somebody is using this machine"),
    ],
)
def test_each_disturbance_puts_it_off_with_its_reason(moment: Moment, reason: str) -> None:
    assert reason_to_wait(moment, DAY) == reason


def test_somebody_who_is_always_there_puts_it_off_for_one_period_only() -> None:
    somebody = replace(GOOD, person_present=True)
    assert reason_to_wait(replace(somebody, newest_run_age_seconds=47 * HOUR), DAY)
    assert reason_to_wait(replace(somebody, newest_run_age_seconds=48 * HOUR), DAY) is None


def test_a_battery_puts_it_off_however_long_it_is_overdue() -> None:
    assert reason_to_wait(replace(GOOD, on_mains=False, newest_run_age_seconds=365 * DAY), DAY) == "on battery power"


def test_what_a_system_does_not_tell_of_load_and_people_is_no_reason() -> None:
    assert reason_to_wait(replace(GOOD, person_present=None, foreign_cpu_share=None), DAY) is None


def kept_run(state: State) -> None:
    with fleet.working(state) as spool:
        fleet.keep_run(state, spool, example_run().SerializeToString())


def test_the_age_is_that_of_the_newest_run_sent_or_not(tmp_path: Path) -> None:
    state = State(tmp_path)
    kept_run(state)
    moment = read_moment(state, sleep=lambda _: None, now_seconds=lambda: time.time() + DAY)
    assert moment.newest_run_age_seconds == pytest.approx(DAY, abs=60)


def test_a_run_from_the_future_and_a_damaged_one_do_not_put_it_off(tmp_path: Path) -> None:
    """The clock was put back; waiting for it could take years."""
    state = State(tmp_path)
    kept_run(state)
    assert read_moment(state, sleep=lambda _: None, now_seconds=lambda: 0.0).newest_run_age_seconds is None
    (tmp_path / "newest_run").write_bytes(b"damaged")
    assert read_moment(state, sleep=lambda _: None).newest_run_age_seconds is None


@pytest.mark.parametrize(("hint", "present"), [("IdleHint=no\n", True), ("IdleHint=yes\n", False), ("", None)])
def test_logind_tells_whether_somebody_is_there(tmp_path: Path, hint: str, present: bool | None) -> None:
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "loginctl").write_text(hint)
    assert person_present(system_at(tmp_path)) is present


@pytest.mark.parametrize(("nanoseconds", "present"), [(4_000_000_000, True), (900_000_000_000, False)])
def test_a_mac_tells_when_it_was_last_touched(tmp_path: Path, nanoseconds: int, present: bool) -> None:
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "ioreg").write_text(f'    | |   "HIDIdleTime" = {nanoseconds}\n')
    assert person_present(system_at(tmp_path, name="Darwin")) is present


@pytest.mark.parametrize("name", ["Linux", "Darwin", "Windows", "FreeBSD"])
def test_a_system_that_does_not_tell_is_not_known(tmp_path: Path, name: str) -> None:
    assert person_present(system_at(tmp_path, name=name)) is None


@given(st.text())
def test_no_text_of_the_system_breaks_the_readers(text: str) -> None:
    assert parse_idle_hint(text) in (None, True, False)
    assert (parse_hid_idle_seconds(text) or 0.0) >= 0.0


def supplies(root: Path, **status: str) -> Path:
    """A laptop's supplies, as Linux lays them out."""
    for name, files in {"BAT0": {"type": "Battery", **status}, "AC": {"type": "Mains", "online": "1"}}.items():
        folder = root / "sys/class/power_supply" / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_text(content + "\n")
    return root


def scheduled(root: Path, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A scheduled start of the tiny suite, on the power that ``root`` tells."""
    code = (
        "import sys, pathlib, scheduled_agent, tiny_agent; "
        "scheduled_agent.stand_on(pathlib.Path(sys.argv[1])); tiny_agent.main('brief', *sys.argv[2:])"
    )
    line = [sys.executable, "-c", code, str(root), "run", "--scheduled", "1h", "--state", str(state), *arguments]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_on_battery_a_scheduled_start_says_so_in_one_line_and_succeeds(tmp_path: Path) -> None:
    done = scheduled(supplies(tmp_path / "machine", status="Discharging"), tmp_path / "state")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr == "no weigh-in now: on battery power; nothing waits to be sent\n"
    assert spooled_runs(tmp_path / "state") == []


def test_a_start_that_does_not_weigh_in_still_offers_what_waits(tmp_path: Path) -> None:
    kept_run(State(tmp_path / "state"))
    done = scheduled(supplies(tmp_path / "machine", status="Charging"), tmp_path / "state", "--json")
    assert json.loads(done.stdout)["skipped"].startswith("the newest is 0.0 h old")
    assert "1 run(s) kept in the spool: this device is not enrolled" in done.stderr
    kept = scheduled(supplies(tmp_path / "laptop", status="Charging"), tmp_path / "state", "--no-submit")
    assert "kept in the spool" not in kept.stderr


@pytest.mark.slow
def test_on_mains_power_it_weighs_in(tmp_path: Path) -> None:
    done = scheduled(supplies(tmp_path / "machine", status="Charging"), tmp_path / "state", "--json")
    assert json.loads(done.stdout)["run_id"], done.stderr
    assert len(spooled_runs(tmp_path / "state")) == 1
