"""What the end of a process is called."""

import pytest

from weighin_agent.exit_codes import signal_name


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (40, "signal 40"), (1000, "signal 1000")])
def test_every_signal_has_a_name_also_those_that_python_does_not_list(number: int, name: str) -> None:
    """Real-time signals between the first and the last have numbers only."""
    assert signal_name(number) == name
