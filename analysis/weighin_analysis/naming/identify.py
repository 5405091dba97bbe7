"""From the text of a name to the model it means: what is known of it, how, and what the name leaves open.

Nothing is guessed. A model is known if the text holds every word, version and size of one of its names in the
catalogue; what else it says must not change the size. docs/names.md tells the rules.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from math import inf, log

from weighin_analysis.catalog import size_class_of, size_classes
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.naming.artefact import NamedArtefact, read_artefact
from weighin_analysis.naming.fit import Fit, fits, fits_by_size
from weighin_analysis.naming.index import (
    Key,
    is_bare,
    is_other_name,
    is_version,
    known_keys,
    name_words,
    of_same_size,
    parts_of,
    relatives,
    respelled,
)
from weighin_analysis.naming.tokens import LONGEST_NAME, NameParts, SizeKind, fold, readings, with_versions_for_tags
from weighin_analysis.sizes.artefact import Format

_MOST_CANDIDATES = 5
_MOST_WORDS = 48  # in a name; a text with more of them is none
_SAME_SIZE = 0.01  # models that differ by less weigh the same


class How(StrEnum):
    """How a text was recognised, from strongest to weakest."""

    NAME = "name"  # it is a name of the catalogue
    ALIAS = "alias"  # another spelling, or words and a file type that do not change the size
    BASE = "base"  # a model made from one of the catalogue, whose family and size the name states
    UNDISCLOSED = "undisclosed"  # a model whose publisher does not tell its size
    STATED = "stated"  # not in the catalogue; the name states a size
    UNKNOWN = "unknown"  # nothing, too little, or what contradicts itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """What a text tells of a model. ``reason`` is one sentence for a person and holds nothing of the text but sizes.

    ``entry`` is the model of the catalogue, or one without published weights; None when it is not known. Then
    ``parameters`` and ``active_parameters`` are what the name states, None where it states none. ``disclosed``: the
    model is known, and its size is published; of a text that is not known, nothing is said. ``scheme`` is spelled as
    ``format`` spells it, and as the name does where the format is None. ``candidates`` are names of the catalogue,
    nearest first.
    """

    text: str
    how: How
    reason: str
    entry: ModelEntry | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    disclosed: bool = False
    format: Format | None = None
    scheme: str | None = None
    candidates: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether the text names one model, be its size disclosed or not."""
        return self.entry is not None

    @property
    def size_class(self) -> str | None:
        """The size class of the parameters; the last one for an undisclosed model, None where they are not known."""
        if self.how is How.UNDISCLOSED:
            return size_classes()[-1].name
        return None if self.parameters is None else size_class_of(self.parameters).name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """What the parts of a name amount to: a fit, or the reason why there is none and who was meant perhaps."""

    parts: NameParts
    reason: str
    fit: Fit | None = None
    perhaps: tuple[Key, ...] = ()


def identify(text: str) -> Identification:
    """Return what a name, a file name, a path or an address tells of a model. Never raises, for any text."""
    if len(text) > LONGEST_NAME:
        return Identification(text=text, how=How.UNKNOWN, reason=f"no name is longer than {LONGEST_NAME} characters")
    artefact = read_artefact(_without_query(fold(text)))
    name, telling = _telling_component(artefact.rest)
    finding = _find(telling)
    if finding.fit is not None:
        recognised = _recognised(text, artefact, finding, finding.fit)
        is_name = recognised.how is How.ALIAS and name.strip(" -_.:") == fold(finding.fit.key.entry.name)
        return replace(recognised, how=How.NAME) if is_name else recognised
    return _unrecognised(text, artefact, finding)


def _without_query(folded: str) -> str:
    return folded.partition("?")[0] if "://" in folded else folded


def _telling_component(path: str) -> tuple[str, str]:
    """Return the last component of a path that says more than the role of a file, as onnx/model does not.

    Once as it stands, and once with the size that a folder of its own states.
    """
    gathered = ""
    for component in reversed([one for one in re.split(r"[/\\]+|--", path) if one.strip()]):
        parts = parts_of(component)
        if {word.text for word in parts.words} - name_words().generic and not _is_hash(component):
            return (component, component) if not gathered else (path, f"{component} {gathered}")
        if parts.sizes:  # google/gemma/2b
            gathered = f"{component} {gathered}"
    return path, gathered or path


def _is_hash(component: str) -> bool:
    return re.fullmatch(r"\s*[0-9a-f]{16,64}\s*", component) is not None


def _find(text: str) -> _Finding:
    """Return what a text amounts to in the one reading that the catalogue knows, or that all readings agree on."""
    findings = [_of_reading(parts_of(reading)) for reading in readings(text)]
    known = {finding.fit.key.entry.name: finding for finding in reversed(findings) if finding.fit is not None}
    if len(known) == 1:
        return next(iter(known.values()))
    sizes = {finding.parts.sizes for finding in findings}
    if len(known) > 1 or len(sizes) > 1:
        perhaps = tuple(key for finding in findings for key in finding.perhaps)
        perhaps += tuple(finding.fit.key for finding in known.values() if finding.fit is not None)
        parts = replace(findings[0].parts, sizes=frozenset())
        return _Finding(
            parts=parts, reason="its underscores may be points or gaps, and the size depends", perhaps=perhaps
        )
    return _with_versions(text, findings[0].parts) or findings[0]


