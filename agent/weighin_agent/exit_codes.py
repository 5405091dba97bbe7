"""What the end of a process is called."""

import signal


def signal_name(number: int) -> str:
    """Return the name of a signal, "signal 40" where it has none: Python lists no real-time signals but two."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
