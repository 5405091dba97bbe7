"""A weigh-in: probe the device, run a suite case by case, and put everything that was found out into a run."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from weighin_agent.bench.job import Job
from weighin_agent.bench.runner import run_case
from weighin_agent.conditions import condition_gaps, read_conditions
from weighin_agent.device import Device, ProbeGap, usable_core_count
from weighin_agent.errors import EnvironmentFailure, UsageError
from weighin_agent.probe import available_bytes, cpu_quota_cores, probe
from weighin_agent.run import CaseFailure, CaseFailureReason, Run, Source
from weighin_analysis.card import Card
from weighin_analysis.judge import judge
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Case, ClockKind, Measurement
from weighin_analysis.suite import Suite, SuiteCase

# A case ends itself after its budget of rounds; this is for one that hangs.
CASE_TIMEOUT_SECONDS = 120.0
_WORK_PREFIX = "weighin-work-"

OnCase = Callable[[int, SuiteCase], None]
OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Who wants to know how far a weigh-in is: a case begins, a case has done a share, a case has failed."""

    on_case: OnCase
    on_progress: OnProgress
    on_failure: Callable[[CaseFailure], None]


def weigh_in(
    suite: Suite, *, execution_provider: str, state_folder: Path, consent_version: int, watcher: Watcher
) -> Run:
    """Run the suite on this device and return the run; takes about as long as the suite's rounds say.

    Synthesised models lie below ``state_folder`` while they are needed. UsageError if the execution provider is not
    measured here. KeyboardInterrupt ends the present case and leaves no process and no file behind.
    """
    observe_time, begin = datetime.now(UTC), time.monotonic()
    device, gaps = probe(state_folder)
    check_execution_provider(device, gaps, execution_provider)
    before = read_conditions()
    measurements: list[Measurement] = []
    failures: list[CaseFailure] = []
    with work_folder(state_folder) as folder:
        for index, suite_case in enumerate(suite.cases):
            watcher.on_case(index, suite_case)
            job = make_job(suite, suite_case, device, execution_provider=execution_provider, folder=folder)
            outcome = run_case(job, timeout_seconds=CASE_TIMEOUT_SECONDS, on_progress=watcher.on_progress)
            if isinstance(outcome, CaseFailure):
                failures.append(outcome)
                watcher.on_failure(outcome)
            else:
                measurements += outcome
    after = read_conditions()
    return Run(
        source=Source.NATIVE,
        observe_time=observe_time,
        elapsed_seconds=time.monotonic() - begin,
        agent_version=version("weighin-agent"),
        consent_version=consent_version,
        suite=suite.name,
        suite_version=suite.version,
        suite_sha256=suite.sha256,
        device=device,
        probe_gaps=gaps + condition_gaps(before, after),
        before=before,
        after=after,
        measurements=tuple(measurements),
        failures=tuple(failures),
    )


def card_of(run: Run) -> Card:
    """Judge a run with the analysis core."""
    return judge(
        run.measurements,
        memory_available_bytes=run.device.memory.available_bytes,
        read_bandwidth_bytes_per_second=run.device.memory.read_bandwidth_bytes_per_second,
        gated_cases=[f.case for f in run.failures if f.reason is CaseFailureReason.MEMORY_GATE],
        failed_cases=[f.case for f in run.failures if f.reason is not CaseFailureReason.MEMORY_GATE],
    )


def check_execution_provider(device: Device, gaps: Sequence[ProbeGap], name: str) -> None:
    """Raise UsageError unless the execution provider is measured here; its text names those that are.

    EnvironmentFailure where the runtime itself could not be loaded.
    """
    if not device.execution_providers:
        why = next((gap.detail for gap in gaps if gap.fact == "execution_providers"), "it offers nothing")
        raise EnvironmentFailure(f"onnxruntime cannot be used on this device: {why}")
    measured = [ep.name for ep in device.execution_providers if ep.measured]
    if name in measured:
        return
    offered = {ep.name: ep.reason for ep in device.execution_providers}
    why = f"is not measured here: {offered[name]}" if name in offered else "is not offered by the runtime here"
    raise UsageError(f"execution provider {name!r} {why}; use --ep {' or '.join(measured) or 'auto'}")


def make_job(
    suite: Suite,
    suite_case: SuiteCase,
    device: Device,
    *,
    execution_provider: str,
    folder: Path,
    full_model: bool = False,
) -> Job:
    """Return the job of a case on this device: a thread on every core that may run, a share of the free memory.

    A single thread is timed by its CPU time, which does not see preemption; with more, waiting threads spin and count
    as busy. Under a quota of less than one core CPU time would hide the throttling.
    """
    available, quota = available_bytes(), cpu_quota_cores()
    threads = usable_core_count(device.cpu, quota)
    unthrottled = quota is None or quota >= 1
    return Job(
        case=Case(
            architecture=suite_case.architecture,
            scheme=suite_case.scheme,
            execution_provider=execution_provider,
            threads=threads,
            probe_layers=suite_case.probe_layers,
            head_columns=suite_case.head_columns,
        ),
        folder=folder,
        weights=suite.weights,
        lengths=suite.lengths,
        rounds=suite.rounds,
        full_model=full_model,
        memory_limit_bytes=None if available is None else round(current_limits().memory_share * available),
        clock=ClockKind.THREAD_CPU if threads == 1 and unthrottled else ClockKind.WALL,
    )


@contextmanager
def work_folder(state_folder: Path) -> Iterator[Path]:
    """Make a folder for synthesised models that is gone afterwards; what a killed agent left goes first.

    The caller holds the lock of the state folder, so that no other agent is at work in it. EnvironmentFailure where
    there is no room or no permission.
    """
    for leftover in state_folder.glob(f"{_WORK_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        folder = tempfile.TemporaryDirectory(prefix=_WORK_PREFIX, dir=state_folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise EnvironmentFailure(f"no models can be made in {state_folder}: {error.strerror}; make room") from error
    with folder as name:
        yield Path(name)
