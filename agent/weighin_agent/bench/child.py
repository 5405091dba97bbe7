"""The child process of a case: `python -m weighin_agent.bench.child`, job on standard input, answers on output.

Whatever happens here, a crash of the runtime or of a driver, a hang, memory running out, happens to this process alone.
"""

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil

from weighin_agent.bench.job import Answer, Failed, Job, Measured, Progress, decode_job, encode_answer
from weighin_agent.bench.measure import Models, Surroundings, measure
from weighin_agent.bench.models import save_full_model, save_head, save_layers
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_agent.cpu_load import ForeignLoad
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason
from weighin_analysis.measurement import Case, ClockKind, Measurement


def main() -> None:
    """Run the job; the last line on standard output is a result or a failure."""
    job = decode_job(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if job.memory_limit_bytes is not None and sys.platform == "linux":  # elsewhere RLIMIT_DATA does not count mappings
        _limit_memory(job.memory_limit_bytes)
    try:
        _answer(Measured(measurements=_run(job)))
    except CaseError as error:
        _answer(Failed(reason=CaseFailureReason(error.reason), detail=str(error)))
    except OSError as error:  # its text may hold a path
        detail = f"the models cannot be written: {error.strerror or type(error).__name__}"
        _answer(Failed(reason=CaseFailureReason.RUNTIME_ERROR, detail=detail))
    except MemoryError:
        _answer(Failed(reason=CaseFailureReason.OUT_OF_MEMORY, detail="memory ran out while preparing the case"))


def _answer(answer: Answer) -> None:
    print(encode_answer(answer), flush=True)  # noqa: T201 - standard output is this process's channel


def _end_with_parent() -> None:
    """Wait for the end of standard input: the parent holds it open as long as it lives, whatever ends it."""
    sys.stdin.read()
    os._exit(1)


def _limit_memory(limit_bytes: int) -> None:
    """Make an allocation beyond the limit fail here, before the system has to choose a process to end."""
    import resource  # noqa: PLC0415 - POSIX only

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _run(job: Job) -> tuple[Measurement, ...]:
    case = _synthesise(job)
    models = _load(replace(job, case=case))
    surroundings = Surroundings(
        now_seconds=time.monotonic, sleep=time.sleep, foreign_share=ForeignLoad().share_since_last, clock=job.clock
    )
    on_round = lambda done, planned: _answer(Progress(share=done / planned))  # noqa: E731
    measurements = measure(case, models, job.lengths, job.rounds, surroundings, on_round)
    peak = _peak_memory_bytes()
    return tuple(replace(measurement, peak_memory_bytes=peak) for measurement in measurements)


def _synthesise(job: Job) -> Case:
    """Write the graphs and weights of the case and return it with the graphs' hashes."""
    case = job.case
    block = scheme_block(make_block(job.weights), case.scheme)
    context = job.lengths.max_context_tokens
    layers = save_layers(
        job.folder / "layers.onnx",
        case.architecture,
        case.scheme,
        layers=case.probe_layers,
        max_context=context,
        block=block,
    )
    head = ""
    if case.head_columns:
        head = save_head(
            job.folder / "head.onnx", case.architecture, case.scheme, columns=case.head_columns, block=block
        )
    if job.full_model:
        save_full_model(job.folder / "full.onnx", case.architecture, case.scheme, max_context=context, block=block)
    return replace(case, layers_graph_sha256=layers, head_graph_sha256=head)


def _load(job: Job) -> Models:
    from weighin_agent.bench.session import Model  # noqa: PLC0415 - may crash at import: after everything else

    case, read_clock = job.case, time.thread_time if job.clock is ClockKind.THREAD_CPU else time.perf_counter

    def load(name: str, layers: int) -> Model:
        model = Model(
            job.folder / name,
            case.architecture,
            layers=layers,
            execution_provider=case.execution_provider,
            threads=case.threads,
            max_context=job.lengths.max_context_tokens,
            clock=read_clock,
        )
        model.check_finite()
        return model

    return Models(
        layers=load("layers.onnx", case.probe_layers),
        head=load("head.onnx", 0) if case.head_columns else None,
        full_model=load("full.onnx", case.architecture.layers) if job.full_model else None,
    )


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
