"""A name tells which model is meant, and what it leaves open stays open."""

import random
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighin_analysis.data_files import read_data
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.models.entry import CountBasis
from weighin_analysis.naming import fit
from weighin_analysis.naming.closed import closed_models
from weighin_analysis.naming.identify import How, Identification, identify
from weighin_analysis.sizes import gguf, litert, mlc, onnx
from weighin_analysis.sizes.artefact import Format

_TABLE = Path(__file__).parents[2] / "data" / "model_names.toml"
_ROWS: list[dict[str, Any]] = [row for rows in tomllib.loads(_TABLE.read_text("utf-8")).values() for row in rows]


@pytest.mark.parametrize("row", _ROWS, ids=[row["text"] for row in _ROWS])
def test_a_published_name_is_read_as_it_is_meant(row: dict[str, Any]) -> None:
    found = identify(row["text"])

    assert (found.how, found.entry and found.entry.name) == (row["how"], row.get("entry"))
    assert found.size_class == row.get("size_class")
    assert (found.format, found.scheme) == (row.get("format"), row.get("scheme"))
    if found.entry is None:
        assert found.parameters == row.get("parameters")


def test_the_table_holds_enough_names_of_every_kind() -> None:
    assert len({row["text"] for row in _ROWS}) == len(_ROWS) >= 300
    assert min(Counter(row["how"] for row in _ROWS).values()) >= 20
    assert {how.value for how in How} == {row["how"] for row in _ROWS}


def test_every_name_of_the_catalogue_leads_to_its_own_model() -> None:
    named = {name: one for one in catalogue().values() for name in (one.name, *one.aliases)}

    assert {name for name, one in named.items() if identify(name).entry is not one} == set()


def test_case_separators_and_what_stands_around_a_name_do_not_matter() -> None:
    for name, entry in catalogue().items():
        parted = name.replace("-", " ")
        for spelling in (name.upper(), parted, parted.title(), f"some-org/{name}", f"{name}-GGUF", f"{name}.onnx"):
            assert identify(spelling).entry is entry, spelling


def test_a_version_is_not_a_size() -> None:
    for text in (
        "Gemini 1.5 Pro",
        "Phi-3.5",
        "GPT-3.5",
        "Claude 3 Opus",
        "Llama 3.2",
        "Foo v0.3",
        "Qwen1.5",
        "FooBar 7",
    ):
        assert identify(text).parameters is None, text
    assert identify("Yi-1.5-9B").parameters == catalogue()["Yi-1.5-9B"].parameters
    assert identify("FooBar-1.5-9B").parameters == 9_000_000_000


def test_the_length_of_a_context_and_the_tokens_of_training_are_no_sizes() -> None:
    for text in ("FooBar-8B-128k", "FooBar-8B-1M", "FooBar-8B-262k", "FooBar-8B-step-1431k-3T"):
        assert identify(text).parameters == 8_000_000_000, text


def test_an_undisclosed_model_has_no_parameters_whatever_is_rumoured() -> None:
    for text in ("GPT-4", "GPT-4 1.8T", "gpt-4o 200B", "Claude 3 Opus 2T", "Gemini 1.5 Pro"):
        found = identify(text)
        assert (found.known, found.disclosed, found.parameters, found.size_class) == (True, False, None, "server"), text
        assert found.entry is not None
        assert found.entry.count_basis is CountBasis.UNDISCLOSED


def test_what_shares_words_with_an_undisclosed_model_is_not_taken_for_it() -> None:
    for text in ("gpt-oss-20b", "GPT-2", "GPT-J-6B", "GPT-3", "Gemini 1.5 Flash-8B", "Gemini Nano-2", "Grok-1"):
        assert identify(text).disclosed, text
    for text in ("Marco-o1", "gpt4all", "gpt4-x-alpaca-13b", "claude-distilled-llama", "Qwen"):
        assert not identify(text).known, text


def test_an_open_model_taught_by_a_closed_one_is_known_by_its_own_family_and_size() -> None:
    found = identify("Jackrong/Qwen3.5-0.8B-Claude-4.6-Opus-Reasoning-Distilled-GGUF")

    assert found.entry is not None
    assert (found.entry.name, found.how) == ("Qwen3.5-0.8B", How.BASE)


