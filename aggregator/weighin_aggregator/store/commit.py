"""The one thread that writes: it takes the runs that wait, commits them together, and only then lets anybody answer."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

import pyarrow as pa
import structlog

from weighin_aggregator.errors import NoRoomError, StoreError, StoreRefusedError, StoreUnavailableError
from weighin_aggregator.intake.records import Batch
from weighin_aggregator.limits import Limits
from weighin_aggregator.refusal import Reason, Refusal
from weighin_aggregator.store.store import Known, Store

# How often a store that cannot write is tried while nobody sends anything.
_RETRY_SECONDS = 5.0

_Answer = TypeVar("_Answer")

_log = structlog.get_logger()


class Decision(Enum):
    """What became of a run: the first three once its transaction had been committed."""

    STORED = auto()
    DUPLICATE = auto()
    RUN_ID_REUSED = auto()
    NOT_STORABLE = auto()


Decisions = Mapping[str, Decision]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """The runs of one call, waiting."""

    batch: Batch
    decided: Future[Decisions] = field(default_factory=Future)

    @property
    def run_ids(self) -> Iterable[str]:
        return self.batch.sha256_by_run_id

    @property
    def run_count(self) -> int:
        return len(self.batch.sha256_by_run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chore:
    """Something that needs the store between two commits."""

    call: Callable[[Store], Any]
    needs_room: bool
    done: Future[Any] = field(default_factory=Future)


class Committer:
    """Group commit in front of a store, with a bounded queue.

    ``on_writable`` is called from the committer's thread whenever the store stops or starts again to take writes;
    ``require_welcome`` raises Refusal for a device of which nothing may be stored, however long its runs waited.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits,
        on_writable: Callable[[bool], None],
        require_welcome: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._on_writable = on_writable
        self._require_welcome = require_welcome
        self._writable = True
        self._changed = threading.Condition()  # Guards the three fields below.
        self._waiting: deque[_Job | _Chore] = deque()
        self._waiting_runs = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Finish what waits and end the thread; False if that took longer than allowed."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def is_full(self) -> bool:
        """Tell whether the queue takes no more runs now."""
        return self._waiting_runs >= self._limits.queued_runs

    def submit(self, batch: Batch) -> Future[Decisions]:
        """Queue the runs of one call; the future holds a decision per run_id after their COMMIT has returned.

        It fails with StoreUnavailableError when they could not be written. Raises Refusal when the queue is full.
        """
        if self.is_full():
            raise Refusal(Reason.OVERLOADED)
        job = _Job(batch=batch)
        self._enqueue(job, job.run_count)
        return job.decided

    def between_commits(self, call: Callable[[Store], _Answer], *, needs_room: bool = False) -> Future[_Answer]:
        """Queue a call that needs the store for itself; the future ends as the call ends.

        One that writes ``needs_room`` as a commit does, and fails with NoRoomError where there is none. Raises
        StoreUnavailableError once the committer stops.
        """
        chore = _Chore(call=call, needs_room=needs_room)
        self._enqueue(chore, 0)
        return chore.done

    def _enqueue(self, item: _Job | _Chore, run_count: int) -> None:
        with self._changed:
            if self._stopping:
                raise StoreUnavailableError("the store is being closed")
            self._waiting.append(item)
            self._waiting_runs += run_count
            self._changed.notify()

    def _work(self) -> None:
        self._look_for_room()
        while True:
            taken = self._take()
            match taken:
                case None:
                    return
                case _Chore():
                    self._do(taken)
                case []:
                    self._try_again()
                case jobs:
                    self._commit(jobs)
            self._shorten_log()

    def _take(self) -> list[_Job] | _Chore | None:
        """Wait for work: a group of jobs or a chore; no job when a sick store is due for a try; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return None
                if not self._changed.wait(None if self._writable else _RETRY_SECONDS):
                    return []
            first = self._waiting[0]
            if isinstance(first, _Chore):
                self._waiting.popleft()
                return first
            return self._take_group()

    def _take_group(self) -> list[_Job]:
        """Take what waits, up to the size of a group.

        A call that repeats a run_id of the group stays for the next one, where the store itself knows the first.
        """
        group: list[_Job] = []
        run_ids: set[str] = set()
        while self._waiting:
            job = self._waiting[0]
            if isinstance(job, _Chore) or not run_ids.isdisjoint(job.run_ids):
                break
            if group and len(run_ids) + job.run_count > self._limits.group_runs:
                break
            self._waiting.popleft()
            self._waiting_runs -= job.run_count
            # False when the caller is gone: nothing was promised to it, and it will send again.
            if job.decided.set_running_or_notify_cancel():
                group.append(job)
                run_ids.update(job.run_ids)
        return group

    def _commit(self, jobs: list[_Job]) -> None:
        jobs = [job for job in jobs if self._is_welcome(job)]
        if not jobs:
            return
        try:
            self._require_room()
            known = self._store.insert(_joined(jobs))
        except StoreRefusedError as error:
            self._part(jobs, error)
        except StoreUnavailableError as error:
            # Before the answers: who is told of it and looks at the health must find it sick.
            self._report_writable(False, str(error))
            self._fail(jobs, error)
            self._mend(error)
        except Exception as error:  # noqa: BLE001 - a bug must reach those who wait and must not end the only writer
            self._fail(jobs, error)
        else:
            self._report_writable(True)
            for job in jobs:
                job.decided.set_result(_decisions(job.batch, known))

    def _is_welcome(self, job: _Job) -> bool:
        try:
            self._require_welcome(job.batch.device_id)
        except Refusal as refusal:
            job.decided.set_exception(refusal)
            return False
        return True

    def _part(self, jobs: list[_Job], error: StoreRefusedError) -> None:
        """Rows that the store will never take must not sink the calls that they were grouped with."""
        if len(jobs) == 1:
            self._fail(jobs, error)
            return
        for job in jobs:
            self._commit([job])

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        for job in jobs:
            job.decided.set_exception(error)

    def _require_room(self) -> None:
        """Stop before the disk is full: what then fails is a checkpoint, which takes the whole database down."""
        if self._store.free_disk_bytes() < self._limits.free_disk_bytes:
            raise NoRoomError("the disk is nearly full")

    def _mend(self, error: StoreError) -> None:
        """Open the store anew if a write has failed."""
        if not isinstance(error, NoRoomError):
            self._recover()

    def _recover(self) -> bool:
        try:
            self._store.recover()
        except StoreError as error:
            _log.error("store_not_recovered", error=str(error))
            return False
        return True

    def _look_for_room(self) -> None:
        """Let nobody be sent to a server that begins on a full disk."""
        try:
            self._require_room()
        except StoreUnavailableError as error:
            self._report_writable(False, str(error))

    def _try_again(self) -> None:
        try:
            self._require_room()
        except StoreUnavailableError:
            return
        if self._recover():
            self._report_writable(True)

    def _shorten_log(self) -> None:
        """Behind the answers, so that nobody's own waits for it."""
        if not self._writable:
            return
        try:
            self._require_room()
            self._store.checkpoint_if_due()
        except StoreError as error:
            self._report_writable(False, str(error))
            self._mend(error)

    def _report_writable(self, writable: bool, why: str = "") -> None:
        if writable != self._writable:
            self._writable = writable
            _log.warning("store_writable" if writable else "store_not_writable", why=why)
            self._on_writable(writable)

    def _do(self, chore: _Chore) -> None:
        if not chore.done.set_running_or_notify_cancel():
            return
        try:
            if chore.needs_room:
                self._require_room()
            answer = chore.call(self._store)
        except StoreUnavailableError as error:
            if chore.needs_room or not self._store.is_open:
                self._report_writable(False, str(error))
                self._mend(error)
            chore.done.set_exception(error)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller who waits, and must not end the only writer
            chore.done.set_exception(error)
        else:
            chore.done.set_result(answer)


def _joined(jobs: list[_Job]) -> dict[str, pa.Table]:
    """Append the rows of all jobs, table by table, without copying them."""
    names = jobs[0].batch.tables
    return {name: pa.concat_tables([job.batch.tables[name] for job in jobs]) for name in names}


def _decisions(batch: Batch, known: Mapping[str, Known]) -> Decisions:
    """Decide per run: new, the same again, or another run under a used id. The first write stays in every case."""
    decisions = {}
    for run_id, sha256 in batch.sha256_by_run_id.items():
        before = known.get(run_id)
        if before is None:
            decisions[run_id] = Decision.STORED
        elif before == Known(device_id=batch.device_id, sha256=sha256):
            decisions[run_id] = Decision.DUPLICATE
        else:
            decisions[run_id] = Decision.RUN_ID_REUSED
    return decisions
