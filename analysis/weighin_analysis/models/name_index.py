"""Every name of the catalogue taken apart, and which of them a text holds."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise

from weighin_analysis.data_files import read_data
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.models.closed import ClosedModel, closed_models
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.models.name_tokens import NameParts, SizeKind, StatedSize, Word, fold, take_apart

_NEAR = 0.10  # a rounded size and the true one: 117M and 124M of GPT-2 are 6 % apart
_MOST_COMPARED = 8  # words that are compared with the families by their spelling
_LIKE = 1.2  # of 2 for words alike
_SAME = 0.05  # where the size alone tells which member of a family is meant


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A key that a text holds: the words and sizes of the text that it explains, and the words that it does not."""

    key: Key
    core: frozenset[Word | StatedSize]
    extra: tuple[str, ...] = ()


@cache
def name_words() -> NameWords:
    """Return the words of data/name_words.toml."""
    rows = read_data("name_words.toml")
    one_size = tuple(rows.pop("one_size"))
    return NameWords(one_size=one_size, **{kind: frozenset(words) for kind, words in rows.items()})


def parts_of(text: str) -> NameParts:
    """Return a folded text taken apart, its words joined and split as the catalogue writes them."""
    return _canonical(take_apart(text))


def fits(parts: NameParts) -> list[Fit]:
    """Return every key that a text holds, in the order of the catalogue."""
    texts = _texts(parts.words)
    named = (key for key in _keys_with(parts) if key.texts <= texts)
    return [fit for key in named if (fit := _fit(key, parts)) is not None]


def fits_by_size(parts: NameParts) -> list[Fit]:
    """Return the members of a family that a stated size singles out.

    By their true size where only a word like medium is missing (phi3:14b is Phi-3-medium), by the size in their name
    where the family has a version (deepseek-r1:1.5b is DeepSeek-R1-Distill-Qwen-1.5B).
    """
    words = {word for word in parts.words if word.text not in name_words().tuning}
    totals = [size for size in parts.sizes if size.kind is SizeKind.TOTAL]
    if not words or len(totals) != 1 or len(parts.sizes) != 1:
        return []
    has_version = any(word.version for word in words)
    return [
        Fit(key=key, core=parts.sizes)
        for key in _keys_with(parts)
        if key.closed is None and words <= key.words
        if (has_version and key.sizes == parts.sizes) or _is_singled_out(key, words, totals[0].parameters)
    ]


def _is_singled_out(key: Key, words: set[Word], parameters: int) -> bool:
    is_plain = not key.sizes and all(word.text in name_words().size_words for word in key.words - words)
    return is_plain and _is_near(parameters, key.entry.parameters, _SAME)


def is_bare(key: Key) -> bool:
    """Whether a key says less than the name of its model: BERT, which usually means BERT-base-uncased."""
    own = parts_of(fold(key.entry.name))
    return key.closed is None and key.words | key.sizes < _required(own) | own.sizes


def relatives(parts: NameParts) -> list[Key]:
    """Return the keys that share the word of a family with a text; T5 is one, too."""
    families = _index().families
    own = {word for word in parts.words if word.text in families}
    lettered = {word for word in parts.words if len(word.text) == 1 and word.version}
    texts = _texts(own)
    return [key for key in _keys_with(parts) if key.texts & texts or key.words & lettered]


def respelled(parts: NameParts) -> NameParts:
    """Return a text that names no family with its words read as the families that they are spelled most like."""
    index = _index()
    if _texts(parts.words) & index.families:
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
                texts=_texts(parts.words),
                sizes=parts.sizes,
                closed=closed,
            )


def _texts(words: Iterable[Word]) -> frozenset[str]:
    return frozenset(word.text for word in words)


def _open_keys(entry: ModelEntry, name: str) -> Iterator[Key]:
    parts = parts_of(fold(name))
    required = _required(parts)
    key = Key(entry=entry, name=name, parts=parts, words=required, texts=_texts(required), sizes=parts.sizes)
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


def _keys_with(parts: NameParts) -> list[Key]:
    index = _index()
    places = {place for text in _texts(parts.words) for place in index.by_word.get(text, ())}
    return [index.keys[place] for place in sorted(places)]