def test_a_family_without_a_size_is_left_open_and_its_members_are_named() -> None:
    found = identify("Llama 3")

    assert (found.known, found.parameters, found.size_class, found.disclosed) == (False, None, None, False)
    assert found.candidates[:2] == ("Llama-3-8B", "Llama-3-70B")
    assert "leaves open" in found.reason


def test_a_family_of_several_generations_that_differ_in_size_is_left_open() -> None:
    for text in ("mistral-small", "mistral-small:latest", "Command R", "Gemini Nano"):
        found = identify(text)
        assert (found.known, found.parameters, len(found.candidates) > 1) == (False, None, True), text


def test_nothing_is_said_to_be_disclosed_of_a_model_that_is_not_known() -> None:
    for text in ("Llama 3", "MiniMax-M2", "santacoder", "FooBar-13B", "Gemini Nano", ""):
        assert (identify(text).known, identify(text).disclosed) == (False, False), text


def test_a_model_that_runs_on_devices_is_never_of_the_server_class_of_its_line() -> None:
    for text in (
        "Gemini Nano (on-device)",
        "Chrome built-in Gemini Nano",
        "Gemini Nano 3",
        "Gemini Nano XS",
        "Nano Gemini",
    ):
        found = identify(text)
        assert (found.known, found.size_class) == (False, None), text
        assert found.candidates[:2] == ("Gemini-Nano-1", "Gemini-Nano-2"), text
    assert identify("gemini-2.0-flash-lite").size_class == "server"


def test_an_underscore_is_the_point_or_the_gap_that_makes_it_a_model_of_the_catalogue() -> None:
    for entry in catalogue().values():
        written = re.sub(r"[-. ]", "_", entry.name)
        found = identify(written)
        assert found.entry is entry or not found.known, written
    for text in ("foobar_1_7b", "llama_1_3b"):
        found = identify(text)
        assert (found.known, found.parameters) == (False, None), text
        assert "underscores" in found.reason, text


def test_a_decimal_comma_is_a_point() -> None:
    for entry in catalogue().values():
        written = re.sub(r"(?<=[0-9])\.(?=[0-9])", ",", entry.name)
        assert identify(written).entry is entry, written
    assert identify("FooBar 1,100 million").parameters == 1_100_000_000


def test_a_size_right_behind_a_word_whose_digits_may_hold_a_version_is_left_open() -> None:
    glued = {
        "llama27b": "Llama-2-7B",
        "llama213b": "Llama-2-13B",
        "gemma22b": "Gemma-2-2B",
        "smollm2135m": "SmolLM2-135M",
        "qwen30.6b": "Qwen3-0.6B",
    }
    for text, meant in glued.items():
        found = identify(text)
        assert (found.known, found.parameters, found.candidates[0]) == (False, None, meant), text
    assert set(identify("qwen257b").candidates) == {"Qwen2-57B-A14B", "Qwen2.5-7B"}
    assert identify("qwen14b").entry is catalogue()["Qwen-14B"]


def test_a_count_of_experts_stands_beside_a_size() -> None:
    assert identify("FooBar-17B-16E").active_parameters == 17_000_000_000
    for text in ("FooBar-7B-epoch3-lr2e-5", "FooBar-7B-2e-5", "FooBar-7B-run-2e"):
        found = identify(text)
        assert (found.parameters, found.active_parameters) == (7_000_000_000, None), text


def test_a_size_said_twice_in_a_row_is_not_taken_for_one() -> None:
    for text in ("t5gemma-2b-2b", "FooBar-9B-9B", "FooBar-9B-2B"):
        assert identify(text).parameters is None, text


