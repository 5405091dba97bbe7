"""The command `weighin-agent`: signals, exit codes and errors. What it does is wired in commands.py."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from weighin_agent.errors import AgentError, UsageError
from weighin_agent.output import silence_output
from weighin_analysis.errors import AnalysisError, QuestionError, WhatIfError
from weighin_analysis.interruption import is_interruption

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 success, 1 "no" or some part failed, 2 bad usage, 130 interrupted."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP; a closed terminal sends it
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    try:
        code = _run(arguments)
    except AgentError as error:
        code = _complain(str(error), error.exit_code)
    except (QuestionError, WhatIfError) as error:
        code = _complain(str(error), UsageError.exit_code)
    except AnalysisError as error:
        code = _complain(str(error), 1)
    except (KeyboardInterrupt, ImportError, RuntimeError) as error:
        if not is_interruption(error):
            raise
        code = _complain("interrupted; nothing was left running", INTERRUPTED)
    except BrokenPipeError:  # whoever read the help has seen enough
        silence_output()
        code = 1
    except OSError as error:
        if error.filename is not None:
            raise  # a file, not our output: a bug, and its traceback is wanted
        silence_output()
        code = _complain(f"the output cannot be written: {error.strerror}", 1)
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    # gRPC would write lines of its own about a handshake that failed; ours says what it means. Read at its import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imported here, where Ctrl-C is one line already: it takes a second.
    from weighin_agent.commands import parser  # noqa: PLC0415

    options = parser().parse_args(arguments)
    command: Callable[..., int] = options.command
    code = command(options)
    if sys.stdout is not None:  # closed by whoever started us
        sys.stdout.flush()
    return code


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _complain(text: str, code: int) -> int:
    print(f"weighin-agent: {text}", file=sys.stderr)
    return code
