"""The parent's end of a child process: a line there, an answer back, and an end whatever happens."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from weighin_agent.bench.job import Answer, Failed, Job, decode_answer, encode_job
from weighin_agent.exit_codes import signal_name
from weighin_agent.run import CaseFailureReason

MEASURE = "weighin_agent.bench.child"
SYNTHESISE = "weighin_agent.bench.synthesiser"


class ChildProcess:
    """A child process that answers lines; leaving the ``with`` block ends it, whatever happened."""

    def __init__(self, module: str) -> None:
        # -P: the folder that the user happens to stand in may hold a file named like a library, and is not searched.
        self._command = (sys.executable, "-P", "-m", module)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            # A session of its own: Ctrl-C in the terminal reaches the parent alone, which then ends the child.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                errors="replace",  # a library in the child may print whatever it likes: no answer, and no error here
                start_new_session=True,
                env=_environment(),
            )
        except BaseException:  # Ctrl-C may come at any moment, also at this one
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):  # a line that the child never read; Windows has another error for it
                    stream.close()

    def ask_job(self, job: Job, timeout_seconds: float) -> Answer:
        """Hand over a job and return the answer."""
        return self.ask(encode_job(job), timeout_seconds)

    def ask(self, line: str, timeout_seconds: float) -> Answer:
        """Write a line and return the answer to it: what the child said, or how it ended without saying anything.

        A child that takes longer than ``timeout_seconds`` is ended.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        timed_out = threading.Event()

        def end_child() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(timeout_seconds, end_child)
        timer.daemon = True  # the agent's own end never waits for it
        timer.start()
        try:
            with suppress(OSError):  # it died at once; the exit code tells
                process.stdin.write(line + "\n")
                process.stdin.flush()  # and stays open: its end tells the child that the parent is gone
            text = process.stdout.readline()
        finally:
            timer.cancel()
        if text:
            try:
                return decode_answer(text)
            except (ValueError, KeyError, TypeError):
                detail = "the child wrote something that is not an answer"
                return Failed(reason=CaseFailureReason.CRASHED, detail=detail)
        code = process.wait()
        if timed_out.is_set():
            return Failed(reason=CaseFailureReason.TIMED_OUT, detail=f"ended after {timeout_seconds:g} s")
        return Failed(reason=CaseFailureReason.CRASHED, detail=_how_it_ended(code))


def _environment() -> dict[str, str]:
    """Return the environment of a child: the runtime makes the threads, other libraries must not add pools."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no answer"
    hint = ", often for want of memory" if -code == signal.SIGKILL else ""
    return f"ended by signal {-code} ({signal_name(-code)}){hint}"
