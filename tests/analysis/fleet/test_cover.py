"""What a fleet says, held against plain SQL over the same snapshot; and what the command prints of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from example_runs import example_run
from example_snapshots import device_id, make_snapshot
from made_fleet import make_fleet

import weighin_analysis
from weighin_analysis.catalog import class_rank
from weighin_analysis.cli import main
from weighin_analysis.errors import LimitsError, QuestionError
from weighin_analysis.fleet.coverage.cover import coverage_of
from weighin_analysis.fleet.coverage.population import parse_population
from weighin_analysis.fleet.coverage.shares import Cells, reached, share_of
from weighin_analysis.fleet.coverage.suppress import LEAST_DEVICES, suppressed
from weighin_analysis.fleet.coverage.values import Coverage, Level
from weighin_analysis.fleet.external.importing import import_rows
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import DecoderLimit, current_limits
from weighin_analysis.public.rows import read_rows
from weighin_analysis.report.decision import fleet_headline

LIMITS = current_limits()
STRICT = replace(
    LIMITS,
    version="strict",
    decoder_comfortable=DecoderLimit(decode_tokens_per_second=30, time_to_first_token_seconds=1),
)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fleet(tmp_path_factory.mktemp("fleet") / "snapshot", devices=300, seed=7, runs_per_device=3)


@pytest.fixture
def fleet(snapshot: Path) -> Iterator[Fleet]:
    with Fleet(snapshot) as opened:
        yield opened


@pytest.fixture(scope="module")
def found(snapshot: Path) -> Coverage:
    with Fleet(snapshot) as opened:
        return coverage_of(opened, [LIMITS])


def test_a_device_counts_once_by_its_newest_run(fleet: Fleet, found: Coverage) -> None:
    assert fleet.sql("SELECT count(*) FROM runs").rows() == [(900,)]
    assert found.sample.device_count == 300
    assert {row.judged_count + (row.unjudged_count or 0) for row in found.rows} == {300}


@pytest.mark.parametrize("scheme", [None, "int4_block32", "int8_block32"])
@pytest.mark.parametrize("level", list(Level))
def test_the_devices_that_reach_a_level_are_those_that_sql_counts(
    fleet: Fleet, found: Coverage, scheme: str | None, level: Level
) -> None:
    verdicts = ["comfortable"] if level is Level.COMFORTABLE else ["comfortable", "usable"]
    counted = fleet.connection.execute(
        """SELECT size_class, count(DISTINCT run_id) FILTER (list_contains($1, verdict)), count(DISTINCT run_id)
        FROM verdicts SEMI JOIN devices USING (run_id)
        WHERE architecture_kind = 'decoder' AND counts AND verdict IS NOT NULL AND coalesce(scheme = $2, true)
        GROUP BY size_class""",
        [verdicts, scheme],
    ).fetchall()
    rows = [row for row in found.rows if row.scheme == scheme and row.level is level]
    assert sorted((row.size_class, row.reached_count, row.judged_count) for row in rows) == sorted(counted)


def test_a_share_is_that_of_the_best_row_of_every_device(fleet: Fleet, found: Coverage) -> None:
    limit = LIMITS.decoder_comfortable
    decode, first = "decode_tokens_per_second", "time_to_first_token_seconds"
    width = 2 * NormalDist().inv_cdf(0.5 + LIMITS.interval_probability / 2)
    rows = fleet.connection.execute(
        f"""SELECT max(comfortable_probability) AS probability, max(CASE verdict WHEN 'does_not_fit' THEN -1e9 ELSE
                least(ln({decode} / $1) / ln({decode}_high / {decode}_low),
                    ln($2 / {first}) / ln({first}_high / {first}_low)) * $3 END) AS margin_sds
        FROM verdicts JOIN estimates USING (run_id, size_class, architecture, scheme, execution_provider)
            SEMI JOIN devices USING (run_id)
        WHERE size_class = '2B' AND verdicts.counts GROUP BY run_id""",
        [limit.decode_tokens_per_second, limit.time_to_first_token_seconds, width],
    ).fetchnumpy()
    expected = share_of(reached(rows["margin_sds"], rows["probability"]), Cells.one(300))
    (row,) = [row for row in found.rows if (row.size_class, row.scheme, row.level) == ("2B", None, Level.COMFORTABLE)]
    assert expected is not None
    assert row.share is not None
    # The stored probabilities and these are computed by SQL and by numpy.
    assert [row.share.value, row.share.low, row.share.high] == pytest.approx(
        [expected.value, expected.low, expected.high], abs=1e-6
    )


def test_the_ship_table_counts_the_tiers_of_the_snapshot(fleet: Fleet, found: Coverage) -> None:
    tiers = dict(fleet.sql("SELECT tier, count(*) FROM tiers GROUP BY tier").rows())
    assert {row.size_class: row.tier_count for row in found.ship if row.tier_count} == tiers


def test_what_is_shipped_further_down_reaches_more_and_leaves_less_to_a_server(found: Coverage) -> None:
    choices = [row for row in found.ship if row.size_class]
    assert [class_rank(row.size_class or "") for row in choices] == sorted(
        (class_rank(row.size_class or "") for row in choices), reverse=True
    )
    reach = [row.reach.value for row in choices]
    assert reach == sorted(reach)
    for row in choices:
        assert row.server.value == pytest.approx(1 - row.reach.value)
        assert row.usable_reach.value >= row.reach.value
    assert found.ship[-1].size_class is None
    assert sum(row.tier_share.value for row in found.ship) == pytest.approx(1, abs=0.01)


def test_the_medians_of_a_choice_are_those_of_the_devices_that_run_it_comfortably(
    fleet: Fleet, found: Coverage
) -> None:
    row = found.ship[-2]
    expected = fleet.connection.execute(
        """SELECT quantile_disc(decode, 0.5), -quantile_disc(-first, 0.5), max(download_bytes) FROM (
            SELECT max(decode_tokens_per_second) AS decode,
                arg_max(time_to_first_token_seconds, decode_tokens_per_second) AS first,
                max(download_bytes) FILTER (scheme = $2) AS download_bytes
            FROM verdicts JOIN estimates USING (run_id, size_class, architecture, scheme, execution_provider)
                SEMI JOIN devices USING (run_id)
            WHERE verdict = 'comfortable' AND size_class = $1 GROUP BY run_id)""",
        [row.size_class, row.scheme],
    ).fetchone()
    assert expected == (
        row.median_decode_tokens_per_second,
        row.median_time_to_first_token_seconds,
        row.download_bytes,
    )


def test_baseline_devices_have_the_tiers_of_the_snapshot_and_do_not_get_weaker(fleet: Fleet, found: Coverage) -> None:
    assert [row.percentile for row in found.baselines] == [25, 50, 75]
    for row in found.baselines:
        (stored,) = fleet.connection.execute("SELECT tier FROM tiers WHERE device_id = $1", [row.device_id]).fetchall()
        assert stored == (row.tier,)
    ranks = [class_rank(row.tier) if row.tier else -1 for row in found.baselines]
    assert ranks == sorted(ranks)


def test_the_quartiles_of_a_speed_go_from_the_slowest_device_to_the_fastest(found: Coverage) -> None:
    assert found.speeds
    for row in found.speeds:
        assert list(row.decode_tokens_per_second) == sorted(row.decode_tokens_per_second)
        assert row.time_to_first_token_seconds is not None
        assert list(row.time_to_first_token_seconds) == sorted(row.time_to_first_token_seconds, reverse=True)


def test_prefill_and_first_token_at_a_quartile_are_of_the_same_device(tmp_path: Path) -> None:
    """Of an even number of devices the middle has two sides; a time is counted from the slow one, as a rate is."""
    with Fleet(make_fleet(tmp_path / "snapshot", devices=4, seed=7)) as fleet:
        for row in coverage_of(fleet, [LIMITS]).speeds:
            pairs = fleet.sql(
                "SELECT prefill_tokens_per_second, time_to_first_token_seconds FROM estimates "
                f"WHERE counts AND size_class = '{row.size_class}'"
            ).rows()
            assert row.prefill_tokens_per_second
            assert row.time_to_first_token_seconds
            assert set(zip(row.prefill_tokens_per_second, row.time_to_first_token_seconds, strict=True)) <= set(pairs)


def test_two_versions_of_limits_stand_side_by_side(fleet: Fleet, found: Coverage) -> None:
    both = coverage_of(fleet, [LIMITS, STRICT])
    assert both.limits_versions == (LIMITS.version, "strict")
    assert tuple(row for row in both.rows if row.limits_version == LIMITS.version) == found.rows
    strict = {(row.size_class, row.scheme, row.level): row for row in both.rows if row.limits_version == "strict"}
    comfortable = [row for row in found.rows if row.level is Level.COMFORTABLE]
    assert all(strict[row.size_class, row.scheme, row.level].reached_count <= row.reached_count for row in comfortable)
    assert any(strict[row.size_class, row.scheme, row.level].reached_count < row.reached_count for row in comfortable)


def test_a_program_may_name_one_version_of_the_limits_or_several(snapshot: Path, found: Coverage) -> None:
    with weighin_analysis.open(snapshot) as opened:
        assert opened.coverage(limits=LIMITS.version) == opened.coverage(limits=[LIMITS.version]) == found


def test_limits_for_another_workload_are_refused(fleet: Fleet) -> None:
    with pytest.raises(LimitsError, match="prompt_tokens"):
        coverage_of(fleet, [replace(LIMITS, version="long", prompt_tokens=1024)])


def test_a_population_of_phones_alone_is_the_share_of_the_phones(fleet: Fleet, found: Coverage) -> None:
    population = parse_population("form_factor,share\nphone,1\nlaptop,0\n")
    weighted = coverage_of(fleet, [LIMITS], population=population)
    (phones,) = fleet.sql(
        "SELECT count(*) FROM verdicts JOIN devices USING (run_id) "
        "WHERE form_factor = 'phone' AND size_class = '0.5B' AND scheme = 'int4_block32' AND verdict = 'comfortable'"
    ).rows()
    (row,) = [
        row
        for row in weighted.rows
        if (row.size_class, row.scheme, row.level) == ("0.5B", "int4_block32", Level.COMFORTABLE)
    ]
    (total,) = fleet.sql("SELECT count(*) FROM devices WHERE form_factor = 'phone'").rows()
    assert row.share is not None
    assert row.share.value == pytest.approx(phones[0] / total[0], abs=0.05)
    assert weighted.sample.weighted
    assert weighted.sample.effective_device_count == pytest.approx(total[0])
    unplaced = found.sample.device_count - weighted.sample.device_count
    assert weighted.sample.unplaced_device_count == unplaced > 0


def test_a_cell_that_no_device_is_in_is_told(fleet: Fleet) -> None:
    population = parse_population("form_factor,share\nphone,70 %\nserver,30 %\n")
    weighted = coverage_of(fleet, [LIMITS], population=population)
    assert weighted.sample.covered_population_share == pytest.approx(0.7)
    assert "no judged device stands for server, 30 % of the population" in weighted.notes
    assert fleet_headline(weighted).count("of the 70 % of the population that is covered (by") == 1


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What others published: seldom all classes, and of many devices too little to judge any."""
    folder = tmp_path_factory.mktemp("published") / "snapshot"
    import_rows(
        read_rows(Path(__file__).parents[2] / "data" / "throughput.csv"),
        folder,
        base=None,
        limits=LIMITS,
        import_time=datetime(2026, 3, 1),
        file_sha256="",
    )
    return folder


