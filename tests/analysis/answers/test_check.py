"""One model judged from a run: as measured, computed, or not at all; and what would change the answer."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_measurements import probe_case, timed_case
from made_runs import MEASURED, run_of, seconds_of_layer

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.changes import changes, published_elsewhere
from weighin_analysis.answers.check import CheckRow, Question, check
from weighin_analysis.answers.speed import OTHER_BITS_SD, OTHER_KERNEL_SD, StandIn, stand_in
from weighin_analysis.card import Basis, Estimate, Verdict
from weighin_analysis.catalog import architecture
from weighin_analysis.evidence import DeviceFacts, Evidence, evidence_of
from weighin_analysis.judge import judge
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Measurement, Phase, SeriesPart
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
    eight, four = check(question("BERT-base-uncased", context_tokens=128), evidence(found))
    assert (eight.measured_scheme, four.measured_scheme) == (Scheme.INT8_DYNAMIC, None)
    assert eight.latency_seconds is not None
    # Twelve layers of the shape of which the other has six.
    assert eight.latency_seconds.value == pytest.approx(0.04, rel=0.02)
    assert (eight.decode_tokens_per_second, eight.verdict) == (None, Verdict.COMFORTABLE)
    assert four.verdict is None
    assert four.reasons[-1] == "no encoder was run in int4_block32 on cpu"


def test_an_encoder_beside_too_few_others_follows_from_their_work_with_a_wide_interval() -> None:
    bert = probe_case(architecture("DistilBERT"), Scheme.INT8_DYNAMIC)
    found = evidence(timed_case(bert, first_token_seconds=0.02, prompt_tokens=128))
    row = only(check(question("BERT-base-uncased", context_tokens=128), found))
    assert row.latency_seconds is not None
    assert row.latency_seconds.value == pytest.approx(0.04)
    assert (row.basis, row.verdict) == (Basis.NEIGHBOURS, Verdict.COMFORTABLE)
    assert log_sd(row.latency_seconds) > 0.36
    assert only(check(question("DistilBERT", context_tokens=128), found)).basis is Basis.MEASURED


def test_a_smaller_encoder_is_named_where_one_is_too_slow() -> None:
    bert = probe_case(architecture("DistilBERT"), Scheme.INT8_DYNAMIC)
    found = evidence(timed_case(bert, first_token_seconds=0.1, prompt_tokens=128))
    asked = question("BERT-large-uncased", context_tokens=128)
    assert only(check(asked, found)).verdict is Verdict.TOO_SLOW
    (change,) = told(asked, found)
    smaller = change.removeprefix("a smaller model, such as ")
    assert entry(smaller).kind == "encoder"
    assert only(check(question(smaller, context_tokens=128), found)).runs


def test_another_format_helps_where_onnx_does_not_fit() -> None:
    asked, found = question("Qwen3-8B", context_tokens=2048), evidence(run_of(slowness=0.1), memory=7 * GIB)
    assert only(check(asked, found)).verdict is Verdict.DOES_NOT_FIT
    as_gguf = only(check(question("Qwen3-8B", "Q4_K_M", Format.GGUF), found))
    assert as_gguf.runs
    assert told(asked, found)["as gguf Q4_K_M on cpu"] is as_gguf.verdict


def test_a_model_that_is_published_in_another_format_says_so_where_the_asked_one_is_a_guess() -> None:
    row = only(check(question("Gemma-3n-E2B"), evidence()))
    told_of = published_elsewhere(row.requirement)
    assert told_of is not None
    assert "litert int4, 3.66 GB" in told_of
    assert published_elsewhere(only(check(question("Qwen3-0.6B"), evidence())).requirement) is None


def test_too_few_models_in_a_scheme_say_nothing_of_others() -> None:
    row = only(check(question("Qwen3-0.6B"), evidence(run_of(names=MEASURED[:2]))))
    assert row.verdict is None
    (reason,) = row.reasons
    assert reason.startswith("too few models were run in int4_block32 on cpu")
    assert "run `weighin-agent run` again while the device is idle" in reason


# Schemes.


INT4, INT8 = Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC


@pytest.mark.parametrize(
    ("form", "scheme", "expected"),
    [
        (Format.ONNX, "int4_block32", StandIn(INT4, 0.0)),
        (Format.ONNX, "q4", StandIn(INT4, 0.0)),
        (Format.ONNX, "int8", StandIn(INT8, 0.0)),
        (Format.ONNX, "q8", StandIn(INT8, 0.0)),
        (Format.ONNX, "q4f16", StandIn(INT4, OTHER_KERNEL_SD)),
        (Format.ONNX, "bnb4", StandIn(INT4, OTHER_KERNEL_SD)),
        (Format.LITERT, "int8", StandIn(INT8, OTHER_KERNEL_SD)),
        (Format.GGUF, "Q4_K_M", StandIn(INT4, OTHER_KERNEL_SD)),
        (Format.MLC, "q4f16_1", StandIn(INT4, OTHER_KERNEL_SD)),
        (Format.GGUF, "Q8_0", StandIn(INT8, OTHER_KERNEL_SD)),
        (Format.GGUF, "Q5_K_M", StandIn(INT4, OTHER_BITS_SD)),
        (Format.GGUF, "Q6_K", StandIn(INT8, OTHER_BITS_SD)),
        (Format.GGUF, "Q3_K_M", None),
        (Format.GGUF, "IQ3_XXS", None),
        (Format.GGUF, "Q2_K", None),
        (Format.GGUF, "IQ1_S", None),
        (Format.GGUF, "BF16", None),
        (Format.MLC, "q0f16", None),
        (Format.ONNX, "fp32", None),
        (Format.LITERT, "mixed", None),
        (Format.GGUF, "", None),
        (Format.GGUF, "9" * 5000, None),
    ],
)
def test_the_nearest_scheme_that_was_measured_speaks_for_another(
    form: Format, scheme: str, expected: StandIn | None
) -> None:
    assert stand_in(form, scheme, [INT4, INT8]) == expected


def test_eight_bits_in_blocks_are_as_fast_as_blocks_where_these_were_measured() -> None:
    measured = [Scheme.INT8_DYNAMIC, Scheme.INT8_BLOCK32, Scheme.FP16]
    assert stand_in(Format.GGUF, "Q8_0", measured) == StandIn(Scheme.INT8_BLOCK32, OTHER_KERNEL_SD)
    assert stand_in(Format.ONNX, "int8", measured) == StandIn(Scheme.INT8_DYNAMIC, 0.0)
    assert stand_in(Format.GGUF, "BF16", measured) == StandIn(Scheme.FP16, OTHER_KERNEL_SD)
    assert stand_in(Format.GGUF, "Q8_0", []) is None


def log_sd(estimate: Estimate | None) -> float:
    """The spread that an interval of 80 % tells."""
    assert estimate is not None
    return math.log(estimate.high / estimate.low) / 2 / 1.2816


def test_another_kernel_widens_the_interval_by_what_other_kernels_are_off() -> None:
    own, same_bits, other_bits = (
        only(check(question("Qwen2.5-0.5B", scheme, form), evidence()))
        for scheme, form in (("q4", Format.ONNX), ("Q4_K_M", Format.GGUF), ("Q5_K_M", Format.GGUF))
    )
    assert [row.basis for row in (own, same_bits, other_bits)] == [Basis.LAYER_PROBE, *[Basis.NEIGHBOURS] * 2]
    for name in ("decode_tokens_per_second", "time_to_first_token_seconds", "prefill_tokens_per_second"):
        spreads = [log_sd(getattr(row, name)) for row in (own, same_bits, other_bits)]
        assert spreads[1] == pytest.approx(math.hypot(spreads[0], 0.30), rel=1e-3)
        assert spreads[2] == pytest.approx(math.hypot(spreads[0], 0.59), rel=1e-3)


@pytest.mark.parametrize("scheme", ["IQ1_S", "Q2_K", "Q3_K_M"])
def test_fewer_bits_than_four_have_no_speed_and_say_why(scheme: str) -> None:
    row = only(check(question("Qwen2.5-0.5B", scheme, Format.GGUF), evidence()))
    assert (row.decode_tokens_per_second, row.verdict, row.basis) == (None, None, None)
    assert row.reasons[-1] == (
        f"no speed: {scheme} takes longer to unpack than its size says, and was not measured; ask for 4 bits"
    )
    assert row.requirement.memory_bytes is not None


# What runs a format.


def on_gpu(measurements: Sequence[Measurement], provider: str = "webgpu") -> list[Measurement]:
    return [
        replace(m, execution_provider=provider, case=replace(m.case, execution_provider=provider)) for m in measurements
    ]


def test_what_runs_on_a_gpu_alone_is_not_judged_from_the_processor() -> None:
    row = only(check(question("Gemma-2B", "q4f16_1", Format.MLC), evidence()))
    assert (row.verdict, row.decode_tokens_per_second, row.runs) == (None, None, False)
    assert row.reasons[-1] == (
        "no speed: mlc runs on a GPU, and the run measured none; run `weighin-agent run --ep all`"
    )
    judged = only(check(question("Gemma-2B", "q4f16_1", Format.MLC), evidence([*run_of(), *on_gpu(run_of())])))
    assert (judged.execution_provider, judged.basis) == ("webgpu", Basis.NEIGHBOURS)
    assert judged.runs


def test_what_runs_on_a_gpu_alone_is_held_against_the_memory_of_the_card() -> None:
    asked = question("Gemma-2B", "q4f16_1", Format.MLC)
    found = evidence()
    card = replace(found, facts=replace(found.facts, accelerator_memory_bytes=GIB))
    row = only(check(asked, card))
    assert (row.memory_free_bytes, row.verdict) == (GIB, Verdict.DOES_NOT_FIT)
    assert only(check(asked, found)).memory_free_bytes == found.facts.memory_available_bytes


@pytest.mark.parametrize(
    ("form", "scheme", "measured", "reason"),
    [
        (Format.RKLLM, "w4a16", "cpu", "nothing that weighin measures runs rkllm; ask for another --format"),
        (Format.LITERT, "int4", "webgpu", "litert is judged on the processor alone, not on webgpu; ask for --ep cpu"),
        (Format.OPENVINO, "INT4-MIXED", "webgpu", "openvino is judged on the processor alone"),
    ],
)
def test_where_no_run_tells_of_a_format_it_has_no_verdict(
    form: Format, scheme: str, measured: str, reason: str
) -> None:
    row = only(check(question("Qwen2.5-0.5B", scheme, form), evidence(on_gpu(run_of(), measured))))
    assert (row.verdict, row.decode_tokens_per_second) == (None, None)
    assert reason in row.reasons[-1]


def test_openvino_on_the_processor_is_judged_by_its_own_memory_with_a_wide_interval() -> None:
    row = only(check(question("Qwen2.5-0.5B", "INT4-MIXED", Format.OPENVINO), evidence()))
    assert (row.requirement.runtime, row.basis) == ("openvino", Basis.NEIGHBOURS)
    assert log_sd(row.decode_tokens_per_second) > 0.30


# Context.


def slower_with_depth(slowness: float = 1.0) -> list[Measurement]:
    """A run of a device on which every token of context adds a thousandth of the time of a layer without any."""
    found = []
    for one in run_of():
        shape, decode = one.case.architecture, one.phase is Phase.DECODE
        depth = one.context_depth * shape.kv_heads * shape.head_dim * 1e-9 if decode else 0.0
        parts = {SeriesPart.LAYERS: one.case.probe_layers, SeriesPart.SHORT_LAYERS: one.case.short_probe_layers}
        slower = [
            replace(s, sample_seconds=tuple(slowness * (t + parts.get(s.part, 0) * depth) for t in s.sample_seconds))
            for s in one.series
        ]
        found.append(replace(one, series=tuple(slower)))
    return found


def test_a_long_context_is_judged_by_decode_behind_all_of_it() -> None:
    found = evidence(slower_with_depth())
    usual, long = (only(check(question("Qwen2.5-0.5B", context_tokens=n), found)) for n in (2048, 32_768))
    assert (usual.decode_context_depth, long.decode_context_depth) == (512, 32_768)
    assert usual.decode_tokens_per_second is not None
    assert long.decode_tokens_per_second is not None
    shape = architecture("Qwen2.5-0.5B")
    added = shape.layers * (32_768 - 512) * shape.kv_heads * shape.head_dim * 1e-9
    expected = 1 / (1 / usual.decode_tokens_per_second.value + added)
    assert long.decode_tokens_per_second.low < expected < long.decode_tokens_per_second.high
    assert long.decode_tokens_per_second.value < usual.decode_tokens_per_second.value / 3
    # Five doublings beyond the 960 tokens that were run.
    assert log_sd(long.decode_tokens_per_second) > 0.5
    assert (long.basis, long.time_to_first_token_seconds) == (Basis.FORMULA, usual.time_to_first_token_seconds)
    assert long.reasons[-1] == (
        "decode behind 32,768 tokens is extrapolated; the first token is that of a prompt of 512"
    )


def test_a_context_can_be_too_long_to_be_fast_enough_and_a_shorter_one_is_named() -> None:
    found = evidence(slower_with_depth(slowness=2.0))
    asked = question("Qwen2.5-0.5B", context_tokens=32_768)
    assert only(check(asked, found)).verdict is Verdict.TOO_SLOW
    contexts = {change: verdict for change, verdict in told(asked, found).items() if change.startswith("with")}
    assert contexts == {
        "with a context of 8,192 tokens": Verdict.USABLE,
        "with a context of 2,048 tokens": Verdict.COMFORTABLE,
    }


def test_where_no_cost_model_tells_of_depth_the_answer_says_for_which_it_holds() -> None:
    row = only(check(question("Qwen2.5-0.5B", context_tokens=8192), evidence(run_of(names=("Qwen2.5-0.5B",)))))
    assert (row.decode_context_depth, row.basis) == (512, Basis.LAYER_PROBE)
    assert row.reasons[-1].startswith("decode holds behind 512 tokens")


def test_a_speed_behind_fewer_tokens_than_asked_for_does_not_lead() -> None:
    found = evidence([*slower_with_depth(), *run_of((INT8,), names=("Qwen2.5-0.5B",), slowness=0.1)])
    deep, shallow = check(question("Qwen2.5-0.5B", context_tokens=32_768), found)
    assert (deep.decode_context_depth, shallow.decode_context_depth) == (32_768, 512)
    assert (deep.verdict, shallow.verdict) == (Verdict.USABLE, Verdict.COMFORTABLE)


def test_a_context_that_the_model_does_not_have_is_no_and_its_own_longest_is_the_change() -> None:
    asked = question("SmolLM2-135M", context_tokens=32_768)
    row = only(check(asked, evidence()))
    assert (row.verdict, row.runs, row.beyond_context) == (None, False, True)
    assert row.reasons[0] == "made for a context of at most 8,192 tokens: ask for --context 8192 or less"
    assert told(asked, evidence()) == {"with a context of 8,192 tokens": Verdict.COMFORTABLE}


def test_no_change_names_a_context_that_the_model_does_not_have() -> None:
    asked = question("SmolLM2-135M", context_tokens=1_000_000)
    assert list(told(asked, evidence(memory=GIB // 2))) == ["with a context of 4,096 tokens"]


# The order of answers.


def test_a_known_no_comes_before_what_is_not_known() -> None:
    found = evidence([*run_of((INT4,), slowness=100.0), *run_of((INT8,), names=MEASURED[:2])])
    rows = check(question("Llama-3.2-3B"), found)
    assert [row.verdict for row in rows] == [Verdict.TOO_SLOW, None]


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
    asked, found = question("Gemma-2B"), evidence(memory=2 * GIB)
    ((change, verdict),) = [one for one in told(asked, found).items() if "closing" in one[0]]
    assert verdict is Verdict.USABLE
    said = re.fullmatch(r"after closing programs that hold ([0-9.]+) GiB", change)
    assert said is not None
    freed = float(said[1])
    # What is said is enough, and a tenth of a GiB less is not.
    assert only(check(asked, evidence(memory=round((2 + freed) * GIB)))).verdict is verdict
    assert only(check(asked, evidence(memory=round((1.9 + freed) * GIB)))).verdict is Verdict.DOES_NOT_FIT
    assert not any("closing" in change for change in told(asked, found, total=2 * GIB))
    assert not any("closing" in change for change in told(asked, found, total=None))


def test_closing_programs_frees_the_least_that_helps() -> None:
    found = evidence([*run_of((INT8,), slowness=0.5), *run_of((INT4,))], memory=GIB)
    fast, small = check(question("Gemma-2B"), found)
    assert (fast.measured_scheme, small.measured_scheme) == (INT8, INT4)
    assert fast.verdict is small.verdict is Verdict.DOES_NOT_FIT
    assert "after closing programs that hold 1.6 GiB" in told(question("Gemma-2B"), found)


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
    assert told(asked, slow)["as onnx int4_block32 on cpu"] is Verdict.COMFORTABLE


def test_a_file_of_another_runtime_is_told_of_a_smaller_one_of_its_own() -> None:
    asked = question("Qwen3-0.6B", "Q8_0", Format.GGUF)
    assert told(asked, evidence())["as gguf Q4_K_M on cpu"] is Verdict.COMFORTABLE


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
