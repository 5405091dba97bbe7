"""Whether a name is one by which a new model of the catalogue would be found."""

from collections.abc import Sequence

from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.naming.artefact import read_artefact
from weighin_analysis.naming.tokens import Word, fold, take_apart


def new_name_problems(name: str) -> list[str]:
    """Return why nobody would find a new model by its name: what a name says of files and sizes is not looked up."""
    artefact = read_artefact(fold(name))
    parts = take_apart(artefact.rest)
    if artefact.scheme is not None or artefact.format is not None:
        return ["name: states a format or a scheme, which is no part of a model's name"]
    if not parts.words:
        return ["name: holds no word that a model could be found by"]
    if not parts.sizes and any(_says_no_more(parts.words, one.name) for one in catalogue().values()):
        return ["name: is that of a family; say which of its models, as by its size"]
    return []


def _says_no_more(words: Sequence[Word], other: str) -> bool:
    """Return whether words leave open another model, too: Llama, of which there are several."""
    others = take_apart(fold(other)).words
    return all(any(word.text == one.text and word.version in {"", one.version} for one in others) for word in words)
