"""What somebody published becomes devices, runs and measurements as it stands, and estimates where it can be."""

import re
from collections import Counter
from dataclasses import replace
from datetime import datetime
from math import exp, log
from pathlib import Path
from statistics import median

import pytest

from weighin_analysis.catalog import size_classes
from weighin_analysis.fleet.external.estimates import estimate_rows, left_out, reference_models
from weighin_analysis.fleet.external.published import ExternalDevice, device_row, devices_of, measurement_rows, run_row
from weighin_analysis.fleet.snapshot.column_types import column_types
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Phase
from weighin_analysis.memory.load_rule import load_rule
from weighin_analysis.public.cells import cells, other_runs
from weighin_analysis.public.predictors import Anchor, predict
from weighin_analysis.public.rows import Confidence, PublicPhase, PublicRow, read_rows

DATA = Path(__file__).parents[2] / "data" / "throughput.csv"
TIME = datetime(2026, 11, 22)
GIB = 2**30
DECODE = PublicRow(
    line=2,
    device="a phone",
    device_class="phone",
    compute_unit="cpu",
    memory_bytes=8 * GIB,
    bandwidth_bytes_per_second=67e9,
    bandwidth_source="data sheet",
    runtime="llama.cpp",
    backend="CPU",
    model="Llama-3.2-1B",
    parameters=1_235_814_400,
    is_mixture_of_experts=False,
    active_parameters=None,
    quantization="Q4_0",
    model_size_bytes=773_025_920,
    size_source="reported",
    phase=PublicPhase.DECODE,
    test="tg128",
    context_tokens=None,
    tokens_per_second=30.0,
    confidence=Confidence.HIGH,
    source="https://example.org",
    notes="6 threads",
)
PREFILL = replace(DECODE, phase=PublicPhase.PREFILL, test="pp512", tokens_per_second=100.0)
LARGER = replace(DECODE, model="Llama-3.2-3B", parameters=3_212_749_824, tokens_per_second=12.0)


def device_of(*rows: PublicRow) -> ExternalDevice:
    (device,) = devices_of(rows)
    return device


def estimates(*rows: PublicRow) -> dict[object, dict[str, object]]:
    return {row["architecture"]: dict(row) for row in estimate_rows(device_of(*rows), current_limits())}


def test_a_device_is_the_same_in_every_import_by_its_name_alone() -> None:
    one, other = device_of(DECODE), device_of(replace(DECODE, memory_bytes=None, runtime="MNN"))

    assert one.device_id == other.device_id
    assert one.device_id != device_of(replace(DECODE, device="another phone")).device_id
    assert one.device_id != one.run_id


def test_a_device_has_no_more_facts_than_somebody_told() -> None:
    row = device_row(device_of(DECODE), TIME)

    assert row["form_factor"] == "phone"
    assert row["memory_total_bytes"] == 8 * GIB
    assert row["accelerator_kind"] is None
    assert "read_bandwidth_bytes_per_second" not in row
    assert "memory_available_bytes" not in row
    assert row["chrome_built_in_ai"] is False
    assert set(row) <= set(column_types("devices"))


def test_the_memory_of_a_card_is_its_own() -> None:
    card = replace(DECODE, device="RTX 4090", device_class="desktop-gpu", compute_unit="gpu", memory_bytes=24 * GIB)

    row = device_row(device_of(card), TIME)

    assert row["memory_total_bytes"] is None
    assert (row["accelerator_kind"], row["accelerator_memory_bytes"]) == ("gpu", 24 * GIB)


def test_a_gpu_is_the_larger_accelerator_than_an_npu() -> None:
    gpu, npu = replace(DECODE, compute_unit="gpu"), replace(DECODE, compute_unit="npu")

    assert device_of(npu).accelerator_kind == "npu"
    assert device_of(npu, gpu).accelerator_kind == "integrated_gpu"


def test_where_rows_disagree_on_the_memory_the_least_is_taken() -> None:
    assert device_of(DECODE, replace(DECODE, memory_bytes=4 * GIB)).memory_bytes == 4 * GIB
    assert device_of(DECODE, replace(DECODE, memory_bytes=None)).memory_bytes == 8 * GIB


