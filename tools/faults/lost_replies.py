"""A line that loses 30 % of the replies after the server has decided: what is sent again must not be stored again."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

from faults import server
from faults.devices import sending, set_aside
from faults.oracle import Books, audit
from faults.proxy import proxy

DEVICES = 20
LOST_SHARE = 0.3
_MOST_RUNS_AT_ONCE = 10
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LostReplies:
    """``runs_sent_again`` must each come back as a duplicate; of ``runs_timed_out`` nobody knows, on a busy machine."""

    runs_wanted: int
    lost_replies: int
    passed_replies: int
    runs_sent_again: int
    runs_timed_out: int
    duplicate_answers: int
    set_aside: tuple[str, ...]
    books: Books

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held."""
        missed = [*self.books.missed(), *self.set_aside]
        if self.books.stored_rows != self.books.kept_runs:
            missed.append(f"{self.books.stored_rows} rows for {self.books.kept_runs} runs")
        if self.books.kept_runs < self.runs_wanted:
            missed.append(f"only {self.books.kept_runs} runs were sent")
        if not self.runs_sent_again - self.runs_timed_out <= self.duplicate_answers <= self.runs_sent_again:
            missed.append(f"{self.duplicate_answers} duplicates for {self.runs_sent_again} runs that were sent again")
        if self.lost_replies < (self.lost_replies + self.passed_replies) * LOST_SHARE / 2:
            missed.append(f"only {self.lost_replies} replies were lost")
        return tuple(missed)


def inject(folder: Path, size: int, chance: random.Random) -> LostReplies:
    """Deliver ``size`` runs, or a few more, over the line."""
    data = folder / "data"
    with server.serving(data, server.free_port()) as process, proxy(process.address, chance) as line:
        with sending(folder, line.address, DEVICES, runs_at_once=_MOST_RUNS_AT_ONCE) as fleet:
            line.change(lost_reply_share=LOST_SHARE)
            while fleet.kept_runs < size:
                fleet.check()
                time.sleep(_POLL_SECONDS)
        lost, passed = line.lost_replies, line.passed_replies
    return LostReplies(
        runs_wanted=size,
        lost_replies=lost,
        passed_replies=passed,
        runs_sent_again=sum(len(ledger.sent_again) for ledger in fleet.ledgers),
        runs_timed_out=sum(len(ledger.timed_out) for ledger in fleet.ledgers),
        duplicate_answers=sum(ledger.duplicate_count for ledger in fleet.ledgers),
        set_aside=set_aside(fleet.ledgers),
        books=audit(data, fleet.ledgers),
    )
