"""What holds for every test: with WEIGHIN_REQUIRE_ALL=1 a test that this machine cannot run is a failure.

But for those whose reason has a word of WEIGHIN_MAY_SKIP: drivers that a mirror of packages may not hold, or what the
system does not let us do.
"""

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

# What hypothesis takes where it runs (in CI the same examples each time), but for its deadline: an example that takes
# over 200 ms tells how busy the machine is.
settings.register_profile("untimed", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("untimed")

# Who starts the tests in the background may ignore Ctrl-C, and a program that a test starts would do so as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure that names its reason; CI installs whatever a test needs."""
    report = yield
    allowed = os.environ.get("WEIGHIN_MAY_SKIP", "").split()
    excused = hasattr(report, "wasxfail") or any(word in str(report.longrepr).lower() for word in allowed)
    if report.skipped and os.environ.get("WEIGHIN_REQUIRE_ALL") == "1" and not excused:
        report.outcome = "failed"
        report.longrepr = f"WEIGHIN_REQUIRE_ALL=1, but skipped: {report.longrepr}"
    return report