def test_every_row_is_a_measurement_also_one_that_nobody_believes() -> None:
    unlikely = replace(DECODE, confidence=Confidence.LOW, tokens_per_second=900.0)
    failed = replace(DECODE, phase=PublicPhase.OUT_OF_MEMORY, tokens_per_second=None)

    rows = measurement_rows(device_of(PREFILL, unlikely, failed))

    assert [row["tokens_per_second"] for row in rows] == [100.0, 900.0, None]
    assert [row["phase"] for row in rows] == ["prefill", "decode", None]
    assert [row["median_seconds"] for row in rows] == [5.12, 1 / 900, None]
    assert [row["ord"] for row in rows] == [0, 1, 2]
    assert rows[0]["threads"] == 6
    assert all(set(row) <= set(column_types("measurements")) for row in rows)
    assert set(run_row(device_of(PREFILL), TIME, "ab")) <= set(column_types("runs"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"quantization": "w4a16"}, None),
        ({"phase": PublicPhase.OUT_OF_MEMORY, "tokens_per_second": None}, "did not load"),
        ({"confidence": Confidence.LOW}, "low confidence"),
        ({"quantization": "Q2_K"}, "plain bits"),
        ({"quantization": "IQ4_XS"}, "plain bits"),
        ({"quantization": "F16"}, "plain bits"),
        ({"quantization": "unknown"}, "plain bits"),
        ({"model": "a model of mine"}, "not in the catalogue"),
        ({"model": "Qwen3-30B-A3B", "parameters": 30_532_122_624}, "mixture"),
        ({"model": "LFM2.5-1.2B", "parameters": 1_170_340_608}, "hybrid"),
        ({"quantization": "w4a16", "model_size_bytes": None}, "weighs"),
        ({"tokens_per_second": 100.0}, "faster than the memory"),
        ({"notes": "2 threads; 2-thread tg: not bandwidth-saturated"}, "two threads"),
    ],
)
def test_a_row_that_says_nothing_of_other_models_says_why(changes: dict[str, object], reason: str | None) -> None:
    found = left_out(replace(DECODE, **changes))  # type: ignore[arg-type]

    assert (found is None) if reason is None else (found is not None and reason in found)


def test_a_model_that_was_published_is_measured_and_others_are_predicted_from_it() -> None:
    found = estimates(DECODE, PREFILL, LARGER)

    own = found["Llama-3.2-1B"]
    assert own["basis"] == "measured"
    assert own["decode_tokens_per_second"] == pytest.approx(30, rel=0.1)  # at a context of 512 a little slower
    assert own["time_to_first_token_seconds"] == pytest.approx(5.12)
    assert found["Gemma-2B"]["basis"] == "interpolated"
    assert found["Phi-3-mini"]["basis"] == "neighbours"
    assert 12 < float(str(found["Gemma-2B"]["decode_tokens_per_second"])) < 30


def test_an_estimate_holds_everything_that_a_grade_asks_for() -> None:
    for row in estimates(DECODE, PREFILL).values():
        assert set(row) <= set(column_types("estimates"))
        for name in ("decode_tokens_per_second", "time_to_first_token_seconds"):
            low, value, high = (float(str(row[f"{name}{end}"])) for end in ("_low", "", "_high"))
            assert 0 < low < value < high
        assert row["source"] == "external"
        assert row["memory_bytes"]
        assert row["notes"]


def test_further_models_have_wider_intervals_and_those_beyond_six_times_the_bytes_none() -> None:
    found = estimates(DECODE, PREFILL)

    def width(row: dict[str, object]) -> float:
        return log(float(str(row["decode_tokens_per_second_high"])) / float(str(row["decode_tokens_per_second_low"])))

    assert width(found["Llama-3.2-1B"]) < width(found["Gemma-2B"]) < width(found["Phi-3-mini"])
    assert "Qwen2.5-14B" not in found


def test_without_a_prompt_nothing_is_estimated() -> None:
    assert estimates(DECODE) == {}
    assert estimates(PREFILL) == {}
    assert estimates(DECODE, replace(PREFILL, backend="OpenCL")) == {}


def test_of_two_runtimes_the_faster_stands_for_a_model() -> None:
    fast = [replace(row, runtime="llamafile", tokens_per_second=2 * row.tokens_per_second) for row in (DECODE, PREFILL)]  # type: ignore[operator]

    found = estimate_rows(device_of(DECODE, PREFILL, *fast), current_limits())

    assert {row["runtime"] for row in found} == {"llamafile"}
    assert len({(row["architecture"], row["scheme"], row["execution_provider"]) for row in found}) == len(found)