HALVES = parse_population("form_factor,share\nphone,50 %\ndesktop,50 %\n")
JUDGED = "SELECT DISTINCT run_id FROM verdicts WHERE architecture_kind = 'decoder' AND verdict IS NOT NULL AND counts"


def test_devices_that_were_not_judged_stand_for_nobody(published: Path) -> None:
    with Fleet(published) as fleet:
        halves = coverage_of(fleet, [LIMITS], population=HALVES)
        unknown = coverage_of(
            fleet,
            [LIMITS],
            population=parse_population("form_factor,accelerator,share\nphone,npu,80 %\ndesktop,gpu,20 %\n"),
        )
        counts = dict(
            fleet.sql(f"SELECT form_factor, count(*) FROM devices JOIN ({JUDGED}) USING (run_id) GROUP BY ALL").rows()
        )
    assert halves.sample.effective_device_count == pytest.approx(
        1 / (0.5**2 / counts["phone"] + 0.5**2 / counts["desktop"])
    )
    assert unknown.sample.covered_population_share == pytest.approx(0.2)
    assert "no judged device stands for phone, npu, 80 % of the population" in unknown.notes
    assert "of the 20 % of the population that is covered (by" in fleet_headline(unknown)


def test_a_class_that_a_part_of_the_population_was_not_judged_on_has_no_share(published: Path) -> None:
    with Fleet(published) as fleet:
        found = coverage_of(fleet, [LIMITS], population=HALVES)
        judged = {
            (form_factor, size_class)
            for form_factor, size_class in fleet.sql(
                "SELECT DISTINCT form_factor, size_class FROM verdicts JOIN devices USING (run_id) "
                "WHERE architecture_kind = 'decoder' AND verdict IS NOT NULL AND counts"
            ).rows()
        }
    rows = [row for row in found.rows if row.scheme is None and row.level is Level.COMFORTABLE]
    on_both = [row.size_class for row in rows if {("phone", row.size_class), ("desktop", row.size_class)} <= judged]
    assert [row.size_class for row in rows if row.share] == on_both
    assert [row.size_class for row in rows if row.covered_population_share == pytest.approx(1)] == on_both
    assert "32B" not in on_both
    (note,) = [note for note in found.notes if "32B" in note]
    assert note.endswith("no device that is judged on it stands for phone, 50 % of the population")


