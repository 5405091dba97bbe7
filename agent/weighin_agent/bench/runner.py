"""Running a case in a child process: what comes back is a measurement or the reason why there is none."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from weighin_agent.bench.job import Failed, Job, Measured, Progress, decode_answer, encode_job
from weighin_agent.exit_codes import signal_name
from weighin_agent.run import CaseFailure, CaseFailureReason
from weighin_analysis.footprint import RUNTIME_BYTES, activation_bytes
from weighin_analysis.measurement import Case, Measurement
from weighin_analysis.suite import Lengths

# -P: the folder that the user happens to stand in may hold a file named like a library, and is not searched.
_COMMAND = (sys.executable, "-P", "-m", "weighin_agent.bench.child")
OnProgress = Callable[[float], None]


def needed_memory_bytes(case: Case, lengths: Lengths, *, full_model: bool) -> int:
    """Return about how much memory the child of a case takes at its peak.

    The runtime reads the stored weights, packs them and lets the stored ones go; while it does, both are there.
    Activations are those of the longest prompt.
    """
    shape = case.architecture
    stored = shape.layer_weight_count * case.probe_layers + shape.hidden * case.head_columns
    layers = case.probe_layers
    if full_model:
        stored += shape.layers * shape.layer_weight_count + shape.head_weight_count
        layers += shape.layers
    cache = replace(shape, layers=layers).kv_cache_bytes(lengths.max_context_tokens, bytes_per_element=4)
    both = case.scheme.stored_bytes_per_weight + case.scheme.resident_bytes_per_weight
    longest = max(lengths.decoder_prompt_tokens + lengths.encoder_prompt_tokens)
    return round(stored * both) + cache + activation_bytes(shape, longest) + RUNTIME_BYTES


class CaseChild:
    """The child process of one case; leaving the ``with`` block ends it, whatever happened."""

    def __init__(self, job: Job, timeout_seconds: float) -> None:
        self.timed_out = False
        self._job = job
        self._process: subprocess.Popen[str] | None = None
        self._timer = threading.Timer(timeout_seconds, self._time_out)
        self._timer.daemon = True  # the agent's own end never waits for it

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # Ctrl-C may come at any moment, also at this one
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        # A session of its own: Ctrl-C in the terminal reaches the parent alone, which then ends the child.
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",  # a library in the child may print whatever it likes: no answer, and no error here
            start_new_session=True,
            env=_environment(),
        )
        self._timer.start()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once; the exit code tells
            self._process.stdin.write(encode_job(self._job) + "\n")
            self._process.stdin.flush()  # and stays open: its end tells the child that the parent is gone

    def _end(self) -> None:
        self._timer.cancel()
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(BrokenPipeError):  # a job that the child never read
                    stream.close()

    def outcome(self, on_progress: OnProgress) -> Measured | Failed:
        """Follow the child to its end and return what it answered, or how it ended without an answer."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                answer = decode_answer(line)
            except (ValueError, KeyError, TypeError):
                return Failed(
                    reason=CaseFailureReason.CRASHED, detail="the child wrote something that is not an answer"
                )
            if not isinstance(answer, Progress):
                return answer
            on_progress(answer.share)
        code = self._process.wait()
        if self.timed_out:
            return Failed(reason=CaseFailureReason.TIMED_OUT, detail=f"ended after {self._timer.interval:g} s")
        return Failed(reason=CaseFailureReason.CRASHED, detail=_how_it_ended(code))

    def _time_out(self) -> None:
        self.timed_out = True
        if self._process is not None:
            self._process.kill()


def run_case(job: Job, *, timeout_seconds: float, on_progress: OnProgress) -> tuple[Measurement, ...] | CaseFailure:
    """Run a case in a folder of its own below ``job.folder``; the folder is gone afterwards.

    The case is not started if it needs more memory than ``job.memory_limit_bytes`` (None: not known, so it is tried).
    """
    needed = needed_memory_bytes(job.case, job.lengths, full_model=job.full_model)
    if job.memory_limit_bytes is not None and needed > job.memory_limit_bytes:
        detail = f"needs about {needed / 2**30:.1f} GiB, {job.memory_limit_bytes / 2**30:.1f} GiB may be used"
        return CaseFailure(case=job.case, reason=CaseFailureReason.MEMORY_GATE, detail=detail)
    try:
        with (
            tempfile.TemporaryDirectory(dir=job.folder, prefix="case-", ignore_cleanup_errors=True) as folder,
            CaseChild(replace(job, folder=Path(folder)), timeout_seconds) as child,
        ):
            outcome = child.outcome(on_progress)
    except OSError as error:  # no folder, or no process: its text may hold a path
        detail = f"the case could not be started: {error.strerror or type(error).__name__}"
        return CaseFailure(case=job.case, reason=CaseFailureReason.RUNTIME_ERROR, detail=detail)
    if isinstance(outcome, Failed):
        return CaseFailure(case=job.case, reason=outcome.reason, detail=outcome.detail)
    return outcome.measurements


def _environment() -> dict[str, str]:
    """Return the environment of a child: the runtime makes the threads, other libraries must not add pools."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no answer"
    hint = ", often for want of memory" if -code == signal.SIGKILL else ""
    return f"ended by signal {-code} ({signal_name(-code)}){hint}"