def test_a_phone_may_use_as_much_memory_as_the_load_rule_says() -> None:
    limits = current_limits()
    row = estimates(DECODE, PREFILL)["Llama-3.2-1B"]

    assert limits.memory_share * float(str(row["memory_available_bytes"])) == pytest.approx(
        load_rule().share_of_ram * 8 * GIB
    )
    assert any("load rule" in note for note in row["notes"])  # type: ignore[attr-defined]


def test_a_model_that_ran_there_fits_whatever_is_assumed() -> None:
    small = [replace(row, memory_bytes=GIB) for row in (DECODE, PREFILL)]

    row = estimates(*small)["Llama-3.2-1B"]

    assert float(str(row["memory_bytes"])) <= current_limits().memory_share * float(str(row["memory_available_bytes"]))
    assert any("ran there" in note for note in row["notes"])  # type: ignore[attr-defined]


def test_all_memory_of_a_card_is_taken_as_free_and_none_is_known_where_nobody_told() -> None:
    card = [replace(row, device_class="desktop-gpu", backend="CUDA") for row in (DECODE, PREFILL)]
    unknown = [replace(row, memory_bytes=None) for row in (DECODE, PREFILL)]

    assert estimates(*card)["Llama-3.2-1B"]["memory_available_bytes"] == 8 * GIB
    assert estimates(*unknown)["Llama-3.2-1B"]["memory_available_bytes"] is None


def test_of_a_runtime_whose_memory_nobody_measured_the_least_is_counted() -> None:
    rows = [replace(row, runtime="MNN", quantization="Q4 b64") for row in (DECODE, PREFILL)]

    row = estimates(*rows)["Llama-3.2-1B"]

    assert row["download_bytes"] is None
    assert float(str(row["memory_bytes"])) > float(str(row["bytes_read_per_token"]))
    assert any("at least" in note for note in row["notes"])  # type: ignore[attr-defined]


def test_every_size_class_with_a_model_has_its_reference() -> None:
    named = [one.name for one in size_classes() if one.reference or one.representative]
    assert [size_class for size_class, _ in reference_models()] == named


def test_the_public_devices_have_estimates_with_plausible_rates() -> None:
    rows = read_rows(DATA)
    devices = {device.name: device for device in devices_of(rows)}
    phone = next(device for name, device in devices.items() if name.startswith("Galaxy S23"))

    found = estimate_rows(phone, current_limits())

    assert len(devices) == 98
    assert {row["execution_provider"] for row in found} == {"CPU", "OpenCL", "Hexagon"}
    for row in found:
        # What is read per token times the rate cannot pass the nominal bandwidth.
        speed = float(str(row["bytes_read_per_token"])) * float(str(row["decode_tokens_per_second"]))
        assert speed < 67e9
    assert median(float(str(row["decode_tokens_per_second"])) for row in found if row["size_class"] == "1B") > 10


def test_the_page_about_external_devices_tells_how_many_rows_are_left_out_and_why() -> None:
    rows = read_rows(DATA)
    counts = Counter(reason for row in rows if (reason := left_out(row)))

    page = (Path(__file__).parents[3] / "docs" / "external.md").read_text(encoding="utf-8")
    told = {reason: int(count) for count, reason in re.findall(r"^\| (\d+) \| ([^|:]+?)(?::[^|]*)? \|$", page, re.M)}

    assert f"{sum(counts.values())} of {len(rows):,}" in page
    assert sorted(told.values()) == sorted(counts.values())
    assert all(any(words.startswith(reason) for words in told) for reason in counts)


def test_models_four_to_six_times_as_large_or_as_small_lie_in_their_interval() -> None:
    """So far apart, and no nearer, are the runs that an estimate may rest on."""
    held = []
    all_cells, _ = cells(read_rows(DATA), Phase.DECODE, hard=False)
    for cell, others in other_runs(all_cells).items():
        apart = [one for one in others if 4 <= exp(abs(log(one.work / cell.work))) <= 6]
        if apart:
            anchors = [Anchor(bytes_read=one.work, seconds=one.seconds) for one in apart[:2]]
            prediction = predict(anchors, cell.work)
            held.append(abs(log(cell.seconds / prediction.seconds)) <= 1.2816 * prediction.log_sd)

    assert len(held) > 150
    assert 0.8 <= sum(held) / len(held) <= 0.95
