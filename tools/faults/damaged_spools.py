"""Spools with bits flipped, files cut and files zeroed, as a dying medium leaves them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from faults import server
from faults.devices import device
from faults.oracle import Books, Ledger, audit
from weighin_agent.errors import AgentError
from weighin_agent.fleet.actions import status
from weighin_agent.fleet.entry import parse_file_name
from weighin_agent.fleet.state import State

_MOST_RUNS = 6
_MOST_DAMAGED_FILES = 3
# What an agent itself has written, and none of it needs to survive for it to start.
_STATE_FILES = ("identity", "enrolment.json", "newest_run", "last_delivery.json", "spool/ledger")


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedSpools:
    """``damaged_runs`` lay in files that were damaged; each must be counted and none may be sent.

    ``miscounted_spools`` told another number of losses, or set another run aside, than was damaged.
    """

    spools: int
    damage: dict[str, int]
    damaged_runs: int
    damaged_state_files: int
    quarantined_runs: int
    miscounted_spools: int
    failed_starts: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [*self.books.missed(), *self.failed_starts]
        if self.miscounted_spools:
            missed.append(f"{self.miscounted_spools} spools told wrong of their losses")
        if self.quarantined_runs != self.damaged_runs:
            missed.append(f"{self.quarantined_runs} runs set aside for {self.damaged_runs} that were damaged")
        missed += [f"no file was {kind}" for kind, count in self.damage.items() if not count]
        return tuple(missed)


def inject(folder: Path, size: int, chance: random.Random) -> DamagedSpools:
    """Damage ``size`` state folders, start an agent in each and let it deliver what is left."""
    data = folder / "data"
    damage = dict.fromkeys(_DAMAGES, 0)
    with server.serving(data, server.free_port()) as process:
        spools = [_one(folder / f"device {number}", process.address, chance, damage) for number in range(size)]
    return DamagedSpools(
        spools=size,
        damage=damage,
        damaged_runs=sum(len(one.lost) for one in spools),
        damaged_state_files=sum(one.damaged_state_files for one in spools),
        quarantined_runs=sum(len(one.aside) for one in spools),
        miscounted_spools=sum(one.is_miscounted for one in spools),
        failed_starts=tuple(one.failed for one in spools if one.failed),
        books=audit(data, [one.ledger for one in spools]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spool:
    """What became of one state folder: ids of runs that were damaged and that were set aside, and losses as told."""

    ledger: Ledger
    lost: frozenset[str]
    damaged_state_files: int
    aside: frozenset[str] = frozenset()
    is_miscounted: bool = False
    failed: str | None = None


def _one(folder: Path, address: str, chance: random.Random, damage: dict[str, int]) -> _Spool:
    with device(folder) as before:
        before.enroll(address)
        before.keep(1)
        before.deliver()
        before.keep(chance.randint(1, _MOST_RUNS))
        waiting = {entry.run_id: folder / "spool" / entry.file_name for entry in before.spool.pending()}
    ledger, state_files = before.ledger, [folder / name for name in _STATE_FILES]
    files = [path for path in (*waiting.values(), *state_files) if path.is_file()]
    damaged = chance.sample(files, min(len(files), chance.randint(1, _MOST_DAMAGED_FILES)))
    for path in damaged:
        damage[_damage(path, chance)] += 1
    lost = {run_id for run_id, path in waiting.items() if path in damaged}
    for run_id in lost:
        del ledger.kept[run_id]
    begun = _Spool(ledger=ledger, lost=frozenset(lost), damaged_state_files=len(damaged) - len(lost))
    try:
        status(State(folder))
        with device(folder) as after:
            after.ledger = ledger
            # A damaged enrolment is none: a person enrols again.
            after.enroll(address)
            after.drain()
            told = after.spool.quarantined_count
            aside = {name[1] for one in after.spool.quarantined() if (name := parse_file_name(one.file_name))}
    except (AgentError, OSError, ValueError) as error:
        return replace(begun, failed=f"{type(error).__name__}: {error}")
    # A damaged ledger is set aside as a file of its own and counted as one.
    expected = len(lost) + (folder / "spool" / "ledger" in damaged)
    return replace(begun, aside=frozenset(aside), is_miscounted=aside != lost or told != expected)


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _zero(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    end = chance.randint(start + 1, len(data))
    data[start:end] = bytes(end - start)


_DAMAGES: dict[str, Callable[[bytearray, random.Random], None]] = {"flipped": _flip, "cut": _cut, "zeroed": _zero}


def _damage(path: Path, chance: random.Random) -> str:
    """Damage a file so that its bytes differ; the kind of damage."""
    whole = path.read_bytes()
    data = bytearray(whole)
    while data == whole:
        kind = chance.choice(list(_DAMAGES))
        _DAMAGES[kind](data, chance)
    path.write_bytes(data)
    return kind