def test_the_command_says_why_there_is_no_share(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "halves.csv").write_text("form_factor,share\nphone,50 %\nserver,50 %\n")
    arguments = ["--snapshot", str(published), "--population", str(tmp_path / "halves.csv")]
    assert main(["coverage", *arguments, "--class", "32B"]) == 0
    assert capsys.readouterr().out.startswith("No share of 32B models is told: of a part of the population nobody was")


def test_check_and_coverage_tell_the_same_speeds_of_a_model_that_was_estimated_on_all(published: Path) -> None:
    with weighin_analysis.open(published) as fleet:
        checked = fleet.check("Llama-3.2-1B")
        (row,) = [row for row in fleet.coverage().speeds if row.size_class == "1B"]
    assert checked.decode_tokens_per_second == pytest.approx(row.decode_tokens_per_second)
    assert checked.time_to_first_token_seconds == pytest.approx(row.time_to_first_token_seconds)


def test_with_weights_too_few_devices_are_counted_as_they_are(published: Path) -> None:
    """Not as parts of a population: three phones are few, though half of all people have one."""
    with Fleet(published) as fleet:
        found = coverage_of(fleet, [LIMITS], population=HALVES)
    shown = {row.size_class for row in suppressed(found).ship}
    judged = sum(row.tier_count for row in found.ship)
    reach = 0
    for row in found.ship[:-1]:
        reach += row.tier_count
        counts = (row.tier_count, reach, judged - reach, row.usable_count, judged - row.usable_count)
        assert (row.size_class in shown) == (not any(0 < count < LEAST_DEVICES for count in counts)), row.size_class
        assert row.usable_count >= reach