def _with_versions(text: str, parts: NameParts) -> _Finding | None:
    """Return what a text amounts to with its tags as versions that its words have in the catalogue, None if nothing."""
    versioned = parts_of(with_versions_for_tags(text))
    if not all(is_version(word) for word in set(versioned.words) - set(parts.words)):
        return None
    finding = _of_reading(versioned)
    return finding if finding.fit is not None else None


def _of_reading(parts: NameParts) -> _Finding:
    finding = _of_parts(parts)
    if finding.fit is not None:
        return finding
    perhaps: list[Key] = []
    for word, size in parts.glued:
        words = tuple(word if one.text == word.text else one for one in parts.words)
        apart = replace(parts, words=words, sizes=frozenset({size}), glued=())
        other = _of_parts(apart)
        if other.fit is not None or is_version(word):
            perhaps += [other.fit.key] if other.fit is not None else relatives(apart)
    if perhaps:
        perhaps += [key for key in finding.perhaps if key.sizes == parts.sizes]
        reason = "its digits may be a size, or a version and a size"
        return _Finding(parts=replace(parts, sizes=frozenset()), reason=reason, perhaps=tuple(perhaps))
    return finding


def _of_parts(parts: NameParts) -> _Finding:
    nothing = partial(_Finding, parts=parts)
    if len(parts.words) > _MOST_WORDS:
        return nothing(reason=f"no name has more than {_MOST_WORDS} words")
    part = next((word.text for word in parts.words if word.text in name_words().part), None)
    if part is not None:
        return nothing(reason=f"“{part}” names something that goes with a model, not a model")
    if parts.is_twofold:
        return nothing(
            reason="the name states one size twice, as for two halves", perhaps=tuple(relatives(respelled(parts)))
        )
    found = fits(parts)
    if any(fit.key.sizes and fit.key.closed is None for fit in found):
        # No weights of a closed model are about: beside an open model's name and size it is a teacher or a boast.
        found = [fit for fit in found if not fit.key.is_undisclosed]
    if not found:
        return _of_size(parts)
    widest = [fit for fit in found if not any(fit.core < other.core for other in found)]
    cores = {fit.core for fit in widest}
    entries = list(dict.fromkeys(fit.key.entry.name for fit in widest))
    if len(cores) > 1 and len(entries) > 1:
        named = " and ".join(entries[:3])
        return nothing(reason=f"the name fits {named}, which are different models", perhaps=_keys(widest))
    return _one_of(widest, parts)


def _of_size(parts: NameParts) -> _Finding:
    found = fits_by_size(parts)
    if not found:
        return _nothing_found(parts)
    entries = {fit.key.entry.name: fit.key.entry for fit in found}
    if all(_weigh_the_same(found[0].key.entry, other) for other in entries.values()):
        return _one_of(found, parts)
    named = " and ".join(list(entries)[:3])
    reason = f"the family has several models of that size: {named}"
    return _Finding(parts=parts, reason=reason, perhaps=_keys(found))


def _one_of(widest: Sequence[Fit], parts: NameParts) -> _Finding:
    """Choose among models whose names differ in what may be left out: a revision, the length of the context."""
    agreeing = max(_agreement(fit, parts) for fit in widest)
    best = [fit for fit in widest if _agreement(fit, parts) == agreeing]
    first = best[0]
    others = {fit.key.entry.name: fit.key.entry for fit in best if fit.key.entry.name != first.key.entry.name}
    if not others:
        return _Finding(parts=parts, reason="", fit=first)
    named = " or ".join([first.key.entry.name, *list(others)[:3]])
    if all(_weigh_the_same(first.key.entry, other) for other in others.values()):
        return _Finding(parts=parts, reason=f"{named}, which weigh the same; taken as the first", fit=first)
    return _Finding(parts=parts, reason=f"the name fits {named}, which differ in size", perhaps=_keys(best))


def _agreement(fit: Fit, parts: NameParts) -> tuple[int, int, int]:
    """Return how much of what may be left out the text and the key share, and how little only one of them has."""
    own = fit.key.parts
    shared = len(own.tags & parts.tags) + len(own.marks & parts.marks)
    foreign = len(own.tags - parts.tags) + len(own.marks - parts.marks)
    words = {word.text for word in own.words} ^ {word.text for word in parts.words}
    return shared, -foreign, -len(words)


def _weigh_the_same(one: ModelEntry, other: ModelEntry) -> bool:
    if one.parameters is None or other.parameters is None:
        return one.parameters is other.parameters
    return abs(one.parameters - other.parameters) <= _SAME_SIZE * one.parameters