def test_a_reason_does_not_take_one_name_for_another() -> None:
    for text, said in {
        "gpt-4o-mini": "one of the GPT-4 line",
        "o3-mini": "one of the OpenAI o-series line",
        "aya-23-8B": "has the shape of Aya-Expanse-8B",
        "Zephyr-7B": "has the shape of Mistral-7B-v0.1",
        "ms-marco-MiniLM-L-6-v2": "taken to have its shape",
    }.items():
        assert said in identify(text).reason, text
    assert identify("GPT-4").reason == "OpenAI does not tell how many parameters GPT-4 has"
    assert identify("Llama 7B").reason.startswith("Llama-1-7B is in the catalogue")


def test_a_model_that_is_not_known_finds_those_of_its_family_or_of_its_experts() -> None:
    assert identify("shieldgemma-2b").candidates[0] == "Gemma-2B"
    assert identify("WizardLM-2-8x22B").candidates == ("Mixtral-8x22B",)


def test_a_bare_name_that_usually_means_one_model_says_so() -> None:
    for text in ("BERT", "TinyLlama", "MiniLM"):
        found = identify(text)
        assert (found.known, "usually means" in found.reason) == (True, True), text
    assert "usually" not in identify("DistilBERT").reason
    assert "usually" not in identify("BERT base").reason


def test_a_version_that_the_catalogue_lacks_is_another_model() -> None:
    for text in ("Grok-2", "Mistral Large 3", "Phi-7"):
        assert "but not this one" in identify(text).reason, text


def test_a_stated_size_is_passed_on_with_a_warning_and_the_nearest_models() -> None:
    found = identify("FooBar-13B")

    assert (found.known, found.how, found.parameters) == (False, How.STATED, 13_000_000_000)
    assert "names mislead" in found.reason
    assert "Llama-2-13B" in found.candidates


def test_a_misleading_size_in_a_known_name_is_said() -> None:
    assert "the name says 7 billion, it has 8.54 billion" in identify("Gemma 7B").reason
    assert "the name says" not in identify("Llama-3-8B").reason


def test_experts_are_not_multiplied() -> None:
    found = identify("FooBar-8x13B")

    assert (found.parameters, found.size_class) == (None, None)
    assert "experts share attention" in found.reason


def test_what_a_token_passes_is_not_what_there_is() -> None:
    assert (identify("FooBar-40B-A4B").parameters, identify("FooBar-40B-A4B").active_parameters) == (
        40 * 10**9,
        4 * 10**9,
    )
    assert (identify("FooBar-E3B").parameters, identify("FooBar-E3B").active_parameters) == (None, 3 * 10**9)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Llama-3.2-1B and Gemma-2B", "several sizes"),
        ("Mistral-Llama-2-7B", "different models"),
        ("deepseek-r1:8b", "several models of that size"),
        ("Llama-3.1-8B-LoRA", "goes with a model"),
    ],
)
def test_what_contradicts_itself_is_not_known_and_says_why(text: str, what: str) -> None:
    found = identify(text)

    assert (found.known, found.how, found.parameters) == (False, How.UNKNOWN, None)
    assert what in found.reason


@pytest.mark.parametrize(
    "text", ["Qwen2.5-VL-3B", "Llama-3.2-1B-Vision", "Qwen2.5-7B-moe", "Llama-3-8B-pruned", "tiny-random-gpt2"]
)
def test_words_that_mean_other_weights_keep_the_base_from_being_assumed(text: str) -> None:
    assert not identify(text).known


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("Qwne2.5-0.5B", "Qwen2.5-0.5B"),
        ("Lama-3.2-1B", "Llama-3.2-1B"),
        ("mistrall 7b", "Mistral-7B-v0.1"),
        ("distillbert", "DistilBERT"),
    ],
)
def test_a_misspelled_name_is_not_known_but_finds_what_was_meant(typo: str, meant: str) -> None:
    found = identify(typo)

    assert not found.known
    assert found.candidates[0] == meant


