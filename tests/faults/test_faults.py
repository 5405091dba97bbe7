"""Every fault of `make faults` at the size of CI, and what must hold of it: its own ``missed`` is empty.

WEIGHIN_SEED repeats the moments of a failure. SIGKILL leaves the page cache alone, so this says nothing about the loss
of power.
"""

import math
import os
import random
from pathlib import Path

import pytest
from faults import full_disk, kill_aggregator
from faults.catalogue import FAULTS, Fault, Size
from faults.full_disk import NoSmallDiskError


@pytest.fixture
def chance() -> random.Random:
    """Where the faults fall; the seed is printed for a failure to be repeated."""
    seed = int(os.environ.get("WEIGHIN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WEIGHIN_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of time are for a quiet machine, where `make faults` holds every restart against its own."""
    monkeypatch.setattr(kill_aggregator, "MOST_RECOVERY_SECONDS", math.inf)
    monkeypatch.setattr(full_disk, "MOST_RECOVERY_SECONDS", 2 * full_disk.MOST_RECOVERY_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [pytest.param(one, id=one.name) for one in FAULTS if Size.CI in one.sizes])
def test_a_fault_loses_nothing_that_was_acknowledged_and_stores_nothing_twice(
    fault: Fault, tmp_path: Path, chance: random.Random
) -> None:
    try:
        figures = fault.inject(tmp_path, fault.sizes[Size.CI], chance)
    except NoSmallDiskError as error:
        pytest.skip(str(error))
    print(figures)
    assert figures.missed == ()
