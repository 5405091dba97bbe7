"""The child's end of the lines between a parent and its children: requests on standard input, answers on output."""

import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from weighin_agent.bench.job import Answer, Failed, encode_answer
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason


def requests() -> Iterator[str]:
    """Yield the lines of standard input as they come, and end this process with it.

    The parent holds its end open as long as it lives, whatever ends it; a child in the middle of its work must notice.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def answer(found: Answer) -> None:
    """Write an answer to the parent."""
    print(encode_answer(found), flush=True)  # noqa: T201 - standard output is this process's channel


@contextmanager
def answer_failures() -> Iterator[None]:
    """Answer what went wrong for a reason that is known here; anything else ends the process, which tells, too."""
    try:
        yield
    except CaseError as error:
        answer(Failed(reason=CaseFailureReason(error.reason), detail=str(error)))
    except OSError as error:  # its text may hold a path
        detail = f"the models cannot be written or read: {error.strerror or type(error).__name__}"
        answer(Failed(reason=CaseFailureReason.RUNTIME_ERROR, detail=detail))
    except MemoryError:
        answer(Failed(reason=CaseFailureReason.OUT_OF_MEMORY, detail="memory ran out"))
