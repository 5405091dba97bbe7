"""Which type llama.cpp's quantizer gives to which tensor: most schemes of GGUF are mixtures of types.

The rules are facts of https://github.com/ggml-org/llama.cpp, ``src/llama-quant.cpp``. Where they changed, those hold by
which most published files were made: until 2026 queries, keys and values that are one matrix had a type of their own.
Names that llama.cpp does not know are those of uploaders: ``_L`` and ``Q3_K_XL`` by
https://huggingface.co/bartowski/agentica-org_DeepCoder-14B-Preview-GGUF, other ``_XL`` by https://docs.unsloth.ai.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from weighin_analysis.models.tensors import Role
from weighin_analysis.sizes.ggml import GgmlType as T


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a matrix stands: in which of how many layers of a model with so many experts, 1 without a mixture.

    ``queries_per_key``: query heads that share one key head. ``guided``: whether the quantizer was given an importance
    matrix, as those who publish many files do. ``of_experts``: whether the matrix is the experts' of a layer.
    """

    layer: int
    layers: int
    queries_per_key: int
    experts: int
    guided: bool
    of_experts: bool


Condition = Callable[[Place], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """Matrices of these roles take this type where the condition holds."""

    roles: tuple[Role, ...]
    type: T
    holds: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The types of one scheme: ``base``, unless the first rule that holds says otherwise.

    ``head`` is the type of the output head, of the vocabulary's table where both are one. ``embedding`` is that of a
    table apart, ``fused`` that of queries, keys and values as one matrix; the base where they are None.
    """

    base: T
    head: T = T.Q6_K
    embedding: T | None = None
    fused: T | None = None
    rules: tuple[Rule, ...] = ()

    def type_of(self, role: Role, place: Place) -> T:
        """Return the type of a layer's matrix."""
        for rule in self.rules:
            if role in rule.roles and rule.holds(place):
                return rule.type
        return self.base


def _always(_: Place) -> bool:
    return True


def _grouped(place: Place) -> bool:
    return place.queries_per_key >= 4


def _eight_experts(place: Place) -> bool:
    return place.experts == 8


def _grouped_or_experts(place: Place) -> bool:
    return _grouped(place) or place.experts >= 4


def _first_eighth(place: Place) -> bool:
    return place.layer < place.layers // 8


def _first_sixteenth(place: Place) -> bool:
    return place.layer < place.layers // 16


def _middle(place: Place) -> bool:
    return place.layers // 8 <= place.layer < 7 * place.layers // 8


def _ends_and_every_third(place: Place) -> bool:
    return not _middle(place) or (place.layer - place.layers // 8) % 3 == 2


def _ends_and_every_third_of_eight_experts(place: Place) -> bool:
    return _eight_experts(place) and _ends_and_every_third(place)


def _first_two(place: Place) -> bool:
    return place.layer < 2


def _first_four(place: Place) -> bool:
    return place.layer < 4


def _large_llama(place: Place) -> bool:
    return place.layers == 80 and _grouped(place)


def _first_eighth_guided(place: Place) -> bool:
    return place.guided and _first_eighth(place)


def _first_eighth_unguided(place: Place) -> bool:
    return not place.guided and _first_eighth(place)


def _unguided(place: Place) -> bool:
    return not place.guided


def _of_experts(place: Place) -> bool:
    return place.of_experts


_KEY, _VALUE = (Role.KEY,), (Role.VALUE,)
_OUTPUT, _DOWN, _INWARD = (Role.ATTENTION_OUTPUT,), (Role.DOWN,), (Role.GATE, Role.UP)

# Beside eight experts the attention is so small that more bits for it cost next to nothing.
_EIGHT = (Rule((Role.KEY, Role.VALUE), T.Q8_0, _eight_experts),)
_EIGHT_OUTPUT = (*_EIGHT, Rule(_OUTPUT, T.Q5_K, _eight_experts))
_LARGE = (Rule(_VALUE, T.Q5_K, _large_llama),)
_IQ4 = (*_EIGHT_OUTPUT, Rule(_VALUE, T.Q5_K, _grouped), Rule(_DOWN, T.Q5_K, _first_eighth_unguided))


def _two_bit(base: T, better: T, *output: Rule) -> Mixture:
    return Mixture(
        base=base,
        head=T.Q5_K,
        embedding=better,
        rules=(
            Rule(_VALUE, T.Q4_K, _grouped_or_experts),
            Rule(_VALUE, better, _always),
            Rule(_KEY, T.Q4_K, _eight_experts),
            Rule(_DOWN, better, _first_eighth),
            Rule(_OUTPUT, T.Q5_K, _eight_experts),
            *output,
        ),
    )


def _more_at_the_ends(base: T, fused: T, *experts: Rule) -> Mixture:
    more = Rule((Role.VALUE, Role.DOWN), T.Q6_K, _ends_and_every_third)
    return Mixture(base=base, fused=fused, rules=(*experts, more, *_LARGE))


MIXTURES = {
    "F32": Mixture(base=T.F32, head=T.F32),
    "F16": Mixture(base=T.F16, head=T.F16),
    "BF16": Mixture(base=T.BF16, head=T.BF16),
    "Q8_0": Mixture(base=T.Q8_0, head=T.Q8_0, rules=_EIGHT),
    "Q6_K": Mixture(base=T.Q6_K, rules=_EIGHT),
    "Q5_K_M": _more_at_the_ends(T.Q5_K, T.Q6_K, *_EIGHT),
    "Q5_K_S": Mixture(base=T.Q5_K, rules=_EIGHT),
    "Q5_1": Mixture(base=T.Q5_1, rules=_EIGHT),
    "Q5_0": Mixture(base=T.Q5_0, rules=(*_EIGHT, Rule(_DOWN, T.Q5_1, _first_eighth_guided))),
    "Q4_K_M": _more_at_the_ends(T.Q4_K, T.Q5_K, *_EIGHT_OUTPUT),
    "Q4_K_S": Mixture(
        base=T.Q4_K,
        rules=(*_EIGHT_OUTPUT, *_LARGE, Rule(_VALUE, T.Q5_K, _first_four), Rule(_DOWN, T.Q5_K, _first_eighth)),
    ),
    "Q4_1": Mixture(base=T.Q4_1, rules=_EIGHT),
    "Q4_0": Mixture(base=T.Q4_0, rules=(*_EIGHT, Rule(_DOWN, T.Q4_1, _first_eighth_guided))),
    "Q3_K_L": Mixture(
        base=T.Q3_K,
        fused=T.Q4_K,
        rules=(
            *_EIGHT,
            Rule(_OUTPUT, T.Q3_K, _eight_experts),
            Rule((Role.VALUE, Role.DOWN, Role.ATTENTION_OUTPUT), T.Q5_K, _always),
        ),
    ),
    "Q3_K_M": Mixture(
        base=T.Q3_K,
        fused=T.Q4_K,
        rules=(
            *_EIGHT_OUTPUT,
            *_LARGE,
            Rule(_VALUE, T.Q5_K, _first_two),
            Rule(_DOWN, T.Q5_K, _first_sixteenth),
            Rule((Role.VALUE, Role.DOWN, Role.ATTENTION_OUTPUT), T.Q4_K, _always),
        ),
    ),
    "Q3_K_S": Mixture(base=T.Q3_K, rules=(*_EIGHT_OUTPUT, *_LARGE)),
    "Q2_K": Mixture(
        base=T.Q2_K,
        rules=(
            *_EIGHT_OUTPUT,
            *_LARGE,
            Rule(_VALUE, T.Q4_K, _grouped),
            Rule((Role.VALUE, Role.DOWN, Role.ATTENTION_OUTPUT), T.Q3_K, _always),
        ),
    ),
    "Q2_K_S": Mixture(
        base=T.Q2_K,
        rules=(*_EIGHT, *_LARGE, Rule(_VALUE, T.Q4_K, _grouped), Rule(_DOWN, T.Q4_K, _first_eighth)),
    ),
    # Files of one bit hold models that were trained so, with every matrix in that type.
    "Q1_0": Mixture(base=T.Q1_0, head=T.Q1_0),
    "IQ4_NL": Mixture(base=T.IQ4_NL, rules=_IQ4),
    "IQ4_XS": Mixture(base=T.IQ4_XS, rules=_IQ4),
    "IQ3_M": Mixture(
        base=T.IQ3_S,
        fused=T.Q4_K,
        rules=(
            *_EIGHT_OUTPUT,
            *_LARGE,
            Rule((Role.VALUE, Role.ATTENTION_OUTPUT), T.Q4_K, _always),
            Rule(_DOWN, T.Q4_K, _first_eighth),
            Rule(_DOWN, T.Q4_K, _ends_and_every_third_of_eight_experts),
        ),
    ),
    "IQ3_S": Mixture(base=T.IQ3_S, rules=(*_EIGHT_OUTPUT, *_LARGE, Rule(_VALUE, T.Q4_K, _grouped))),
    "IQ3_XS": Mixture(
        base=T.IQ3_S,
        rules=(
            *_EIGHT_OUTPUT,
            *_LARGE,
            Rule(_VALUE, T.Q4_K, _grouped),
            Rule((Role.QUERY, Role.KEY), T.IQ3_XXS, _always),
            Rule(_INWARD, T.IQ3_XXS, _middle),
        ),
    ),
    "IQ3_XXS": Mixture(
        base=T.IQ3_XXS,
        head=T.Q5_K,
        embedding=T.IQ3_S,
        rules=(
            *_EIGHT_OUTPUT,
            *_LARGE,
            Rule(_VALUE, T.Q4_K, _grouped),
            Rule(_VALUE, T.IQ3_S, _unguided),
            Rule((Role.QUERY, Role.KEY), T.IQ2_S, _always),
            Rule(_DOWN, T.Q4_K, _first_eighth_unguided),
            Rule(_DOWN, T.Q3_K, _unguided),
            Rule(_OUTPUT, T.IQ3_S, _always),
        ),
    ),
    "IQ2_M": _two_bit(T.IQ2_S, T.IQ3_S, Rule(_OUTPUT, T.IQ3_S, _always)),
    "IQ2_S": _two_bit(T.IQ2_XS, T.IQ3_S, Rule(_OUTPUT, T.IQ3_S, _always)),
    "IQ2_XS": _two_bit(T.IQ2_XS, T.Q2_K),
    "IQ2_XXS": _two_bit(T.IQ2_XXS, T.Q2_K),
    "IQ1_M": _two_bit(T.IQ1_M, T.Q2_K, Rule(_OUTPUT, T.IQ2_XXS, _always)),
    "IQ1_S": _two_bit(T.IQ1_S, T.Q2_K, Rule(_OUTPUT, T.IQ2_XXS, _always)),
}
# Q4_0 with its blocks interleaved for one processor's kernels, as files were published for some months of 2024.
MIXTURES |= dict.fromkeys(("Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8"), MIXTURES["Q4_0"])
# The experts in the type that gpt-oss is published in, all else in eight bits.
_EXPERTS_IN_MXFP4 = Mixture(base=T.Q8_0, head=T.Q8_0, rules=(Rule((*_INWARD, *_DOWN), T.MXFP4, _of_experts),))
MIXTURES |= dict.fromkeys(("MXFP4", "MXFP4_MOE"), _EXPERTS_IN_MXFP4)


def _ends_in(kind: T, scheme: str) -> Mixture:
    return replace(MIXTURES[scheme], head=kind, embedding=kind)


_LARGE_ENDS = {"Q6_K_L": "Q6_K", "Q5_K_L": "Q5_K_M", "Q4_K_L": "Q4_K_M", "Q3_K_XL": "Q3_K_L", "Q2_K_L": "Q2_K"}
MIXTURES |= {name: _ends_in(T.Q8_0, plain) for name, plain in _LARGE_ENDS.items()}

# Types that each model is given one by one, by no rule: the plain schemes that lie below, nearest and above.
DYNAMIC = {
    "Q8_K_XL": ("Q6_K", "Q8_0", "BF16"),
    "Q6_K_XL": ("Q5_K_M", "Q6_K", "Q8_0"),
    "Q5_K_XL": ("Q4_K_M", "Q5_K_M", "Q6_K"),
    "Q4_K_XL": ("Q3_K_L", "Q4_K_M", "Q5_K_M"),
    "Q2_K_XL": ("IQ2_XS", "Q2_K_L", "Q3_K_M"),
}


def mixtures_found(scheme: str, *, query_key_norm: bool) -> Iterator[Mixture]:
    """Yield every mixture of which files of a scheme's name are found, that of the scheme first.

    ``query_key_norm``: whether the model normalises queries and keys.
    """
    mixture = MIXTURES[scheme]
    yield mixture
    if mixture.head in (T.Q5_K, T.Q6_K):
        yield replace(mixture, head=T.Q8_0)  # Gemma as its publisher and Ollama have it
    if query_key_norm and scheme in ("Q4_K_M", "Q8_0"):
        yield replace(mixture, rules=(Rule(_VALUE, T.F16, _always), *mixture.rules))  # Qwen3 of Ollama
    if mixture is _EXPERTS_IN_MXFP4:
        yield replace(mixture, base=T.BF16, head=T.BF16)  # gpt-oss as published, and of Ollama
    if scheme in _LARGE_ENDS:
        yield _ends_in(T.F16, _LARGE_ENDS[scheme])  # those of summer 2024
    if scheme == "Q3_K_XL":
        yield MIXTURES["Q3_K_S"]  # the smallest that a dynamic one comes to
