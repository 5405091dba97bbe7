"""How many runs the server takes at most, all devices together: a cap that is refused at the door."""

from collections.abc import Callable

from weighin_aggregator.refusal import Reason, Refusal

# What may come at once after a pause, in seconds of the cap.
_BURST_SECONDS = 1.0
# A device that is refused comes back later than the cap alone would ask for: the next one has not failed yet.
_LEAST_WAIT_SECONDS = 5.0


class Admission:
    """A token bucket in front of the queue; without ``runs_per_second`` it takes everything.

    ``clock`` gives seconds and never goes back. How many runs a call holds is known only once it is decoded, which is
    what a refusal must not cost. So a call is let in while anything is left, and what it turned out to hold is taken
    afterwards: the bucket goes below nothing, and stays shut until that is made up for.
    """

    def __init__(self, runs_per_second: float | None, clock: Callable[[], float]) -> None:
        self._runs_per_second = runs_per_second
        self._clock = clock
        self._left = 0.0 if runs_per_second is None else runs_per_second * _BURST_SECONDS
        self._filled_seconds = clock()

    def require_left(self) -> None:
        """Raise Refusal while the cap is used up."""
        if self._runs_per_second is None:
            return
        now = self._clock()
        most = self._runs_per_second * _BURST_SECONDS
        self._left = min(most, self._left + (now - self._filled_seconds) * self._runs_per_second)
        self._filled_seconds = now
        if self._left <= 0:
            wait_seconds = max(_LEAST_WAIT_SECONDS, -self._left / self._runs_per_second)
            raise Refusal(Reason.OVERLOADED, wait_seconds=wait_seconds)

    def take(self, runs: int) -> None:
        """Count the runs of a call that was let in."""
        self._left -= runs
