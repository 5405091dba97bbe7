"""Running cases in child processes: what comes back is measurements, or the reason why there are none."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from weighin_agent.bench.child_process import MEASURE, SYNTHESISE, ChildProcess
from weighin_agent.bench.job import Answer, Failed, Job, Measured, Ready, Synthesised
from weighin_agent.bench.measure import join_rounds
from weighin_agent.bench.schedule import Progress, progress_of, share_done, wants_round
from weighin_agent.run import CaseFailure, CaseFailureReason
from weighin_analysis.footprint import KV_BYTES_PER_ELEMENT, RUNTIME_BYTES, activation_bytes
from weighin_analysis.measurement import Measurement

OnProgress = Callable[[float], None]


def needed_memory_bytes(job: Job) -> int:
    """Return about how much memory the child of a case takes at its peak, mapped files and code left out.

    Packed weights and caches of all its graphs, the activations of the longest prompt in each that runs prompts, and
    the runtime.
    """
    case, shape = job.case, job.case.architecture
    layers = sum(job.parts.values())
    columns = (case.head_columns if job.layer_probe else 0) + job.full_model_loads * shape.vocab
    weights = layers * shape.layer_weight_count + (shape.hidden * columns if case.head_columns else 0)
    cache = replace(shape, layers=layers).kv_cache_bytes(job.lengths.max_context_tokens, KV_BYTES_PER_ELEMENT)
    prompts = job.lengths.decoder_prompt_tokens if case.head_columns else job.lengths.encoder_prompt_tokens
    running = sum(1 for count in job.parts.values() if count)
    activations = running * activation_bytes(shape, max(prompts))
    return round(weights * case.scheme.resident_bytes_per_weight) + cache + activations + RUNTIME_BYTES


class OpenCase:
    """A case whose models are loaded: rounds can be run at any time until it is closed."""

    def __init__(self, job: Job, child: ChildProcess, timeout_seconds: float) -> None:
        self.job = job
        self._child = child
        self._timeout_seconds = timeout_seconds
        self._rounds: list[tuple[Measurement, ...]] = []

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What was measured so far, one measurement per phase and length."""
        return join_rounds(self._rounds)

    @property
    def progress(self) -> Progress:
        """How well the case is known so far."""
        return progress_of(self.measurements, len(self._rounds))

    @property
    def next_is_long(self) -> bool:
        """Whether the next round holds the long prompt, if there is one."""
        return len(self._rounds) % self.job.rounds.long_prompt_interval == 0

    def run_round(self) -> CaseFailure | None:
        """Run one more round; a case that fails is over."""
        answer = self._child.ask(str(len(self._rounds)), self._timeout_seconds)
        if not isinstance(answer, Measured):
            return _failure(self.job, answer)
        self._rounds.append(answer.measurements)
        return None


class Synthesiser:
    """Makes the models of cases, in a child process that is started when it is first needed, and again if it died."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._child: ChildProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def make(self, job: Job, timeout_seconds: float) -> Answer:
        """Write the models of a job into its folder and return the answer."""
        if self._child is None:
            self._child = self._stack.enter_context(ChildProcess(SYNTHESISE))
        answer = self._child.ask_job(job, timeout_seconds)
        if not isinstance(answer, Synthesised):
            self._end()
        return answer

    def _end(self) -> None:
        self._stack.close()
        self._child = None


@contextmanager
def open_case(job: Job, synthesiser: Synthesiser, timeout_seconds: float) -> Iterator[OpenCase | CaseFailure]:
    """Make the models of a case in a folder of its own below ``job.folder``, load them, and keep them until the end.

    The case is not started if it needs more memory than ``job.memory_limit_bytes`` (None: not known, so it is tried).
    No step of it may take longer than ``timeout_seconds``.
    """
    needed = needed_memory_bytes(job)
    if job.memory_limit_bytes is not None and needed > job.memory_limit_bytes:
        detail = f"needs about {needed / 2**30:.1f} GiB, {job.memory_limit_bytes / 2**30:.1f} GiB may be used"
        yield CaseFailure(case=job.case, reason=CaseFailureReason.MEMORY_GATE, detail=detail)
        return
    with ExitStack() as stack:
        try:
            folder = tempfile.TemporaryDirectory(dir=job.folder, prefix="case-", ignore_cleanup_errors=True)
            job = replace(job, folder=Path(stack.enter_context(folder)))
            child = stack.enter_context(ChildProcess(MEASURE))  # loads the runtime while the models are made
            answer = synthesiser.make(job, timeout_seconds)
        except OSError as error:  # no folder, or no process: its text may hold a path
            answer = _not_started(error)
        if isinstance(answer, Synthesised):
            job = replace(job, case=answer.case)
            answer = child.ask_job(job, timeout_seconds)
            folder.cleanup()  # loaded: where a system keeps open files, they go at the end
        yield OpenCase(job, child, timeout_seconds) if isinstance(answer, Ready) else _failure(job, answer)


def run_case(job: Job, *, timeout_seconds: float, on_progress: OnProgress) -> tuple[Measurement, ...] | CaseFailure:
    """Run one case from its first to its last round; ``on_progress`` gets the share that is done, 0 to 1."""
    with Synthesiser() as synthesiser, open_case(job, synthesiser, timeout_seconds) as case:
        if isinstance(case, CaseFailure):
            return case
        while wants_round(case.progress, job.rounds):
            failure = case.run_round()
            if failure:
                return failure
            on_progress(share_done(case.progress, job.rounds))
            time.sleep(job.rounds.pause_seconds)
        return case.measurements


def _failure(job: Job, answer: Answer) -> CaseFailure:
    if isinstance(answer, Failed):
        return CaseFailure(case=job.case, reason=answer.reason, detail=answer.detail)
    detail = f"the child answered {type(answer).__name__} out of turn"
    return CaseFailure(case=job.case, reason=CaseFailureReason.CRASHED, detail=detail)


def _not_started(error: OSError) -> Failed:
    detail = f"the case could not be started: {error.strerror or type(error).__name__}"
    return Failed(reason=CaseFailureReason.RUNTIME_ERROR, detail=detail)