def test_baseline_devices_are_those_of_the_judged_part_of_every_cell(published: Path) -> None:
    population = parse_population("form_factor,share\nphone,80 %\ndesktop,20 %\n")  # and most phones are not judged
    with Fleet(published) as fleet:
        found = coverage_of(fleet, [LIMITS], population=population)
    assert [one.form_factor for one in found.baselines] == ["phone"] * 3


def test_check_tells_whose_verdict_follows_from_other_classes_alone(published: Path) -> None:
    with weighin_analysis.open(published) as fleet:
        found = fleet.check("Qwen2.5-14B")
        ((own,),) = fleet.sql(
            "SELECT count(DISTINCT run_id) FROM estimates JOIN devices USING (run_id) "
            "WHERE size_class = '14B' AND architecture_kind = 'decoder' AND counts"
        ).rows()
    judged = found.any_scheme.judged_count
    assert own < judged
    assert any(
        note.startswith(f"{judged - own} of the {judged} judged devices have no estimate") for note in found.notes
    )


def test_an_empty_fleet_and_a_single_device_have_answers(tmp_path: Path) -> None:
    with Fleet(make_fleet(tmp_path / "none", devices=0, seed=1)) as none:
        empty = coverage_of(none, [LIMITS])
    assert (empty.sample.device_count, empty.rows, empty.ship, empty.baselines) == (0, (), (), ())
    with Fleet(make_fleet(tmp_path / "one", devices=1, seed=1)) as one:
        single = coverage_of(one, [LIMITS])
    assert len({row.device_id for row in single.baselines}) == 1
    assert all(row.share is not None and row.share.high - row.share.low > 0.5 for row in single.rows)