@pytest.mark.parametrize(
    ("form", "schemes"),
    [
        (Format.GGUF, gguf.SCHEMES),
        (Format.MLC, mlc.SCHEMES),
        (Format.ONNX, onnx.SCHEMES),
        (Format.LITERT, litert.SCHEMES),
    ],
)
def test_every_scheme_of_a_format_is_read_from_a_file_name_as_the_format_spells_it(
    form: Format, schemes: tuple[str, ...]
) -> None:
    ending = {Format.GGUF: ".gguf", Format.MLC: "-MLC", Format.ONNX: ".onnx", Format.LITERT: ".litertlm"}[form]
    for scheme in schemes:
        for spelling in (scheme, scheme.lower(), scheme.upper()):
            found = identify(f"Qwen2.5-0.5B-Instruct-{spelling}{ending}")
            assert (found.format, found.scheme) == (form, scheme)
            assert found.entry is catalogue()["Qwen2.5-0.5B"]


def test_closed_models_are_not_in_the_catalogue_and_have_a_source() -> None:
    for closed in closed_models():
        assert closed.entry.name not in catalogue()
        assert closed.entry.source.startswith("https://")


def test_a_line_of_closed_models_ends_where_weights_were_published() -> None:
    assert identify("Mistral-Medium-3.1").how is How.UNDISCLOSED
    assert identify("Mistral-Medium-3.5").entry is catalogue()["Mistral-Medium-3.5-128B"]


def test_a_family_said_to_have_one_size_has_one() -> None:
    for name in read_data("name_words.toml")["one_size"]:
        assert identify(name).how in {How.NAME, How.ALIAS}, name


def _holds(found: Identification) -> None:
    assert found.how in How
    assert found.reason
    assert found.reason.isprintable()
    assert found.reason.encode()  # holds no half of a surrogate pair
    assert len(found.candidates) <= 5
    assert set(found.candidates) <= set(catalogue()) | {closed.entry.name for closed in closed_models()}
    assert found.known or found.how in {How.STATED, How.UNKNOWN}
    assert not found.disclosed or (found.known and found.parameters is not None)


@settings(max_examples=400, deadline=None)
@given(st.text())
def test_no_text_raises(text: str) -> None:
    _holds(identify(text))


_ODDITIES = [
    "\u202e",
    "\u200b",
    "\ud800",
    "\u0301",
    "\ufdfa",
    "ⅷ",
    "٧",
    "猫",
    "\0",
    "\n",
    "://",
    "?",
    "1e400",
    "9999t",
    "0b",
    "00",
]
_TOKENS = sorted({token for row in _ROWS for token in re.split(r"[-/ :_]", row["text"])}) + _ODDITIES * 4


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(_TOKENS), max_size=12).map("-".join))
def test_no_mixture_of_real_parts_raises(text: str) -> None:
    _holds(identify(text))


@pytest.mark.slow
def test_twenty_thousand_random_strings_never_raise() -> None:
    """How many is a size and no proof: ten times as many were tried."""
    dice = random.Random(2026)
    for _ in range(10_000):
        mixed = (dice.choice(_TOKENS) + dice.choice(("", "-", " ", "_")) for _ in range(dice.randrange(10)))
        noise = (chr(dice.randrange(sys.maxunicode + 1)) for _ in range(dice.randrange(24)))
        for text in ("".join(mixed), "".join(noise)):
            found = identify(text)
            assert found.known or found.how in {How.STATED, How.UNKNOWN}


@pytest.mark.parametrize(
    "text",
    [
        "llama-" * 680,
        "qwen3 8b " * 440,
        "0." * 2000,
        "1b" * 2000,
        "/gemma" * 600,
        "\ufdfa" * 4000,
        "q4_k_" * 800,
        "x" * 10**6,
        "--" * 2000,
    ],
    ids=lambda text: f"{text[:6]!r} {len(text)}",
)
def test_a_long_text_costs_no_more_than_a_bounded_number_of_comparisons(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identify("warm up")
    comparisons = 0
    compare = fit._fit

    def counted(*args: Any) -> Any:
        nonlocal comparisons
        comparisons += 1
        return compare(*args)

    monkeypatch.setattr(fit, "_fit", counted)
    found = identify(text)

    assert found.how in {How.UNKNOWN, How.STATED}
    assert comparisons <= 200


def test_a_long_text_is_looked_at_only_as_far_as_a_name_goes() -> None:
    assert identify("Gemma-2B" + " " * 4000).known
    assert "longer than" in identify("Gemma-2B" + " " * 10**6).reason
