"""The child process that measures a case: `python -m weighin_agent.bench.child`.

Whatever happens here, a crash of the runtime or of a driver, a hang, memory running out, happens to this process alone.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from weighin_agent.bench.channel import answer, answer_failures, requests
from weighin_agent.bench.correctness import Agreement, compare_with_cpu
from weighin_agent.bench.job import GRAPH_FILES, SMALL_MODEL_FILE, Job, Measured, Ready, decode_job
from weighin_agent.bench.measure import Models, Surroundings, run_round, warm_up
from weighin_agent.bench.weights import check_data, make_block, scheme_block
from weighin_agent.cpu_load import ForeignLoad
from weighin_analysis.measurement import ClockKind, Measurement, SeriesPart

if TYPE_CHECKING:
    from weighin_agent.bench.session import Model


# What the system counts as data though it is never touched: the runtime's arena grows by doubling, and every thread has
# a stack. With two threads 11 to 163 MB beyond the formula in the cases of the standard suite, 8.6 MB with each more.
_UNTOUCHED_BYTES = 200_000_000
_STACK_BYTES = 10_000_000


def main() -> None:
    """Load the models of the job, then run a round for every number that is asked for."""
    # May crash, and takes half a second: while the models are still being made, and before any request is read.
    from weighin_agent.bench.session import Model  # noqa: PLC0415

    lines = requests()
    job = decode_job(next(lines))
    if job.memory_limit_bytes is not None and sys.platform == "linux":  # elsewhere RLIMIT_DATA does not count mappings
        _limit_memory(job.memory_limit_bytes + _UNTOUCHED_BYTES + job.case.threads * _STACK_BYTES)
    with answer_failures():
        _check_files(job)
        agreement = _compare(job)
        models: Models = {part: _load(Model, job, part, layers) for part, layers in job.parts.items()}
        points = list(warm_up(job.case, models, job.lengths))
        surroundings = Surroundings(foreign_share=ForeignLoad().share_since_last, clock=job.clock)
        answer(Ready())
        for line in lines:
            found = run_round(job.case, models, points, int(line), job.rounds, surroundings)
            answer(Measured(measurements=tuple(_with_facts(one, agreement) for one in found)))


def _check_files(job: Job) -> None:
    """Raise CaseError unless the graphs and their weights are on disk as they were made."""
    block = scheme_block(make_block(job.weights), job.case.scheme)
    names = {GRAPH_FILES[part] for part in job.parts}
    if job.case.execution_provider != "cpu":
        names.add(SMALL_MODEL_FILE)
    for name in sorted(names):
        check_data(job.folder / name, block)


def _compare(job: Job) -> Agreement | None:
    """Return how near the outputs are to the CPU's, None where they are the CPU's; CaseError if they are too far."""
    case = job.case
    if case.execution_provider == "cpu":
        return None
    return compare_with_cpu(
        job.folder / SMALL_MODEL_FILE,
        case.architecture,
        case.scheme,
        execution_provider=case.execution_provider,
        threads=case.threads,
    )


def _with_facts(measurement: Measurement, agreement: Agreement | None) -> Measurement:
    """Add what is known of the whole process: the memory it took so far, and whether it computes what the CPU does."""
    return replace(
        measurement,
        peak_memory_bytes=_peak_memory_bytes(),
        # Rounding may leave a correlation a hair above 1.
        output_correlation=min(1.0, agreement.correlation) if agreement else None,
        output_relative_rms=agreement.relative_rms if agreement else None,
    )


def _load(model_type: "type[Model]", job: Job, part: SeriesPart, layers: int) -> "Model":
    case = job.case
    model = model_type(
        job.folder / GRAPH_FILES[part],
        case.architecture,
        layers=layers,
        execution_provider=case.execution_provider,
        threads=case.threads,
        max_context=job.lengths.max_context_tokens,
        clock=time.thread_time if job.clock is ClockKind.THREAD_CPU else time.perf_counter,
    )
    model.check_finite()
    return model


def _limit_memory(limit_bytes: int) -> None:
    """Make an allocation beyond the limit fail here, before the system has to choose a process to end."""
    import resource  # noqa: PLC0415 - POSIX only

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _peak_memory_bytes() -> int | None:
    """Return the highest resident memory of this process so far, None where the system does not tell."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "darwin":
        import resource  # noqa: PLC0415 - POSIX only

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux hands ru_maxrss of the parent down through exec; VmHWM is this program's own.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)


if __name__ == "__main__":
    main()
