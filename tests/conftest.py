"""What holds for every test: with WEIGHIN_REQUIRE_ALL=1 a test that this machine cannot run is a failure."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure that names its reason; CI installs whatever a test needs."""
    report = yield
    if report.skipped and os.environ.get("WEIGHIN_REQUIRE_ALL") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"WEIGHIN_REQUIRE_ALL=1, but skipped: {report.longrepr}"
    return report
