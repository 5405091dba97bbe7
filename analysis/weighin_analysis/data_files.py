"""The data files of this package."""

import tomllib
from importlib.resources import files
from typing import Any

from weighin_analysis.errors import CatalogError


def read_text(name: str) -> str:
    """Return the text of a data file of this package; CatalogError if there is no such file."""
    path = files("weighin_analysis") / "data" / name
    if not path.is_file():
        raise CatalogError(f"there is no data file {name}")
    return path.read_text(encoding="utf-8")


def read_data(name: str) -> dict[str, Any]:
    """Return a data file of this package as the tables of its TOML; CatalogError if there is no such file."""
    return tomllib.loads(read_text(name))


def data_names(folder: str) -> tuple[str, ...]:
    """Return the names of the data files in a folder of this package's data."""
    return tuple(one.name for one in (files("weighin_analysis") / "data" / folder).iterdir())
