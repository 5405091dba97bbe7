"""The way from an enrolled device to its aggregator: plain on loopback, else mutual TLS with a fresh certificate."""

from typing import TYPE_CHECKING

from weighin_agent.fleet.client import AggregatorClient
from weighin_agent.fleet.state import Enrolment, State

if TYPE_CHECKING:
    from weighin_agent.fleet.renewal import RenewingLine


def open_line(state: State, enrolment: Enrolment) -> "AggregatorClient | RenewingLine":
    """Return the line; its first call opens it. Raises StateError."""
    if enrolment.insecure:
        return AggregatorClient(enrolment.aggregator_address, device_id=state.device_id())
    # Here, because a plain line has no use for what it imports.
    from weighin_agent.fleet.renewal import RenewingLine  # noqa: PLC0415

    return RenewingLine(enrolment, state.credential, device_id=state.device_id())