def test_a_source_that_was_not_asked_for_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = make_fleet(tmp_path / "external", devices=20, seed=1, source="external")
    with Fleet(folder) as fleet:
        assert coverage_of(fleet, [LIMITS]).sample.sources == {"external": 20}
        asked = coverage_of(fleet, [LIMITS], source="native")
        with pytest.raises(QuestionError, match="there is no source 'nativ'"):
            coverage_of(fleet, [LIMITS], source="nativ")
    assert (asked.sample.device_count, dict(asked.sample.left_out)) == (0, {"external": 20})


def test_what_is_shown_to_others_says_nothing_of_fewer_than_five_devices(found: Coverage) -> None:
    public = suppressed(found)
    counts = [row.reached_count for row in public.rows]
    counts += [row.judged_count - row.reached_count for row in public.rows]
    counts += [row.tier_count for row in public.ship] + [row.device_count for row in public.speeds]
    counts += [count for row in public.gates for count in (row.passed_count, row.failed_count, row.unknown_count)]
    assert not [count for count in counts if 0 < count < LEAST_DEVICES]
    assert public.baselines == ()
    assert "are left out" in public.notes[-1]
    assert len(public.rows) < len(found.rows)


def test_an_answer_that_may_not_be_told_to_others_is_not_replaced_by_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_fleet(tmp_path / "few", devices=9, seed=5)  # of several tiers, none of which five devices have
    assert main(["coverage", "--snapshot", str(folder)]) == 0
    assert "of 9 devices" in capsys.readouterr().out.splitlines()[0]
    assert main(["coverage", "--snapshot", str(folder), "--public"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("What most devices run comfortably is not told: it would be about fewer than five")
    assert "What to ship" not in printed


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_of_fewer_than_five_devices_nothing_else_is_told_to_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], json_option: list[str]
) -> None:
    folder = make_fleet(tmp_path / "few", devices=4, seed=1)
    assert main(["coverage", "--snapshot", str(folder), "--public", *json_option]) == 0
    printed = capsys.readouterr().out
    sentence = "Fewer than 5 devices: nothing is told of them."
    if json_option:
        document = json.loads(printed)
        assert document.keys() == {"snapshot_time", "headline"}
        assert document["headline"] == sentence
    else:
        assert printed == f"{sentence}\n"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_the_command_tells_others_counts_no_fewer_than_five_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    folder = make_fleet(tmp_path / "some", devices=12, seed=seed)
    arguments = ["coverage", "--snapshot", str(folder), "--public"]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    counts = [value for name, value in leaves(document) if name.endswith("_count") and "effective" not in name]
    assert [count for count in counts if count is not None and 0 < count < LEAST_DEVICES] == []
    shown = {(row["size_class"], row["level"]) for row in document["rows"] if row["scheme"] is None}
    with Fleet(folder) as fleet:
        found = coverage_of(fleet, [LIMITS])
    hidden = {row.size_class for row in found.rows if row.scheme is None and (row.size_class, row.level) not in shown}
    assert hidden
    for name in hidden:
        assert main([*arguments, "--class", name]) == 0
        assert capsys.readouterr().out.splitlines()[0] == f"Nothing can be told of {name} models on these devices."


