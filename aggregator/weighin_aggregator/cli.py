"""The command ``weighin-aggregator``: exit codes, and one line for whatever ends it."""

import sys

from weighin_aggregator.errors import AggregatorError, UsageError

# What a shell reports for a program that SIGINT ended.
_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 bad usage, 130 ended by Ctrl-C."""
    try:
        # Loading takes most of a second, in which Ctrl-C must be as quiet as later.
        from weighin_aggregator import commands  # noqa: PLC0415

        commands.run(arguments)
    except UsageError as error:
        return _complain(str(error), 2)
    except AggregatorError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C", _INTERRUPTED)
    return 0


def _complain(text: str, code: int) -> int:
    print(f"weighin-aggregator: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
