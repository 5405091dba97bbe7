"""One execution of a suite on a device: facts only, the message that is submitted."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from weighin_agent.device import Device, ProbeGap
from weighin_analysis.measurement import Case, Measurement

SCHEMA_VERSION = 2


class PowerSource(StrEnum):
    """Where the power comes from. A device without a battery is on the mains."""

    MAINS = "mains"
    BATTERY = "battery"


class Source(StrEnum):
    """Who measured."""

    NATIVE = "native"
    BROWSER = "browser"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Two short loads of known size, to see the machine itself become faster or slower around a run."""

    matrix_flops: float
    read_bytes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The state of the device at one moment; shares are 0 to 1 of all CPU time; None is not readable."""

    memory_available_bytes: int | None
    foreign_cpu_share: float | None
    steal_cpu_share: float | None
    power_source: PowerSource | None
    frequency_hertz: int | None
    temperature_celsius: float | None
    canary: Canary | None


class CaseFailureReason(StrEnum):
    """Why a case gave no measurement."""

    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    MEMORY_GATE = "memory_gate"
    WRONG_OUTPUT = "wrong_output"
    WRONG_EXECUTION_PROVIDER = "wrong_execution_provider"
    NO_DEVICE = "no_device"
    WEIGHTS_MISMATCH = "weights_mismatch"
    RUNTIME_ERROR = "runtime_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFailure:
    """A case that gave no measurement; ``detail`` is one line for a person, without paths or names."""

    case: Case
    reason: CaseFailureReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that one execution of a suite found out. ``observe_time`` is when it began, in UTC."""

    source: Source
    observe_time: datetime
    elapsed_seconds: float
    agent_version: str
    consent_version: int
    suite: str
    suite_version: int
    suite_sha256: bytes
    device: Device
    probe_gaps: tuple[ProbeGap, ...]
    before: Conditions
    after: Conditions
    measurements: tuple[Measurement, ...]
    failures: tuple[CaseFailure, ...]
