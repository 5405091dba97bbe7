"""The command ``weighin-aggregator``: exit codes, and one line for whatever ends it."""

import os
import sys
from importlib.abc import MetaPathFinder

from weighin_aggregator.errors import AggregatorError, UsageError
from weighin_analysis.interruption import is_interruption

# What a shell reports for a program that SIGINT ended.
_INTERRUPTED = 130


# gRPC reports every failed handshake on standard error in a format of its own, and before it is loaded is the only time
# to stop that: the log is ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


class WithoutPandas(MetaPathFinder):
    """Refuses to import pandas, for the length of a process.

    Where it is installed, DuckDB and pyarrow import it at the first value that they are handed: half a second, to look
    whether that is one of its kinds of nothing.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Find nothing."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not loaded here", name=name)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 bad usage, 130 ended by Ctrl-C."""
    os.umask(0o077)  # What it writes holds what devices sent, or keys.
    sys.meta_path.insert(0, WithoutPandas())
    try:
        # Loading takes most of a second, in which Ctrl-C must be as quiet as later.
        from weighin_aggregator.commands import command_line  # noqa: PLC0415

        try:
            command_line.run(arguments)
        finally:
            # The interpreter itself would flush --help and --version, too late for an error to be one line.
            print(end="", flush=True)
    except UsageError as error:
        return _complain(str(error), 2)
    except AggregatorError as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, ImportError, RuntimeError) as error:
        if not is_interruption(error):
            raise
        return _complain("stopped by Ctrl-C", _INTERRUPTED)
    except OSError as error:
        return _fail(error)
    return 0


def _fail(error: OSError) -> int:
    # An error about a file names it; one about standard output, which came to us open, names nothing.
    if error.filename is not None:
        return _complain(str(error), 1)
    # The interpreter would try to write the rest at exit, and complain on its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough
        return 1
    return _complain(f"cannot write to standard output: {error.strerror}", 1)


def _complain(text: str, code: int) -> int:
    print(f"weighin-aggregator: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
