"""A fleet is asked about one model: which devices run it, how fast, and how far that is from what each would answer."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_runs import LAPTOP, SMALL_BOARD, Machine, example_run
from example_snapshots import device_id, make_snapshot, stored_runs
from made_fleet import make_fleet

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.check import Question, check
from weighin_analysis.cli import main
from weighin_analysis.errors import CatalogError, EstimateError, QuestionError
from weighin_analysis.evidence import evidence_of
from weighin_analysis.fleet.check.check_model import check_model
from weighin_analysis.fleet.judging.judge_run import judge_run
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import current_limits
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.sizes.artefact import Format

DEVICES = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fleet(tmp_path_factory.mktemp("made") / "fleet", devices=DEVICES, seed=3, runs_per_device=2)


@pytest.fixture
def fleet(folder: Path) -> Iterator[Fleet]:
    with Fleet(folder) as fleet:
        yield fleet


def test_a_reference_model_gets_the_verdicts_that_the_snapshot_holds(fleet: Fleet) -> None:
    found = check_model(fleet, "Llama-3.2-1B", scheme="int4_block32")

    stored = fleet.sql(
        "SELECT verdict, count(*) FROM verdicts SEMI JOIN devices USING (run_id) "
        "WHERE architecture = 'Llama-3.2-1B' AND scheme = 'int4_block32' GROUP BY verdict"
    ).rows()
    assert {name: count for name, count in found.verdicts.items() if count} == dict(stored)
    assert found.unjudged_count == 0


def test_a_reference_model_has_the_rates_of_its_estimates(fleet: Fleet) -> None:
    found = check_model(fleet, "Llama-3.2-1B", scheme="int4_block32")

    rates = fleet.sql(
        "SELECT decode_tokens_per_second FROM estimates SEMI JOIN devices USING (run_id) JOIN verdicts USING "
        "(run_id, architecture, scheme) WHERE architecture = 'Llama-3.2-1B' AND scheme = 'int4_block32' "
        "AND verdict <> 'does_not_fit'"
    ).rows()
    middle = float(np.quantile([rate for (rate,) in rates], 0.5, method="inverted_cdf"))
    assert found.decode_tokens_per_second is not None
    assert found.decode_tokens_per_second[1] == pytest.approx(middle)


def test_a_model_between_two_references_lies_between_them(fleet: Fleet) -> None:
    middle = [
        check_model(fleet, name, scheme="int4_block32").decode_tokens_per_second
        for name in ("Llama-3.2-1B", "Qwen2.5-1.5B", "Gemma-2B")
    ]

    assert all(middle)
    smaller, between, larger = (quartiles[1] for quartiles in middle if quartiles)
    assert smaller > between > larger


def test_without_a_scheme_every_device_has_its_best(fleet: Fleet) -> None:
    best = check_model(fleet, "Qwen2.5-1.5B")
    one = check_model(fleet, "Qwen2.5-1.5B", scheme="int8_block32")

    assert {shares.scheme for shares in best.schemes} == {"int4_block32", "int8_block32"}
    assert best.any_scheme.comfortable is not None
    assert one.any_scheme.comfortable is not None
    assert best.any_scheme.comfortable.value >= one.any_scheme.comfortable.value
    assert sum(best.verdicts.values()) + best.unjudged_count == DEVICES


def test_a_device_counts_once_however_often_it_ran(fleet: Fleet) -> None:
    assert check_model(fleet, "Qwen2.5-1.5B").any_scheme.judged_count == DEVICES


def test_a_share_lies_within_its_interval_and_more_can_use_than_enjoy_it(fleet: Fleet) -> None:
    shares = check_model(fleet, "Qwen2.5-1.5B").any_scheme

    assert shares.comfortable is not None
    assert shares.usable is not None
    for share in (shares.comfortable, shares.usable):
        assert 0 <= share.low < share.value < share.high <= 1
    assert shares.comfortable.value < shares.usable.value


def test_another_kernel_gives_the_same_rates_and_a_wider_interval(fleet: Fleet) -> None:
    own = check_model(fleet, "Qwen2.5-1.5B", scheme="int4_block32")
    other = check_model(fleet, "Qwen2.5-1.5B", scheme="Q4_K_M")

    assert other.decode_tokens_per_second == pytest.approx(own.decode_tokens_per_second, rel=0.05)
    assert own.any_scheme.comfortable is not None
    assert other.any_scheme.comfortable is not None
    assert width(other.any_scheme.comfortable) > width(own.any_scheme.comfortable)
    assert other.schemes[0].format == "gguf"


def width(share: object) -> float:
    return float(share.high - share.low)  # type: ignore[attr-defined]


def test_nothing_is_said_of_a_scheme_that_nothing_near_was_measured_of(fleet: Fleet) -> None:
    found = check_model(fleet, "Qwen2.5-1.5B", scheme="Q2_K")

    assert found.unjudged_count == DEVICES
    assert found.any_scheme.comfortable is None
    assert found.schemes == ()


def test_a_longer_context_takes_more_memory_and_decodes_more_slowly(fleet: Fleet) -> None:
    short = check_model(fleet, "Llama-3.1-8B", scheme="int4_block32")
    long = check_model(fleet, "Llama-3.1-8B", scheme="int4_block32", context_tokens=32_768)

    assert short.schemes[0].memory_bytes is not None
    assert long.schemes[0].memory_bytes is not None
    assert long.schemes[0].memory_bytes > short.schemes[0].memory_bytes
    assert long.verdicts["does_not_fit"] > short.verdicts["does_not_fit"]


def test_other_limits_give_other_shares(fleet: Fleet) -> None:
    limits = current_limits()
    strict = replace(
        limits,
        version="strict",
        decoder_comfortable=replace(limits.decoder_comfortable, decode_tokens_per_second=1000.0),
    )

    assert check_model(fleet, "Qwen2.5-1.5B", limits=strict).verdicts["comfortable"] == 0


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("Qwen99", CatalogError, "perhaps you mean Qwen"),
        ("GPT-4", CatalogError, "cannot be downloaded"),
        ("LFM2.5-1.2B", EstimateError, "no speed"),
        ("bert-base-uncased", QuestionError, "generates no text"),
        ("", QuestionError, "no model is named"),
    ],
)
def test_a_question_without_an_answer_says_why(fleet: Fleet, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check_model(fleet, text)


def test_a_context_that_the_model_does_not_have_is_refused(fleet: Fleet) -> None:
    with pytest.raises(QuestionError, match="--context 8192 or less"):
        check_model(fleet, "Gemma-2B", context_tokens=10_000)


def test_an_empty_fleet_says_nothing(tmp_path: Path) -> None:
    with Fleet(make_fleet(tmp_path / "fleet", devices=0, seed=1)) as fleet:
        found = check_model(fleet, "Qwen2.5-1.5B")

    assert (found.unjudged_count, found.any_scheme.comfortable, found.decode_tokens_per_second) == (0, None, None)


def test_the_command_answers_in_one_sentence_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "Qwen2.5-1.5B", "--snapshot", str(folder)]) == 0

    first, *rest = capsys.readouterr().out.splitlines()
    assert f"of {DEVICES} devices run Qwen2.5-1.5B comfortably" in first
    assert any(line.startswith("onnx") for line in rest)


def test_the_command_tells_everything_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "Qwen2.5-1.5B", "--snapshot", str(folder), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["size_class"] == "2B"
    assert sum(told["verdicts"].values()) + told["unjudged_count"] == DEVICES
    assert told["sources"] == {"native": DEVICES}


def test_a_device_without_the_nearest_model_is_judged_by_others(folder: Path) -> None:
    """What did not fit has no speed there; the next in size then speaks for the device."""
    with Fleet(folder) as fleet:
        fleet.connection.execute(
            "CREATE OR REPLACE TEMP VIEW estimates AS SELECT * REPLACE ("
            "CASE WHEN architecture <> 'Gemma-2B' THEN decode_tokens_per_second END AS decode_tokens_per_second) "
            "FROM memory.main.estimates"
        )
        found = check_model(fleet, "Qwen2.5-1.5B", scheme="int4_block32")

    assert found.unjudged_count == 0
    assert found.decode_tokens_per_second is not None
    assert math.isfinite(found.decode_tokens_per_second[1])


# None of them stands for a class.
OTHERS = (
    "SmolLM2-360M",
    "Qwen3-0.6B",
    "Gemma-3-1B",
    "Qwen2.5-1.5B",
    "Gemma-2-2B",
    "Llama-3.2-3B",
    "Qwen2.5-7B",
    "Qwen3-14B",
)
SLOW = replace(SMALL_BOARD, memory_total_bytes=64 * 2**30, memory_available_bytes=60 * 2**30)


@pytest.mark.parametrize("machine", [LAPTOP, SLOW])
def test_the_fleet_says_nearly_what_the_agent_on_the_device_says(tmp_path: Path, machine: Machine) -> None:
    """The agent has the whole cost model, the fleet two reference models: 8 % in the median, 30 % at worst."""
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1, machine))])
    (stored,) = stored_runs(folder)
    judged = judge_run(stored.device_id, stored.run, stored.hardware)
    evidence = evidence_of(stored.run.measurements, judged.facts, current_limits())
    errors, same = [], 0
    with Fleet(folder) as fleet:
        for name in OTHERS:
            candidate = Candidate(entry=catalogue()[name], format=Format.ONNX, scheme="int4_block32")
            own = check(Question(candidate=candidate, context_tokens=2048), evidence)[0]
            found = check_model(fleet, name, scheme="int4_block32")
            same += found.verdicts[str(own.verdict)]
            assert found.schemes[0].memory_bytes == own.requirement.memory_bytes
            if own.decode_tokens_per_second and found.decode_tokens_per_second:
                errors.append(abs(math.log(found.decode_tokens_per_second[1] / own.decode_tokens_per_second.value)))

    assert len(errors) == len(OTHERS)
    assert np.median(errors) < 0.08
    assert max(errors) < 0.30
    assert same >= len(OTHERS) - 1