def _nothing_found(parts: NameParts) -> _Finding:
    near = tuple(relatives(respelled(parts)) or of_same_size(parts))
    nothing = partial(_Finding, parts=parts, perhaps=near)
    sizes = {(size.kind, size.parameters, size.experts) for size in parts.sizes}
    if len([1 for kind, _, _ in sizes if kind is SizeKind.TOTAL]) > 1:
        return nothing(reason="the name states several sizes that contradict each other")
    if sizes:
        return nothing(reason="")  # the size itself is the answer
    texts = {word.text for word in parts.words}
    of_family = [key for key in near if texts & key.texts]
    names_of_family = {text for key in of_family for text in key.texts}
    words_of_family = {word for key in of_family for word in key.words}
    is_family = all(
        word in words_of_family if word.version else word.text in names_of_family | name_words().tuning
        for word in parts.words
    )
    if of_family and is_family:
        return nothing(reason="the name leaves open which model of the family is meant")
    if of_family:
        return nothing(reason="the catalogue has models of that family, but not this one")
    return nothing(reason="no model of the catalogue has such a name")


def _keys(found: Sequence[Fit]) -> tuple[Key, ...]:
    return tuple(fit.key for fit in found)


def _recognised(text: str, artefact: NamedArtefact, finding: _Finding, fit: Fit) -> Identification:
    entry, closed, parts = fit.key.entry, fit.key.closed, finding.parts
    if closed is not None and not entry.disclosed:
        how, reason = How.UNDISCLOSED, f"{closed.publisher} does not tell how many parameters {entry.name} has"
        if frozenset(parts.words) != frozenset(parts_of(fold(entry.name)).words):
            reason = f"one of the {entry.name} line; {closed.publisher} does not tell how many parameters it has"
    elif fit.extra:
        how, reason = How.BASE, f"it names family and size of {entry.name}, and is taken to have its shape"
    elif is_other_name(fit.key):
        how, reason = How.ALIAS, f"it has the shape of {entry.name}, which is in the catalogue"
    else:
        how, reason = How.ALIAS, f"{entry.name} is in the catalogue"
        if is_bare(fit.key) and not parts.sizes:
            reason = f"{reason}; the name does not say which of its family, and usually means this one"
    if closed is not None and entry.disclosed:
        reason = f"{closed.publisher} published the number of parameters of {entry.name}, but not its weights"
    if finding.reason:
        reason = f"{reason} ({finding.reason})"
    return Identification(
        text=text,
        how=how,
        reason=_with_true_size(reason, parts, entry),
        entry=entry,
        parameters=entry.parameters,
        active_parameters=entry.active_parameters,
        disclosed=entry.disclosed,
        format=artefact.format,
        scheme=artefact.scheme,
    )


def _with_true_size(reason: str, parts: NameParts, entry: ModelEntry) -> str:
    stated = [size.parameters for size in parts.sizes if size.kind is SizeKind.TOTAL]
    if entry.parameters is None or len(stated) != 1 or abs(stated[0] - entry.parameters) <= 0.1 * stated[0]:
        return reason
    return f"{reason}; the name says {say_parameters(stated[0])}, it has {say_parameters(entry.parameters)}"


def _unrecognised(text: str, artefact: NamedArtefact, finding: _Finding) -> Identification:
    parts = finding.parts
    totals = {size.parameters for size in parts.sizes if size.kind is SizeKind.TOTAL}
    active = {size.parameters for size in parts.sizes if size.kind in {SizeKind.ACTIVE, SizeKind.EFFECTIVE}}
    per_expert = [size for size in parts.sizes if size.kind is SizeKind.PER_EXPERT]
    parameters = totals.pop() if len(totals) == 1 and not per_expert else None
    how, reason = How.UNKNOWN, finding.reason
    if not reason and parameters is not None:
        how = How.STATED
        reason = (
            f"not in the catalogue; {say_parameters(parameters)} parameters is what the name states, "
            "and names mislead: Gemma 7B has 8.5 billion"
        )
    elif not reason and per_expert:
        reason = "not in the catalogue; experts share attention, so their number times their size is not the model's"
    elif not reason:
        reason = "not in the catalogue; the name states how many parameters a token uses, not how many there are"
    perhaps = finding.perhaps or (tuple(known_keys()) if how is How.STATED else ())
    return Identification(
        text=text,
        how=how,
        reason=reason,
        parameters=parameters if how is How.STATED else None,
        active_parameters=active.pop() if len(active) == 1 else None,
        format=artefact.format,
        scheme=artefact.scheme,
        candidates=_nearest(perhaps, parts, parameters),
    )


def _nearest(keys: Sequence[Key], parts: NameParts, parameters: int | None) -> tuple[str, ...]:
    """Return the names of models, those first that share the most words, then those of the nearest size."""
    words = set(respelled(parts).words)
    texts = {word.text for word in words}

    def distance(key: Key) -> tuple[int, int, int, float]:
        shared = len(words & key.words)
        similar = len(texts & key.texts)
        known = key.entry.parameters
        apart = abs(log(parameters / known)) if parameters and known else inf if parameters else 0.0
        return -shared, -similar, len(key.texts - texts), apart

    return tuple(dict.fromkeys(key.entry.name for key in sorted(keys, key=distance)))[:_MOST_CANDIDATES]


def say_parameters(count: int) -> str:
    """Return a number of parameters in words: 8.5 billion."""
    for unit, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:,}"
