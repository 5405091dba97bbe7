"""Which names of the catalogue a text holds, word by word and size by size."""

from dataclasses import dataclass, replace

from weighin_analysis.models.entry import ModelKind
from weighin_analysis.naming.index import Key, keys_with, name_words, texts_of
from weighin_analysis.naming.tokens import NameParts, SizeKind, StatedSize, Word

_NEAR = 0.10  # a rounded size and the true one: 117M and 124M of GPT-2 are 6 % apart
_SAME = 0.05  # where the size alone tells which member of a family is meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A key that a text holds: the words and sizes of the text that it explains, and the words that it does not."""

    key: Key
    core: frozenset[Word | StatedSize]
    extra: tuple[str, ...] = ()


def fits(parts: NameParts) -> list[Fit]:
    """Return every key that a text holds, in the order of the catalogue."""
    texts = texts_of(parts.words)
    named = [key for key in keys_with(parts) if key.texts <= texts]
    # Gemini Nano runs on phones: where its words stand, in whatever version, the line of Gemini is not meant.
    narrower = [key.texts for key in named if key.closed is not None and not key.is_undisclosed and not key.sizes]
    meant = (key for key in named if not (key.is_undisclosed and any(key.texts < texts for texts in narrower)))
    return [fit for key in meant if (fit := _fit(key, parts)) is not None]


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
        for key in keys_with(parts)
        if key.closed is None and words <= key.words
        if (has_version and key.sizes == parts.sizes) or _is_singled_out(key, words, totals[0].parameters)
    ]


def _is_singled_out(key: Key, words: set[Word], parameters: int) -> bool:
    is_plain = not key.sizes and all(word.text in name_words().size_words for word in key.words - words)
    return is_plain and _is_near(parameters, key.entry.parameters, _SAME)


def _fit(key: Key, parts: NameParts) -> Fit | None:
    matched = {word for word in parts.words if any(_is_word(key, wanted, word) for wanted in key.words)}
    if len(texts_of(matched)) < len(key.words) or not _sizes_agree(key, parts):
        return None
    optional = {word.text for word in key.parts.words if word not in key.words}
    extra = tuple(word.text for word in parts.words if word not in matched and word.text not in optional)
    core = frozenset(matched) | key.sizes
    if key.is_undisclosed:
        return _closed_fit(key, core, parts, extra)
    if not key.sizes and not (key.parts.tags <= parts.tags and key.parts.marks <= parts.marks):
        return None
    words = name_words()
    if key.closed is not None:
        extra = tuple(text for text in extra if text not in words.product)
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
