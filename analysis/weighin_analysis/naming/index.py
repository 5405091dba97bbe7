"""Every name of the catalogue taken apart, to be found by its words or by what is spelled like them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise

from weighin_analysis.data_files import read_data
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.naming.closed import ClosedModel, closed_models
from weighin_analysis.naming.tokens import NameParts, StatedSize, Word, fold, take_apart

_MOST_COMPARED = 8  # words that are compared with the families by their spelling
_LIKE = 1.2  # of 2 for words alike


@dataclass(frozen=True, slots=True, kw_only=True)
class NameWords:
    """Words of names by what they tell of the size; data/name_words.toml says what each kind means."""

    tuning: frozenset[str]
    generic: frozenset[str]
    size_words: frozenset[str]
    other_weights: frozenset[str]
    encoder_vocabularies: frozenset[str]
    student: frozenset[str]
    part: frozenset[str]
    product: frozenset[str]
    one_size: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One name of a model, taken apart: all its ``words`` and ``sizes`` have to be in a text that names the model.

    ``closed`` is None where the weights are published.
    """

    entry: ModelEntry
    name: str
    parts: NameParts
    words: frozenset[Word]
    texts: frozenset[str]  # of the words
    sizes: frozenset[StatedSize]
    closed: ClosedModel | None = None

    @property
    def is_undisclosed(self) -> bool:
        """Whether the model is one whose publisher does not tell its size."""
        return self.closed is not None and not self.entry.disclosed


@cache
def name_words() -> NameWords:
    """Return the words of data/name_words.toml."""
    rows = read_data("name_words.toml")
    one_size = tuple(rows.pop("one_size"))
    return NameWords(one_size=one_size, **{kind: frozenset(words) for kind, words in rows.items()})


def parts_of(text: str) -> NameParts:
    """Return a folded text taken apart, its words joined and split as the catalogue writes them."""
    return _canonical(take_apart(text))


def is_bare(key: Key) -> bool:
    """Whether a key says less than the name of its model: BERT, which usually means BERT-base-uncased."""
    own = parts_of(fold(key.entry.name))
    return key.closed is None and key.words | key.sizes < _required(own) | own.sizes


def relatives(parts: NameParts) -> list[Key]:
    """Return the keys that share the word of a family with a text; T5 is one, too."""
    families = _index().families
    own = {word for word in parts.words if word.text in families}
    lettered = {word for word in parts.words if len(word.text) == 1 and word.version}
    texts = texts_of(own)
    return [key for key in keys_with(parts) if key.texts & texts or key.words & lettered]


def is_other_name(key: Key) -> bool:
    """Whether a key is the name of another model than that of its entry, which has the same shape."""
    own = _required(parts_of(fold(key.entry.name)))
    texts = texts_of(own) | name_words().size_words
    return any(word.text not in texts or (word.version and word not in own) for word in key.words)


def is_version(word: Word) -> bool:
    """Whether a model of the catalogue has that word with that version in its name."""
    return word in _index().words


def of_same_size(parts: NameParts) -> list[Key]:
    """Return the keys that state the sizes of a text."""
    return [key for key in _index().keys if parts.sizes and key.sizes == parts.sizes]


def respelled(parts: NameParts) -> NameParts:
    """Return a text that names no family with its words read as the families that they are spelled most like."""
    index = _index()
    if texts_of(parts.words) & index.families:
        return parts
    compared = parts.words[:_MOST_COMPARED]
    likely = [Word(text=like, version=word.version) for word in compared if (like := _family_like(word.text))]
    return replace(parts, words=tuple(likely)) if likely else parts


