"""The spool against chance: damaged files, and a model of what it should hold after any sequence of steps."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from spooled import HandClock, add_runs, open_spool

from weighin_agent.errors import DamagedRunError
from weighin_agent.fleet.entry import Caps, Entry
from weighin_agent.fleet.run_id import uuid7

Damage = tuple[int, str, int]
damages = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["flip", "cut", "empty", "zero", "extend"]), st.integers(0, 10_000)),
    max_size=6,
)


def damage(data: bytes, kind: str, place: int) -> bytes:
    """Always another content than before."""
    place %= max(len(data), 1)
    match kind:
        case "flip":
            return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :] if data else b"?"
        case "cut":
            return data[:place]
        case "zero":
            return bytes(len(data)) if any(data) else b"?"
        case "extend":
            return data + b"\0" * (place + 1)
    return b""


@settings(max_examples=100, deadline=None)
@given(damages)
def test_damage_never_raises_and_costs_only_the_runs_it_hit(list_of_damages: list[Damage]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entries = add_runs(open_spool(folder), 6)
        written = {entry: (folder / entry.file_name).read_bytes() for entry in entries}
        for index, kind, place in list_of_damages:
            path = folder / entries[index].file_name
            path.write_bytes(damage(path.read_bytes(), kind, place))
        whole = {entry.run_id for entry in entries if (folder / entry.file_name).read_bytes() == written[entry]}
        spool = open_spool(folder)
        for entry in spool.pending():
            try:
                assert spool.read(entry).run == b"run" + str(entry.sequence).encode()
            except DamagedRunError as error:
                spool.quarantine(entry, "DAMAGED", str(error))
        again = open_spool(folder)
        assert {entry.run_id for entry in again.pending()} == whole
        assert again.quarantined_count == len(entries) - len(whole)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_at_all_in_the_ledger_leave_the_runs_deliverable(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        add_runs(open_spool(folder), 2)
        (folder / "ledger").write_bytes(content)
        spool = open_spool(folder)
        assert [spool.read(entry).run for entry in spool.pending()] == [b"run1", b"run2"]
        spool.note_attempts(entry.run_id for entry in spool.pending())
        assert [spool.read(entry).attempt_count for entry in open_spool(folder).pending()] == [1, 1]


class SpoolMachine(RuleBasedStateMachine):
    """Beside the spool a plain list of what it must hold, and the counts it must tell."""

    entries = Bundle("entries")
    CAPS = Caps(run_count=5)

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = HandClock()
        self.spool = open_spool(self.folder, caps=self.CAPS, clock=self.clock)
        self.waiting: list[Entry] = []
        self.contents: dict[str, bytes] = {}
        self.attempts: dict[str, int] = {}
        self.sequence = 0
        self.dropped = 0
        self.aside = 0

    @rule(target=entries, run=st.binary(max_size=40), gap=st.integers(1, 3))
    def add(self, run: bytes, gap: int) -> Entry:
        self.sequence += gap
        entry = self.spool.add(run, run_id=uuid7(self.clock.now), sequence=self.sequence)
        self.contents[entry.run_id] = run
        self.waiting.append(entry)
        while len(self.waiting) > self.CAPS.run_count:
            self.waiting.pop(0)
            self.dropped += 1
        return entry

    @rule(entry=consumes(entries))
    def acknowledge(self, entry: Entry) -> None:
        self.spool.acknowledge(entry)
        if entry in self.waiting:
            self.waiting.remove(entry)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def quarantine(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.waiting))
        self.spool.quarantine(entry, "FIELD_INVALID", "detail")
        self.waiting.remove(entry)
        self.aside += 1

    @precondition(lambda self: self.waiting)
    @rule()
    def send(self) -> None:
        self.spool.note_attempts(entry.run_id for entry in self.waiting)
        for entry in self.waiting:
            self.attempts[entry.run_id] = self.attempts.get(entry.run_id, 0) + 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), kind=st.sampled_from(["flip", "cut", "empty", "zero", "extend"]), place=st.integers(0, 400))
    def damage_and_set_aside(self, data: st.DataObject, kind: str, place: int) -> None:
        entry = data.draw(st.sampled_from(self.waiting))
        path = self.folder / entry.file_name
        path.write_bytes(damage(path.read_bytes(), kind, place))
        try:
            self.spool.read(entry)
        except DamagedRunError as error:
            self.quarantine_damaged(entry, str(error))
        else:
            raise AssertionError("damage went unseen")

    def quarantine_damaged(self, entry: Entry, detail: str) -> None:
        self.spool.quarantine(entry, "DAMAGED", detail)
        self.waiting.remove(entry)
        self.aside += 1

    @rule(torn=st.booleans())
    def restart(self, torn: bool) -> None:
        if torn:
            (self.folder / "000000000999-torn.run.tmp").write_bytes(b"half a run")
        self.spool = open_spool(self.folder, caps=self.CAPS, clock=self.clock)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert [entry.run_id for entry in self.spool.pending()] == [entry.run_id for entry in self.waiting]
        for entry in self.waiting:
            envelope = self.spool.read(entry)
            assert envelope.run == self.contents[entry.run_id]
            assert envelope.attempt_count == self.attempts.get(entry.run_id, 0)
        assert self.spool.dropped_count == self.dropped
        assert self.spool.quarantined_count == self.aside

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestSpoolAgainstItsModel = SpoolMachine.TestCase
TestSpoolAgainstItsModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