def _fit(key: Key, parts: NameParts) -> Fit | None:
    matched = {word for word in parts.words if any(_is_word(key, wanted, word) for wanted in key.words)}
    if len(_texts(matched)) < len(key.words) or not _sizes_agree(key, parts):
        return None
    optional = {word.text for word in key.parts.words if word not in key.words}
    extra = tuple(word.text for word in parts.words if word not in matched and word.text not in optional)
    core = frozenset(matched) | key.sizes
    if key.is_undisclosed:
        return _closed_fit(key, core, parts, extra)
    if not key.sizes and not key.parts.tags <= parts.tags:
        return None
    words = name_words()
    blocking = words.other_weights | words.part
    if key.entry.kind is ModelKind.ENCODER:
        blocking |= words.encoder_vocabularies
    if not key.sizes:
        blocking |= words.student | (words.size_words - words.tuning)
    unexplained = tuple(text for text in extra if text not in words.tuning)
    if blocking & set(extra) or (unexplained and not _carries_a_tune(key, parts)):
        return None
    return Fit(key=key, core=core, extra=unexplained)


def _closed_fit(key: Key, core: frozenset[Word | StatedSize], parts: NameParts, extra: tuple[str, ...]) -> Fit | None:
    words = name_words()
    assert key.closed is not None
    variants = words.tuning | words.size_words | words.other_weights | words.product
    foreign = tuple(text for text in extra if text not in variants)
    if foreign and (key.closed.strict or parts.sizes or set(foreign) & (words.student | words.part)):
        return None
    return Fit(key=key, core=core)


def _carries_a_tune(key: Key, parts: NameParts) -> bool:
    """Whether a name with further words still tells the size: by a number, a versioned family, or words up front."""
    if key.closed is not None:
        return False
    if key.sizes or any(word.version for word in key.words):
        return True
    return len(key.words) > 1 and Word(text=parts.words[0].text) in key.words


def _is_word(key: Key, wanted: Word, word: Word) -> bool:
    if wanted.text != word.text:
        return False
    if wanted.version == word.version:
        return True
    if wanted.version:
        return False
    if key.closed is not None:
        return key.is_undisclosed
    # Gemma 1 is Gemma; in Mistral Small 3.2 24B the number settles what the version of a size word would.
    return bool(key.sizes) and (word.version == "1" or word.text in name_words().size_words)


def _sizes_agree(key: Key, parts: NameParts) -> bool:
    """Whether the text states the sizes of the key, and no other that contradicts the model."""
    stated = set(parts.sizes)
    for size in key.sizes:
        if size in stated:
            stated.discard(size)
        elif size.kind is SizeKind.ACTIVE and not any(other.kind is SizeKind.ACTIVE for other in stated):
            continue  # Qwen3-30B is Qwen3-30B-A3B
        elif size.kind is SizeKind.EFFECTIVE and replace(size, kind=SizeKind.TOTAL) in stated:
            stated.discard(replace(size, kind=SizeKind.TOTAL))
        else:
            return False
    if key.is_undisclosed:
        return True  # what a rumour says changes nothing
    entry = key.entry
    for size in stated:
        counts = {
            SizeKind.TOTAL: (entry.parameters,),
            SizeKind.ACTIVE: (entry.active_parameters,),
            SizeKind.EFFECTIVE: (entry.active_parameters,),
            SizeKind.PER_EXPERT: (),
        }[size.kind]
        if not any(_is_near(size.parameters, count, _NEAR) for count in counts):
            return False
    return True


def _is_near(stated: int, true: int | None, tolerance: float) -> bool:
    return true is not None and abs(stated - true) <= tolerance * true


def _letter_pairs(text: str) -> frozenset[str]:
    return frozenset(first + second for first, second in pairwise(text[:24]))


@lru_cache(maxsize=1024)
def _family_like(text: str) -> str | None:
    """Return the family that is spelled most like a word, None where none is much like it."""
    index, pairs = _index(), _letter_pairs(text)
    if len(text) < 3 or text in index.common:
        return None
    shared = Counter(family for pair in pairs for family in index.by_pair.get(pair, ()))
    likeness = {
        family: 2 * count / (len(pairs) + len(_letter_pairs(family))) + _letters_in_common(text, family)
        for family, count in shared.items()
        if 3 * count >= len(pairs)
    }
    return max(
        (family for family in likeness if likeness[family] >= _LIKE), key=lambda one: likeness[one], default=None
    )


def _letters_in_common(one: str, other: str) -> float:
    """Return the share of letters that two words have in common, wherever they stand: qwne and qwen have all."""
    return 2 * (Counter(one) & Counter(other)).total() / (len(one) + len(other))
