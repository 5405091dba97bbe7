"""One model judged from a run: as measured, computed, or not at all; and what would change the answer."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_measurements import probe_case, timed_case
from made_runs import MEASURED, run_of, seconds_of_layer

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.changes import changes
from weighin_analysis.answers.check import CheckRow, Question, check, nearest_scheme
from weighin_analysis.card import Basis, Verdict
from weighin_analysis.catalog import architecture
from weighin_analysis.evidence import DeviceFacts, Evidence, evidence_of
from weighin_analysis.judge import judge
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Measurement
from weighin_analysis.models.catalogue import entry
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis

LIMITS = current_limits()
GIB = 1 << 30


def evidence(measurements: Sequence[Measurement] | None = None, *, memory: int | None = 64 * GIB) -> Evidence:
    facts = DeviceFacts(memory_available_bytes=memory, core_count=2)
    return evidence_of(run_of() if measurements is None else measurements, facts, LIMITS)


def question(
    name: str, scheme: str | None = None, form: Format = Format.ONNX, *, context_tokens: int = 2048
) -> Question:
    return Question(
        candidate=Candidate(entry=entry(name), format=form, scheme=scheme or "q4"),
        context_tokens=context_tokens,
        any_scheme=scheme is None,
    )


def only(rows: Sequence[CheckRow]) -> CheckRow:
    (row,) = rows
    return row


# Speed.


def test_a_model_that_was_run_is_judged_as_on_the_card() -> None:
    found = run_of()
    (on_card,) = [
        row
        for row in judge(found, DeviceFacts(memory_available_bytes=64 * GIB, core_count=2)).rows
        if row.architecture == "Qwen2.5-0.5B"
    ]
    row = only(check(question("Qwen2.5-0.5B"), evidence(found)))
    assert row.decode_tokens_per_second == on_card.decode_tokens_per_second
    assert row.time_to_first_token_seconds == on_card.time_to_first_token_seconds
    assert (row.verdict, row.basis, row.requirement.memory_bytes) == (
        on_card.verdict,
        on_card.basis,
        on_card.memory_bytes,
    )


def test_a_model_that_was_never_run_is_computed_from_those_that_were() -> None:
    row = only(check(question("Qwen3-0.6B"), evidence()))
    shape = architecture("Qwen3-0.6B")
    seconds = 28 * seconds_of_layer(shape, 1, 1.0) + shape.vocab * shape.hidden * 7e-11
    assert row.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second.value == pytest.approx(1 / seconds, rel=0.05)
    assert row.decode_tokens_per_second.low < 1 / seconds < row.decode_tokens_per_second.high
    assert row.basis is Basis.INTERPOLATED
    assert only(check(question("Llama-3.2-3B"), evidence())).basis is Basis.FORMULA


def test_a_shape_that_was_run_is_known_under_every_name() -> None:
    """Two models of one shape, of which the suite runs one."""
    other = replace(entry("Qwen2.5-0.5B"), name="a tuned one")
    asked = replace(question("Qwen2.5-0.5B"), candidate=Candidate(entry=other, format=Format.ONNX, scheme="q4"))
    row = only(check(asked, evidence()))
    assert row.basis is Basis.LAYER_PROBE
    assert row.decode_tokens_per_second == only(check(question("Qwen2.5-0.5B"), evidence())).decode_tokens_per_second


def test_a_mixture_of_experts_decodes_like_its_active_part_and_needs_the_memory_of_all() -> None:
    row = only(check(question("Qwen3-30B-A3B"), evidence()))
    dense = only(check(question("Qwen3-8B"), evidence()))
    assert row.decode_tokens_per_second is not None
    assert dense.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second.value > 1.5 * dense.decode_tokens_per_second.value
    assert row.requirement.memory_bytes is not None
    assert row.requirement.memory_bytes > 15 * GIB


def test_a_model_without_a_shape_has_memory_and_no_speed() -> None:
    row = only(check(question("LFM2-1.2B"), evidence()))
    assert (row.decode_tokens_per_second, row.verdict, row.basis) == (None, None, None)
    assert row.requirement.memory_bytes is not None
    assert any(reason.startswith("no speed: ") for reason in row.reasons)
    assert not row.runs
    assert only(check(question("LFM2-1.2B"), evidence(memory=GIB // 2))).verdict is Verdict.DOES_NOT_FIT


def test_an_encoder_that_was_not_run_follows_from_one_that_was() -> None:
    bert = probe_case(architecture("DistilBERT"), Scheme.INT8_DYNAMIC)
    found = [
        *run_of((Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC)),
        *timed_case(bert, first_token_seconds=0.02, prompt_tokens=128),
    ]
    rows = check(question("BERT-base-uncased"), evidence(found))
    eight, four = rows
    assert (eight.measured_scheme, four.measured_scheme) == (Scheme.INT8_DYNAMIC, None)
    assert eight.latency_seconds is not None
    # Twelve layers of the shape of which the other has six.
    assert eight.latency_seconds.value == pytest.approx(0.04, rel=0.02)
    assert (eight.decode_tokens_per_second, eight.verdict) == (None, Verdict.COMFORTABLE)
    assert four.verdict is None
    assert four.reasons[-1] == "no encoder was run in int4_block32 on cpu"


def test_too_few_models_in_a_scheme_say_nothing_of_others() -> None:
    row = only(check(question("Qwen3-0.6B"), evidence(run_of(names=MEASURED[:2]))))
    assert row.verdict is None
    assert row.reasons == ("too few models were run in int4_block32 on cpu",)


# Schemes.


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("int4_block32", Scheme.INT4_BLOCK32),
        ("q4", Scheme.INT4_BLOCK32),
        ("q4f16", Scheme.INT4_BLOCK32),
        ("bnb4", Scheme.INT4_BLOCK32),
        ("Q4_K_M", Scheme.INT4_BLOCK32),
        ("IQ3_XXS", Scheme.INT4_BLOCK32),
        ("Q2_K", Scheme.INT4_BLOCK32),
        ("Q5_K_M", Scheme.INT4_BLOCK32),
        ("q4f16_1", Scheme.INT4_BLOCK32),
        ("w4a16_g128", Scheme.INT4_BLOCK32),
        ("int8", Scheme.INT8_DYNAMIC),
        ("q8", Scheme.INT8_DYNAMIC),
        ("Q6_K", Scheme.INT8_DYNAMIC),
        ("Q8_0", Scheme.INT8_DYNAMIC),
        ("BF16", None),
        ("q0f16", None),
        ("fp32", None),
        ("mixed", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_a_scheme_is_as_fast_as_the_nearest_that_was_measured(scheme: str, expected: Scheme | None) -> None:
    assert nearest_scheme(scheme, [Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC]) is expected


def test_eight_bits_in_blocks_are_as_fast_as_blocks_where_these_were_measured() -> None:
    measured_schemes = [Scheme.INT8_DYNAMIC, Scheme.INT8_BLOCK32, Scheme.FP16]
    assert nearest_scheme("Q8_0", measured_schemes) is Scheme.INT8_BLOCK32
    assert nearest_scheme("int8", measured_schemes) is Scheme.INT8_DYNAMIC
    assert nearest_scheme("BF16", measured_schemes) is Scheme.FP16
    assert nearest_scheme("Q8_0", []) is None


def test_without_a_scheme_every_measured_one_is_answered_for_and_the_best_comes_first() -> None:
    found = [*run_of((Scheme.INT8_DYNAMIC,), slowness=0.5), *run_of((Scheme.INT4_BLOCK32,), slowness=9.0)]
    rows = check(question("Qwen3-0.6B"), evidence(found))
    assert [row.requirement.candidate.scheme for row in rows] == ["int8_dynamic", "int4_block32"]
    assert [row.verdict for row in rows] == [Verdict.COMFORTABLE, Verdict.TOO_SLOW]


def test_another_formats_scheme_says_whose_speed_it_tells() -> None:
    row = only(check(question("Qwen3-0.6B", "Q4_K_M", Format.GGUF), evidence()))
    assert row.measured_scheme is Scheme.INT4_BLOCK32
    assert row.reasons[-1].startswith("the speed is ONNX Runtime's with int4_block32")
    assert row.requirement.candidate.scheme == "Q4_K_M"
    assert row.requirement.memory is not None
    assert row.requirement.memory.kv_type == "fp16"  # llama.cpp's


def test_a_scheme_that_nothing_is_near_to_is_not_judged() -> None:
    row = only(check(question("Qwen3-0.6B", "fp16"), evidence()))
    assert (row.verdict, row.decode_tokens_per_second) == (None, None)
    assert row.reasons == ("no speed: no scheme near fp16 was measured on cpu",)


@pytest.mark.parametrize("schemes", [(Scheme.FP32, Scheme.INT8_DYNAMIC), (Scheme.INT8_DYNAMIC, Scheme.FP32)])
def test_which_scheme_is_near_does_not_depend_on_the_order_of_the_run(schemes: tuple[Scheme, ...]) -> None:
    row = only(check(question("Qwen3-0.6B", "fp16"), evidence(run_of(schemes))))
    assert (row.measured_scheme, row.decode_tokens_per_second) == (None, None)
    assert row.reasons == ("no speed: no scheme near fp16 was measured on cpu",)


def test_an_execution_provider_that_was_not_measured_has_no_answer() -> None:
    assert check(replace(question("Qwen3-0.6B"), execution_provider="webgpu"), evidence()) == ()


def test_a_files_own_size_is_what_is_downloaded() -> None:
    size = DownloadSize(
        format=Format.GGUF,
        scheme="Q4_K_M",
        bytes=12_345,
        low=12_345,
        high=12_345,
        basis=SizeBasis.FILE,
        parts={"token_embedding": 0, "head": 0, "layers": 12_000, "other": 345},
        tokenizer_bytes=0,
        runtime_bytes=None,
    )
    asked = replace(question("Qwen3-0.6B", "Q4_K_M", Format.GGUF), file_size=size)
    needed = only(check(asked, evidence())).requirement
    assert needed.download_bytes == 12_345
    assert needed.memory_bytes == only(check(replace(asked, file_size=None), evidence())).requirement.memory_bytes


# Memory, and what would change the answer.


def told(asked: Question, found: Evidence, *, total: int | None = 64 * GIB) -> dict[str, Verdict]:
    return {one.change: one.verdict for one in changes(asked, found, check(asked, found), memory_total_bytes=total)}


def test_memory_is_held_against_what_is_free_now() -> None:
    row = only(check(question("Gemma-2B"), evidence(memory=2 * GIB)))
    assert (row.verdict, row.memory_free_bytes) == (Verdict.DOES_NOT_FIT, 2 * GIB)
    assert row.reasons[0] == "needs 2.0 GiB, 1.6 GiB may be used"
    assert row.decode_tokens_per_second is not None  # it would be that fast


def test_a_comfortable_model_needs_no_change() -> None:
    assert told(question("SmolLM2-135M"), evidence()) == {}


def test_closing_programs_helps_where_the_device_has_the_memory() -> None:
    found = evidence(memory=2 * GIB)
    missing = 2_153_000_000 / 0.8 / GIB - 2
    assert told(question("Gemma-2B"), found)[f"after closing programs that hold {missing:.1f} GiB"] is Verdict.USABLE
    assert not any("closing" in change for change in told(question("Gemma-2B"), found, total=2 * GIB))
    assert not any("closing" in change for change in told(question("Gemma-2B"), found, total=None))


def test_a_shorter_context_helps_where_the_cache_is_what_does_not_fit() -> None:
    found = evidence(memory=2 * GIB)
    asked = question("Qwen3-0.6B", context_tokens=16_384)
    assert only(check(asked, found)).verdict is Verdict.DOES_NOT_FIT
    assert told(asked, found)["with a context of 4,096 tokens"] is Verdict.COMFORTABLE


def test_another_scheme_helps_where_one_was_named() -> None:
    found = evidence(run_of((Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC)), memory=GIB)
    asked = question("Qwen3-0.6B", "int8_dynamic", context_tokens=512)
    assert only(check(asked, found)).verdict is Verdict.COMFORTABLE
    slow = evidence([*run_of(), *run_of((Scheme.INT8_DYNAMIC,), slowness=20.0)])
    assert told(asked, slow)["as int4_block32 on cpu"] is Verdict.COMFORTABLE


def test_a_file_of_another_runtime_is_told_of_a_smaller_one_of_its_own() -> None:
    asked = question("Qwen3-0.6B", "Q8_0", Format.GGUF)
    assert told(asked, evidence())["as Q4_K_M on cpu"] is Verdict.COMFORTABLE


def test_the_largest_usual_model_that_is_comfortable_is_named() -> None:
    found = told(question("Llama-3-70B"), evidence())
    assert found == {"a smaller model, such as Llama-3.2-1B": Verdict.COMFORTABLE}
    slower = told(question("Llama-3-70B"), evidence(run_of(slowness=6.0)))
    assert slower == {"a smaller model, such as SmolLM2-135M": Verdict.COMFORTABLE}


def test_where_nothing_is_comfortable_a_usable_model_is_named() -> None:
    found = told(question("Llama-3-70B"), evidence(run_of(slowness=11.0)))
    assert found == {"a smaller model, such as SmolLM2-135M": Verdict.USABLE}


def test_no_change_is_promised_that_would_not_make_the_model_run() -> None:
    hopeless = evidence(run_of(slowness=1000.0), memory=GIB)
    assert told(question("Gemma-2B"), hopeless) == {}
