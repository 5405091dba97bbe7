from collections.abc import Iterator
from pathlib import Path

import aggregator_process
import pytest


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of one server that all tests share which only need answers; run ids keep them apart."""
    folder = tmp_path_factory.mktemp("shared")
    with aggregator_process.serving(folder / "data", folder / "log") as server:
        yield server.address


@pytest.fixture
def client(address: str) -> Iterator[aggregator_process.Client]:
    """A client of the shared server."""
    with aggregator_process.client(address) as client:
        yield client


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory of a test's own, not made yet."""
    return tmp_path / "data"
