"""Every bound on what is accepted, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limits:
    """Bounds on messages, on the queue in front of the store, and on waiting. Bytes are bytes, times are seconds.

    Compared by identity: what follows from a value and the limits is remembered by both.
    """

    # One message.
    request_bytes: int = 4 << 20
    metadata_bytes: int = 16 << 10
    envelopes: int = 100

    # One run. The quick suite with all its series is about 11 KB.
    run_bytes: int = 256 << 10
    measurements: int = 1_024
    samples: int = 65_536
    failures: int = 1_024
    probe_gaps: int = 256
    accelerators: int = 16
    execution_providers: int = 64
    caches: int = 64
    # The store adds up the instances of all caches of a level: 64 times both of these fit into 64 bits.
    cache_bytes: int = 1 << 36
    cache_instances: int = 1 << 16
    instruction_sets: int = 256

    # One text. Free text names devices and versions; a detail is one line for a person.
    free_text_characters: int = 128
    detail_bytes: int = 256

    # What a refused run is told.
    violations: int = 10

    # All devices together; None for as many as the machine takes.
    runs_per_second: int | None = None

    # Waiting. A group is what one transaction may hold.
    queued_runs: int = 4_096
    group_runs: int = 1_000
    drain_seconds: float = 20.0

    # A checkpoint writes about what the log holds (8 MB and a group more); several times that must be free.
    free_disk_bytes: int = 64 << 20
    kept_snapshots: int = 3

    # Upkeep. What is deleted leaves the disk within a day; copies that an operator may fall back on stay a month.
    retention_days: int = 365
    upkeep_seconds: float = 12 * 3600.0
    deleted_runs: int = 1_000
    kept_copy_days: int = 30

    # What one device may do: a weigh-in a day is one call and one run.
    calls_per_minute: int = 60
    runs_per_day: int = 500
    # Failed enrolments of one address, and how much memory all callers together may take.
    failures_per_minute: int = 10
    counted_callers: int = 65_536
    # A request for a P-256 certificate has about 250 bytes; a whole request to enrol, from anybody, about 1,000.
    csr_bytes: int = 4 << 10
    enrollment_bytes: int = 64 << 10
    enrollment_metadata_bytes: int = 4 << 10
    # Anybody may connect to enrol, and each connection takes a file descriptor of those that the run port needs too.
    enrollment_connections: int = 256
    renewal_days: int = 7

    # Connections.
    streams_per_connection: int = 8
    idle_seconds: int = 300
    age_seconds: int = 1_800
    age_grace_seconds: int = 30
    ping_interval_seconds: int = 300
    # gRPC itself would let somebody who says nothing hold a connection for two minutes.
    handshake_seconds: int = 20


DEFAULT_LIMITS = Limits()
