"""Ctrl-C, also where it comes out of other people's code as another error."""


def is_interruption(error: BaseException) -> bool:
    """Tell whether Ctrl-C is behind an error.

    Inside a statement of DuckDB it comes out as a RuntimeError, and inside an extension module that is being loaded as
    an ImportError, both with the KeyboardInterrupt as their cause.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__
    return cause is not None
