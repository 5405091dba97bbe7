"""Whether this is a moment for a scheduled weigh-in: due, on mains power, and idle."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from weighin_agent.cpu_load import busy_share, read_cpu_seconds
from weighin_agent.errors import DamagedRunError
from weighin_agent.fleet.actions import newest_run
from weighin_agent.fleet.run_id import create_time_seconds
from weighin_agent.fleet.state import State
from weighin_agent.probe import draws_from_mains, person_at_machine
from weighin_agent.schedule.period import HOUR_SECONDS
from weighin_agent.weigh_in import BUSY_SHARE

# Long enough that the end of somebody's page load is not taken for a busy machine.
_LOAD_INTERVAL_SECONDS = 2.0
# Somebody who is always there would put the weigh-in off for ever.
_LONGEST_COURTESY_PERIODS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a scheduled weigh-in looks at before it begins; None where the system does not tell.

    ``newest_run_age_seconds`` is None where there is no run, ``foreign_cpu_share`` counts all processes but ours.
    """

    newest_run_age_seconds: float | None
    on_mains: bool | None
    person_present: bool | None
    foreign_cpu_share: float | None


def reason_to_wait(moment: Moment, every_seconds: float) -> str | None:
    """Return why no weigh-in should begin now, in words; None if one should.

    A person at the machine puts it off for one more period at most; everything else for as long as it lasts.
    """
    return next(_obstacles(moment, every_seconds), None)


def _obstacles(moment: Moment, every_seconds: float) -> Iterator[str]:
    age, load = moment.newest_run_age_seconds, moment.foreign_cpu_share
    if age is not None and age < every_seconds:
        yield f"the newest is {age / HOUR_SECONDS:.1f} h old, and one is due every {every_seconds / HOUR_SECONDS:g} h"
    if moment.on_mains is None:
        yield "the system does not tell whether it is on mains power"
    elif not moment.on_mains:
        yield "on battery power"
    if load is not None and load > BUSY_SHARE:
        yield f"other programs use {load:.0%} of the processor"
    if moment.person_present and age is not None and age < _LONGEST_COURTESY_PERIODS * every_seconds:
        yield "somebody is using this machine"


def read_moment(
    state: State, *, sleep: Callable[[float], None] = time.sleep, now_seconds: Callable[[], float] = time.time
) -> Moment:
    """Look at this machine now; takes about two seconds."""
    before = read_cpu_seconds()
    sleep(_LOAD_INTERVAL_SECONDS)
    return Moment(
        newest_run_age_seconds=_newest_run_age_seconds(state, now_seconds()),
        on_mains=draws_from_mains(),
        person_present=person_at_machine(),
        foreign_cpu_share=busy_share(before, read_cpu_seconds()),
    )


def _newest_run_age_seconds(state: State, now_seconds: float) -> float | None:
    try:
        newest = newest_run(state)
    except DamagedRunError:
        return None
    age = None if newest is None else now_seconds - create_time_seconds(newest.run_id)
    # A run from the future: the clock was put back, and waiting for it could take years.
    return None if age is None or age < 0 else age
