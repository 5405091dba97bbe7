"""Errors of the agent.

AgentError
├── UsageError                    what was asked for makes no sense; exit code 2
├── EnvironmentFailure            the surroundings lack something that the work needs
├── CaseError                     a case gave no measurement; it becomes a CaseFailure of the run
├── StateError                    the state folder cannot be read, written or locked
├── SpoolError                    a run cannot be kept, read or set aside
│   ├── DamagedRunError           a spool file that does not hold what was written
│   └── UnreadableRunError        a spool file that the system does not let us read
└── DeliveryError                 the aggregator did not take a call
    ├── AggregatorAwayError       away, busy or at fault: the same call later will do
    ├── UnacceptableRequestError  the call as it is will never do: a smaller one may
    ├── UnsafeChannelError        the way there is not safe, so nothing is sent on it
    └── DeviceRefusedError        it takes nothing from this device until a person acts
        └── CredentialRefusedError  for the certificate that this device shows: a newer one may do
"""

from typing import ClassVar


class AgentError(Exception):
    """Base of every error that the agent raises on purpose; its text is one line for a person."""

    exit_code: ClassVar[int] = 1


class UsageError(AgentError):
    """What was asked for makes no sense."""

    exit_code: ClassVar[int] = 2


class EnvironmentFailure(AgentError):  # noqa: N818 - EnvironmentError is a name of Python itself
    """The surroundings lack something that the work needs."""


class CaseError(AgentError):
    """A case gave no measurement; ``reason`` is one of ``weighin_agent.run.CaseFailureReason``."""

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class StateError(AgentError):
    """The state folder cannot be read, written or locked."""


class SpoolError(AgentError):
    """A run cannot be kept, read or set aside."""


class DamagedRunError(SpoolError):
    """A spool file that does not hold what was written."""


class UnreadableRunError(SpoolError):
    """A spool file that the system does not let us read: it stays for whoever may."""


class DeliveryError(AgentError):
    """The aggregator did not take a call.

    ``reason`` is an upper-case constant: the aggregator's own where it gave one, else the name of the gRPC status.
    """

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class AggregatorAwayError(DeliveryError):
    """Away, busy or at fault: the same call later will do, not before ``retry_after_seconds`` where it named a time."""

    def __init__(self, text: str, *, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(text, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class UnacceptableRequestError(DeliveryError):
    """The call as it is will never do, for its size or for one run in it: a smaller one may."""


class UnsafeChannelError(DeliveryError):
    """What answers does not prove to be the aggregator, so nothing was sent; ``reason`` as in ``tls_diagnosis``."""


class DeviceRefusedError(DeliveryError):
    """The aggregator takes nothing from this device until a person acts."""


class CredentialRefusedError(DeviceRefusedError):
    """The aggregator does not take this device's certificate: a newer one may do."""
