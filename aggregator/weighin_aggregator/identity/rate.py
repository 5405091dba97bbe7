"""How much one caller may do in a while, counted in memory that is bounded.

Counts are forgotten at a restart; nothing that is stored depends on them.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class _Window:
    end_seconds: float
    spent: int = 0


class Allowance:
    """``limit`` per caller in each window of ``seconds``, which begins with the caller's first use.

    ``clock`` gives seconds and never goes back. Over ``callers`` at a time the window that is nearest to its end is
    forgotten.
    """

    def __init__(self, *, limit: int, seconds: float, callers: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._seconds = seconds
        self._callers = callers
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # in the order of their ends

    def wait_seconds(self, caller: str) -> float:
        """Return how long the caller must wait before it may do anything more: 0 while something is left."""
        window, now = self._windows.get(caller), self._clock()
        if window is None or window.spent < self._limit:
            return 0.0
        return max(0.0, window.end_seconds - now)

    def spend(self, caller: str, count: int = 1) -> None:
        """Count what a caller did. The last use may go over the limit: it is not undone."""
        self._forget_ended()
        window = self._windows.get(caller)
        if window is None:
            window = self._windows[caller] = _Window(end_seconds=self._clock() + self._seconds)
            if len(self._windows) > self._callers:
                self._windows.popitem(last=False)
        window.spent += count

    def give_back(self, caller: str, count: int = 1) -> None:
        """Take back what was counted before it was known not to count."""
        window = self._windows.get(caller)
        if window is not None:
            window.spent = max(0, window.spent - count)

    def _forget_ended(self) -> None:
        now = self._clock()
        while self._windows:
            caller, window = next(iter(self._windows.items()))
            if window.end_seconds > now:
                return
            del self._windows[caller]