@cache
def known_keys() -> tuple[Key, ...]:
    """Return one key for every model of the catalogue, for models of like size where no name is like."""
    return tuple({key.entry.name: key for key in _index().keys if key.closed is None}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    keys: tuple[Key, ...]
    by_word: dict[str, tuple[int, ...]]  # places in keys
    by_pair: dict[str, tuple[str, ...]]  # families by the pairs of letters that they are spelled with
    words: frozenset[Word]
    families: frozenset[str]
    common: frozenset[str]  # words that are no family's


@cache
def _index() -> _Index:
    keys = tuple(_keys())
    by_word: dict[str, list[int]] = defaultdict(list)
    by_pair: dict[str, list[str]] = defaultdict(list)
    for place, key in enumerate(keys):
        for text in key.texts:
            by_word[text].append(place)
    words = name_words()
    common = (
        words.size_words | words.tuning | words.other_weights | words.encoder_vocabularies | words.student | words.part
    )
    families = frozenset(text for text in by_word if text not in common and len(text) > 1)
    for text in families:
        for pair in _letter_pairs(text):
            by_pair[pair].append(text)
    return _Index(
        keys=keys,
        by_word={text: tuple(found) for text, found in by_word.items()},
        by_pair={pair: tuple(found) for pair, found in by_pair.items()},
        words=frozenset(word for key in keys for word in key.words),
        families=families,
        common=common,
    )


def _keys() -> Iterator[Key]:
    for entry in catalogue().values():
        for name in (entry.name, *entry.aliases):
            yield from _open_keys(entry, name)
    for closed in closed_models():
        for name in closed.names:
            parts = parts_of(fold(name))
            yield Key(
                entry=closed.entry,
                name=name,
                parts=parts,
                words=frozenset(parts.words),
                texts=texts_of(parts.words),
                sizes=parts.sizes,
                closed=closed,
            )


def texts_of(words: Iterable[Word]) -> frozenset[str]:
    """Return words without their versions."""
    return frozenset(word.text for word in words)


def _open_keys(entry: ModelEntry, name: str) -> Iterator[Key]:
    parts = parts_of(fold(name))
    required = _required(parts)
    key = Key(entry=entry, name=name, parts=parts, words=required, texts=texts_of(required), sizes=parts.sizes)
    yield key
    if key.sizes and required in _one_size_words():
        yield replace(key, sizes=frozenset())


def _required(parts: NameParts) -> frozenset[Word]:
    optional = name_words().tuning - name_words().size_words
    return frozenset(word for word in parts.words if word.text not in optional) or frozenset(parts.words)


@cache
def _one_size_words() -> frozenset[frozenset[Word]]:
    return frozenset(frozenset(parts_of(fold(name)).words) for name in name_words().one_size)


@cache
def _vocabulary() -> tuple[frozenset[str], dict[str, tuple[str, str]]]:
    """Return all words of all names, and the neighbours among them by how they look written as one."""
    names = [name for entry in catalogue().values() for name in (entry.name, *entry.aliases)]
    names += [name for closed in closed_models() for name in closed.names]
    apart = [take_apart(fold(name)) for name in (*names, *name_words().one_size)]
    together = {
        first.text + second.text: (first.text, second.text)
        for parts in apart
        for first, second in pairwise(parts.words)
        if not first.version
    }
    return frozenset(word.text for parts in apart for word in parts.words), together


def _canonical(parts: NameParts) -> NameParts:
    vocabulary, together = _vocabulary()
    if not parts.words:
        return parts
    words: list[Word] = []
    for word in parts.words:
        pair = together.get(word.text)
        if words and not words[-1].version and words[-1].text + word.text in vocabulary:
            words[-1] = Word(text=words[-1].text + word.text, version=word.version)
        elif pair is not None and word.text not in vocabulary:
            words += [Word(text=pair[0]), Word(text=pair[1], version=word.version)]
        else:
            words.append(word)
    versioned = {word.text for word in words if word.version}
    return replace(parts, words=tuple(word for word in words if word.version or word.text not in versioned))


def keys_with(parts: NameParts) -> list[Key]:
    """Return the keys that share any word with a text, in the order of the catalogue."""
    index = _index()
    places = {place for text in texts_of(parts.words) for place in index.by_word.get(text, ())}
    return [index.keys[place] for place in sorted(places)]


def _letter_pairs(text: str) -> frozenset[str]:
    return frozenset(first + second for first, second in pairwise(text[:24]))


@lru_cache(maxsize=1024)
def _family_like(text: str) -> str | None:
    """Return the family that a word is spelled most like, or else ends in; None where there is none."""
    index, pairs = _index(), _letter_pairs(text)
    if len(text) < 3 or text in index.common:
        return None
    shared = Counter(family for pair in pairs for family in index.by_pair.get(pair, ()))
    likeness = {
        family: 2 * count / (len(pairs) + len(_letter_pairs(family))) + _letters_in_common(text, family)
        for family, count in shared.items()
        if 3 * count >= len(pairs)
    }
    alike = max(
        (family for family in likeness if likeness[family] >= _LIKE), key=lambda one: likeness[one], default=None
    )
    endings = (text[start:] for start in range(1, len(text) - 3))  # shieldgemma is one of the Gemmas
    return alike or next((ending for ending in endings if ending in index.families), None)


def _letters_in_common(one: str, other: str) -> float:
    """Return the share of letters that two words have in common, wherever they stand: qwne and qwen have all."""
    return 2 * (Counter(one) & Counter(other)).total() / (len(one) + len(other))
