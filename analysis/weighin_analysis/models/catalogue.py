"""The catalogue of published models, read from data/models.toml."""

import re
from difflib import get_close_matches
from functools import cache

from weighin_analysis.data_files import read_text
from weighin_analysis.errors import CatalogError
from weighin_analysis.models.catalogue_file import parse_catalogue
from weighin_analysis.models.entry import ModelEntry


@cache
def catalogue() -> dict[str, ModelEntry]:
    """Return every model of the catalogue by its name."""
    return {entry.name: entry for entry in parse_catalogue(read_text("models.toml"))}


def entry(name: str) -> ModelEntry:
    """Return the model of a name or an alias, however its words are capitalised and parted.

    Nothing is guessed: CatalogError names the nearest ones for any other text.
    """
    found = _by_key().get(key(name))
    if found is None:
        near = get_close_matches(key(name), _by_key(), n=3, cutoff=0.5)
        nearest = ", ".join(dict.fromkeys(_by_key()[one].name for one in near))
        raise CatalogError(f"unknown model {name!r}; {f'nearest are {nearest}' if near else 'no name is near'}")
    return found


def key(name: str) -> str:
    """Return what two spellings of one name have in common: small letters, words parted by single hyphens."""
    return re.sub(r"[\s_/-]+", "-", name.strip().casefold())


@cache
def _by_key() -> dict[str, ModelEntry]:
    return {key(name): one for one in catalogue().values() for name in (one.name, *one.aliases)}
