"""How every reader says what it could not read."""

from typing import TypeVar

from weighin_agent.device import ProbeGap, ProbeGapReason

Value = TypeVar("Value")


class Gaps:
    """Collects the gaps of one probe."""

    def __init__(self) -> None:
        self._gaps: list[ProbeGap] = []

    def add(self, fact: str, reason: ProbeGapReason, detail: str) -> None:
        """Record why ``fact`` is absent, or in what a fact that was read falls short."""
        self._gaps.append(ProbeGap(fact=fact, reason=reason, detail=detail))

    def need(self, fact: str, value: Value | None, reason: ProbeGapReason, detail: str) -> Value | None:
        """Return ``value``; if it is None, record why it is absent."""
        if value is None:
            self.add(fact, reason, detail)
        return value

    def all(self) -> tuple[ProbeGap, ...]:
        """Return the gaps in the order in which they were found."""
        return tuple(self._gaps)