def test_the_counts_of_a_sample_are_not_told_where_they_are_few(found: Coverage) -> None:
    few = replace(
        found.sample,
        sources={"native": 299, "browser": 1},
        left_out={"external": 2, "other": 50},
        unplaced_device_count=3,
        unjudged_device_count=296,
        disturbed_device_count=0,
    )
    public = suppressed(replace(found, sample=few, notes=("the devices ran several suites: a 1 (299), b 1 (1)",)))
    sample = public.sample
    assert (sample.sources, sample.left_out) == ({}, {"other": 50})
    assert (sample.unplaced_device_count, sample.unjudged_device_count) == (None, None)
    assert sample.disturbed_device_count == 0
    assert not [note for note in public.notes if "suites" in note]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a document that hold no others, each by the last name before it."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one, name)
    else:
        yield name, value


def test_the_command_answers_in_one_sentence_first(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", "--snapshot", str(snapshot), "--class", "1B"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert re.match(r"\d+ % \(\d+ to \d+ %\) of 300 devices run a 1B model comfortably, ", first)
    assert " run a 1B model comfortably, " in first
    assert any(line.startswith("1B ") for line in rest)


def test_the_command_prints_one_document(snapshot: Path, capsys: pytest.CaptureFixture[str], found: Coverage) -> None:
    assert main(["coverage", "--snapshot", str(snapshot), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sample"]["device_count"] == 300
    assert len(document["rows"]) == len(found.rows)
    assert document["rows"][0].keys() >= {"size_class", "scheme", "level", "reached_count", "share"}
    assert {"ship", "baselines", "speeds", "gates", "notes", "headline"} <= document.keys()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["--class", "9B"], 2, "there is no size class '9B'; the classes are"),
        (["--scheme", "int3"], 2, "no device has a verdict in the scheme 'int3'; there are int4_block32, int8_block32"),
        (["--source", "web"], 2, "there is no source 'web'"),
        (["--limits", "1999.1"], 1, "1999.1"),
        (["--population", "none.csv"], 1, "none.csv: cannot be read"),
    ],
)
def test_what_cannot_be_told_is_one_line(
    snapshot: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int, says: str
) -> None:
    assert main(["coverage", "--snapshot", str(snapshot), *arguments]) == exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.count("\n") == 1


def test_an_empty_fleet_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_fleet(tmp_path / "none", devices=0, seed=1)
    assert main(["coverage", "--snapshot", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == "No runs yet.\n"


def test_devices_on_which_every_case_failed_are_told_and_in_no_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = example_run()
    del run.measurements[:]
    folder = make_snapshot(tmp_path, [(device_id(1), run), (device_id(2), run)])
    with Fleet(folder) as fleet:
        failed = coverage_of(fleet, [LIMITS])
    assert (failed.sample.device_count, failed.sample.unjudged_device_count) == (2, 2)
    assert (failed.rows, failed.ship, failed.baselines) == ((), (), ())
    assert main(["coverage", "--snapshot", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("Nothing can be said of 2 devices: no run gave a measurement")
