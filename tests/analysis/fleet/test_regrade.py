"""A fleet graded in SQL: row for row what the judge stored, and under other limits what these say."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from example_runs import INT8, SMALL_BOARD, Machine, example_run
from example_snapshots import device_id, make_snapshot, replace_table
from made_fleet import make_fleet

from weighin.v1 import measurement_pb2, run_pb2
from weighin_analysis.card import Verdict
from weighin_analysis.errors import LimitsError
from weighin_analysis.fleet.coverage.cover import coverage_of
from weighin_analysis.fleet.coverage.tiers import tiers_of
from weighin_analysis.fleet.grading.grade import EstimateColumns, FloatArray, grade, log_sd
from weighin_analysis.fleet.grading.regrade import regrade, tiers_query, verdicts_query
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.fleet.snapshot.views import TIERS, VERDICTS
from weighin_analysis.limits import DecoderLimit, EncoderLimit, Limits, current_limits
from weighin_analysis.verdict import STOPPED, UNKNOWN_MEMORY, UNKNOWN_SPEED

LIMITS = current_limits()
FAST = replace(Machine(), read_bandwidth_bytes_per_second=200e9, multiply_adds_per_second=2e12)
LAX = replace(
    LIMITS,
    version="lax",
    decoder_comfortable=DecoderLimit(decode_tokens_per_second=1, time_to_first_token_seconds=1000),
    decoder_usable=DecoderLimit(decode_tokens_per_second=0.1, time_to_first_token_seconds=10_000),
)


def with_another_scheme(run: run_pb2.Run) -> run_pb2.Run:
    """Add the first decoder once more in int8, with other times, so that a class has two rows."""
    for one in [one for one in run.measurements if one.case.architecture.name == "SmolLM2-135M"]:
        added = run.measurements.add()
        added.CopyFrom(one)
        added.case.scheme = INT8
        for series in added.series:
            series.sample_seconds[:] = [1.3 * seconds for seconds in series.sample_seconds]
    return run


def gated(run: run_pb2.Run) -> run_pb2.Run:
    """Say that the memory gate stopped the largest decoder."""
    kept = [one for one in run.measurements if one.case.architecture.name != "Llama-3.2-1B"]
    (case,) = {one.case.architecture.name: one.case for one in run.measurements if one not in kept}.values()
    run.failures.add(case=case, reason=measurement_pb2.CASE_FAILURE_REASON_MEMORY_GATE, detail="too little memory")
    del run.measurements[:]
    run.measurements.extend(kept)
    return run


def without_measurements(run: run_pb2.Run) -> run_pb2.Run:
    del run.measurements[:]
    return run


def without_free_memory(run: run_pb2.Run) -> run_pb2.Run:
    run.device.memory.ClearField("available_bytes")
    return run


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Devices of all speeds, one that ran twice, one that is short of memory, one that measured nothing."""
    runs = [
        example_run(1),
        example_run(2, SMALL_BOARD),
        with_another_scheme(example_run(3, FAST)),
        gated(example_run(4, SMALL_BOARD)),
        without_measurements(example_run(5)),
        without_free_memory(example_run(6)),
        example_run(7, replace(FAST, memory_available_bytes=600 << 20)),
    ]
    pairs = [(device_id(number), run) for number, run in enumerate(runs, start=1)]
    return make_snapshot(tmp_path_factory.mktemp("fleet"), [*pairs, (device_id(1), example_run(8, FAST))])


@pytest.fixture
def fleet(snapshot: Path) -> Iterator[Fleet]:
    with Fleet(snapshot) as opened:
        yield opened


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return sorted(
        (dict(zip(names, row, strict=True)) for row in cursor.fetchall()), key=lambda row: str(list(row.values())[:8])
    )


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Rows are equal, numbers as far as another order of the same arithmetic lets them be."""
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert row == {k: pytest.approx(v, abs=1e-9) if isinstance(v, float) else v for k, v in other.items()}


def test_verdicts_under_the_snapshots_own_limits_are_those_that_it_holds(fleet: Fleet) -> None:
    graded = regrade(fleet.connection, LIMITS)
    stored = rows(fleet.connection, "FROM verdicts")
    assert {row["verdict"] for row in stored} == {"comfortable", "usable", "too_slow", "does_not_fit"}
    assert_same(rows(fleet.connection, f"FROM {graded.verdicts}"), stored)


def test_tiers_under_the_snapshots_own_limits_are_those_that_it_holds(fleet: Fleet) -> None:
    graded = regrade(fleet.connection, LIMITS)
    stored = rows(fleet.connection, "FROM tiers")
    assert len(stored) == len({row["device_id"] for row in stored}) == 7
    assert len({row["tier"] for row in stored}) >= 3
    assert {row["limited_by"] for row in stored} >= {"memory", "compute", None}
    assert_same(rows(fleet.connection, f"FROM {graded.tiers}"), stored)


def test_regraded_tables_have_the_columns_of_their_views(fleet: Fleet) -> None:
    graded = regrade(fleet.connection, LIMITS)
    for view, table in ((VERDICTS, graded.verdicts), (TIERS, graded.tiers)):
        found = fleet.connection.sql(f"FROM {table}")
        expected = [(column.name, column.type) for column in view.columns]
        assert list(zip(found.columns, map(str, found.types), strict=True)) == expected


def test_other_limits_grade_the_same_estimates_and_both_stand_side_by_side(fleet: Fleet) -> None:
    graded = regrade(fleet.connection, LAX)
    (worse,) = fleet.connection.execute(
        f"SELECT count(*) FROM verdicts AS a JOIN {graded.verdicts} AS b USING (run_id, architecture, scheme) "
        "WHERE list_position(['comfortable', 'usable', 'too_slow', 'does_not_fit'], a.verdict) "
        "< list_position(['comfortable', 'usable', 'too_slow', 'does_not_fit'], b.verdict)"
    ).fetchone() or (None,)
    assert worse == 0, "laxer limits make no verdict worse"
    changed = rows(fleet.connection, f"FROM {graded.tiers}")
    assert {row["limits_version"] for row in changed} == {"lax"}
    assert [row["tier"] for row in changed] != [row["tier"] for row in rows(fleet.connection, "FROM tiers")]
    assert {row["limits_version"] for row in rows(fleet.connection, "FROM tiers")} == {LIMITS.version}


def test_a_version_may_be_any_text(fleet: Fleet) -> None:
    odd = replace(LAX, version="""it's "ours" {1}; --""")
    graded = regrade(fleet.connection, odd)
    assert {row["limits_version"] for row in rows(fleet.connection, f"FROM {graded.tiers}")} == {odd.version}


def test_an_answer_stays_when_other_limits_of_the_same_version_are_asked_for(fleet: Fleet) -> None:
    found = tiers_of(fleet, limits=LAX)
    before = found.devices.rows()
    other = tiers_of(fleet, limits=replace(LIMITS, version=LAX.version))
    assert other.devices.rows() != before
    assert found.devices.rows() == before


def test_speeds_that_are_no_number_are_no_verdict_for_anybody(snapshot: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(snapshot, tmp_path / "snapshot"))
    speeds = ("decode_tokens_per_second", "prefill_tokens_per_second", "time_to_first_token_seconds")
    nan = ", ".join(f"if({name} IS NULL, NULL, 'NaN'::DOUBLE) AS {name}" for name in speeds)
    replace_table(folder, "estimates", f"SELECT * REPLACE ({nan}) FROM it")
    with Fleet(folder) as fleet:
        graded = regrade(fleet.connection, LAX)
        (stopped,) = fleet.connection.execute(
            f"SELECT count(DISTINCT run_id) FILTER (verdict IS NOT NULL) FROM {graded.verdicts} "
            "SEMI JOIN devices USING (run_id) WHERE counts AND architecture_kind = 'decoder' "
            "AND NOT contains(reasons[1], 'may be used')"
        ).fetchone() or (None,)
        (judged,) = fleet.connection.execute(
            f"SELECT count(DISTINCT run_id) FROM {graded.verdicts} SEMI JOIN devices USING (run_id) "
            "WHERE counts AND architecture_kind = 'decoder' AND verdict IS NOT NULL"
        ).fetchone() or (None,)
        tiers, coverage = tiers_of(fleet, limits=LAX), coverage_of(fleet, [LAX])
    assert stopped == 1, "the device whose memory gate stopped a model"
    assert 0 < judged < tiers.device_count
    assert tiers.judged_count == judged
    assert coverage.sample.unjudged_device_count == coverage.sample.device_count - judged
    assert {one.tier for one in tiers.counts} == {None}
    assert {row.reached_count for row in coverage.rows} == {0}


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (replace(LIMITS, version="x", prompt_tokens=1024), "x judge at prompt_tokens = 1024, .* estimates for 512"),
        (replace(LIMITS, decode_context_depth=0), "decode_context_depth = 0"),
        (replace(LIMITS, memory_context_tokens=4096), "memory_context_tokens = 4096"),
        (replace(LIMITS, encoder_tokens=256), "encoder_tokens = 256"),
        (replace(LIMITS, interval_probability=0.9), "interval_probability = 0.9"),
    ],
)
def test_limits_on_another_workload_are_refused_with_what_differs(fleet: Fleet, limits: Limits, words: str) -> None:
    with pytest.raises(LimitsError, match=words) as refusal:
        regrade(fleet.connection, limits)
    assert "need a new snapshot" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_device_without_estimates_has_a_row_without_a_tier(fleet: Fleet) -> None:
    (row,) = rows(fleet.connection, f"FROM ({tiers_query(LIMITS)}) WHERE device_id = '{device_id(5)}'")
    assert (row["tier"], row["tier_probability"], row["usable_tier"], row["limited_by"]) == (None, None, None, None)
    assert (row["limits_version"], row["formula_version"]) == (LIMITS.version, fleet.formula_version)


def test_a_device_counts_by_its_newest_run_alone(fleet: Fleet) -> None:
    query = (
        f"SELECT count(*), count(DISTINCT run_id) FROM ({verdicts_query(LIMITS)}) WHERE device_id = '{device_id(1)}'"
    )
    assert fleet.connection.execute(query).fetchone() == (
        fleet.connection.execute(f"SELECT count(*) FROM estimates WHERE device_id = '{device_id(1)}'").fetchone() or ()
    ) + (2,)
    (row,) = rows(fleet.connection, f"FROM ({tiers_query(LIMITS)}) WHERE device_id = '{device_id(1)}'")
    assert (row["run_id"],) == fleet.connection.execute(
        f"SELECT run_id FROM devices WHERE device_id = '{device_id(1)}'"
    ).fetchone()


# Estimates that nobody measured: what is absent or impossible.

ESTIMATE = {
    "run_id": "r",
    "run_number": 1,
    "device_id": "d",
    "source": "native",
    "size_class": "1B",
    "architecture": "one",
    "architecture_kind": "decoder",
    "scheme": "int4_block32",
    "execution_provider": "cpu",
    "decode_tokens_per_second": 20.0,
    "decode_tokens_per_second_low": 16.0,
    "decode_tokens_per_second_high": 25.0,
    "time_to_first_token_seconds": 1.0,
    "time_to_first_token_seconds_low": 0.8,
    "time_to_first_token_seconds_high": 1.25,
    "prefill_tokens_per_second": 512.0,
    "latency_seconds": None,
    "latency_seconds_low": None,
    "latency_seconds_high": None,
    "memory_bytes": 2**30,
    "memory_available_bytes": 8 * 2**30,
    "bytes_read_per_token": 2**29,
    "basis": "measured",
    "counts": True,
    "notes": [],
    "formula_version": "made",
}
_TYPES = {str: "VARCHAR", float: "DOUBLE", int: "BIGINT", bool: "BOOLEAN", list: "VARCHAR[]", type(None): "DOUBLE"}


@pytest.fixture
def made() -> Iterator[duckdb.DuckDBPyConnection]:
    """A fleet of one device without estimates; `add` gives it some."""
    columns = ", ".join(f"{name} {_TYPES[type(value)]}" for name, value in ESTIMATE.items())
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE estimates({columns})")
        connection.execute(
            "CREATE TABLE devices AS SELECT 'd' AS device_id, 'r' AS run_id, 1 AS run_number, 'native' AS source, "
            "1e11::DOUBLE AS read_bandwidth_bytes_per_second"
        )
        yield connection


def add(connection: duckdb.DuckDBPyConnection, **changes: object) -> None:
    row = ESTIMATE | changes
    connection.execute(f"INSERT INTO estimates VALUES ({', '.join('?' * len(row))})", list(row.values()))


def only_verdict(connection: duckdb.DuckDBPyConnection, limits: Limits = LIMITS) -> dict[str, Any]:
    (row,) = rows(connection, verdicts_query(limits))
    return row


def tier(connection: duckdb.DuckDBPyConnection, limits: Limits = LIMITS) -> dict[str, Any]:
    (row,) = rows(connection, tiers_query(limits))
    return row


def test_what_is_no_estimate_gives_no_verdict_and_no_tier(made: duckdb.DuckDBPyConnection) -> None:
    for column in ("decode_tokens_per_second", "time_to_first_token_seconds"):
        for suffix in ("", "_low", "_high"):
            for value in (None, math.nan, math.inf, 0.0, -1.0):
                add(made, **{column + suffix: value}, architecture=f"{column}{suffix} {value}")
    found = rows(made, verdicts_query(LIMITS))
    assert [row["architecture"] for row in found if row["verdict"] is not None] == []
    assert {(row["comfortable_probability"], row["usable_probability"]) for row in found} == {(None, None)}
    assert {tuple(row["reasons"]) for row in found} == {(UNKNOWN_SPEED,)}
    assert (tier(made)["tier"], tier(made)["usable_tier"], tier(made)["limited_by"]) == (None, None, None)


def test_a_row_without_any_speed_was_stopped_by_the_memory_gate(made: duckdb.DuckDBPyConnection) -> None:
    speeds = [name for name in ESTIMATE if "second" in name and "bytes" not in name]
    add(made, **dict.fromkeys(speeds), basis="formula")
    row = only_verdict(made, replace(LIMITS, memory_share=1.0))
    assert (row["verdict"], row["comfortable_probability"], row["reasons"]) == ("does_not_fit", 0.0, [STOPPED])
    assert tier(made)["limited_by"] == "memory"


def test_memory_that_is_not_known_is_judged_by_speed_alone_and_told(made: duckdb.DuckDBPyConnection) -> None:
    add(made, memory_available_bytes=None, notes=["extrapolated"])
    assert only_verdict(made)["verdict"] == "comfortable"
    assert only_verdict(made)["reasons"] == [UNKNOWN_MEMORY, "extrapolated"]


def test_every_reason_is_named_in_the_words_of_the_limits(made: duckdb.DuckDBPyConnection) -> None:
    add(made)
    fast = DecoderLimit(decode_tokens_per_second=50, time_to_first_token_seconds=0.25)
    slow = DecoderLimit(decode_tokens_per_second=5, time_to_first_token_seconds=10)
    usable = only_verdict(made, replace(LIMITS, decoder_comfortable=fast))
    assert usable["reasons"] == ["decode below 50 tokens/s", "first token later than 0.25 s"]
    too_slow = only_verdict(made, replace(LIMITS, decoder_comfortable=fast, decoder_usable=fast))
    assert (usable["verdict"], too_slow["verdict"]) == ("usable", "too_slow")
    assert too_slow["reasons"] == usable["reasons"]
    tight = only_verdict(made, replace(LIMITS, decoder_comfortable=slow, memory_share=0.1))
    assert tight["reasons"] == ["needs 1.0 GiB, 0.8 GiB may be used"]


def test_an_encoder_is_judged_by_its_latency_and_makes_no_tier(made: duckdb.DuckDBPyConnection) -> None:
    nothing = dict.fromkeys([name for name in ESTIMATE if name.startswith(("decode", "time"))])
    add(made, **nothing, architecture_kind="encoder", latency_seconds=0.05, latency_seconds_low=0.04,
        latency_seconds_high=0.0625)  # fmt: skip
    row = only_verdict(made)
    assert (row["verdict"], row["comfortable_probability"]) == ("comfortable", pytest.approx(0.5, abs=1e-7))
    assert tier(made)["tier"] is None
    short = replace(LIMITS, encoder_comfortable=EncoderLimit(latency_seconds=0.01))
    assert only_verdict(made, short)["reasons"] == ["latency above 10 ms"]


def test_without_a_comfortable_class_there_is_no_tier_and_no_probability_of_one(
    made: duckdb.DuckDBPyConnection,
) -> None:
    add(made, time_to_first_token_seconds=5.0)
    row = tier(made)
    assert (row["tier"], row["tier_probability"], row["scheme"], row["usable_tier"]) == (None, None, None, "1B")


def test_a_software_adapter_and_a_class_that_nobody_knows_make_no_tier(made: duckdb.DuckDBPyConnection) -> None:
    add(made, counts=False)
    add(made, size_class="9B")
    assert (tier(made)["tier"], tier(made)["limited_by"]) == (None, None)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"decode_tokens_per_second": 30.0}, {}),
        ({}, {"decode_tokens_per_second": 30.0, "basis": "interpolated"}),
        ({"scheme": "a"}, {"scheme": "b"}),
        ({"execution_provider": "a"}, {"execution_provider": "b"}),
        ({"size_class": "2B"}, {"decode_tokens_per_second": 99.0}),
    ],
    ids=["the faster", "what was run", "by scheme where all is equal", "by provider", "the larger class"],
)
def test_a_tier_is_reached_with_the_best_row_in_whatever_order(
    made: duckdb.DuckDBPyConnection, better: dict[str, Any], worse: dict[str, Any]
) -> None:
    expected = ESTIMATE | better
    for order in ([better, worse], [worse, better]):
        made.execute("DELETE FROM estimates")
        for changes in order:
            add(made, **changes)
        found = tier(made)
        assert (found["tier"], found["scheme"], found["execution_provider"]) == (
            expected["size_class"], expected["scheme"], expected["execution_provider"]
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, "compute"),  # 2 times over in decode, which uses a tenth of the bandwidth
        ({"bytes_read_per_token": 4 * 10**9}, "bandwidth"),
        ({"bytes_read_per_token": None}, "compute"),
        ({"time_to_first_token_seconds": 2.9}, "compute"),
        ({"memory_available_bytes": 2**31}, "memory"),
        ({"memory_available_bytes": None}, "compute"),
    ],
)
def test_what_limits_a_device_has_the_smallest_margin(
    made: duckdb.DuckDBPyConnection, changes: dict[str, Any], limit: str
) -> None:
    add(made, **changes)
    assert tier(made)["limited_by"] == limit


def test_the_smallest_class_that_is_not_comfortable_decides_what_limits(made: duckdb.DuckDBPyConnection) -> None:
    add(made, size_class="0.5B", memory_available_bytes=2**31)
    add(made, size_class="4B", memory_bytes=2**40)
    add(made, size_class="1B", time_to_first_token_seconds=5.0)
    add(made, size_class="1B", time_to_first_token_seconds=12.0, memory_bytes=2**40)
    assert (tier(made)["tier"], tier(made)["usable_tier"], tier(made)["limited_by"]) == ("0.5B", "1B", "compute")


def test_where_every_class_is_comfortable_the_largest_decides_what_limits(made: duckdb.DuckDBPyConnection) -> None:
    add(made, size_class="0.3B", memory_available_bytes=2**31)
    add(made, size_class="0.5B", memory_available_bytes=2**31)
    add(made, size_class="1B")
    assert (tier(made)["tier"], tier(made)["limited_by"]) == ("1B", "compute")


def test_a_fleet_without_devices_and_one_without_estimates_are_graded(made: duckdb.DuckDBPyConnection) -> None:
    assert rows(made, verdicts_query(LIMITS)) == []
    assert tier(made)["formula_version"] is None
    made.execute("DELETE FROM devices")
    assert rows(made, tiers_query(LIMITS)) == []


def test_sql_and_numpy_grade_a_fleet_alike(tmp_path: Path) -> None:
    with Fleet(make_fleet(tmp_path / "made", devices=300, seed=1, measurements_per_run=0)) as fleet:
        found = fleet.connection.sql(f"FROM ({verdicts_query(LIMITS)}) ORDER BY run_id, size_class, scheme")
        verdicts = [row[found.columns.index("verdict")] for row in found.fetchall()]
        probabilities = found.select("comfortable_probability, usable_probability").fetchnumpy()
        given = fleet.connection.sql("FROM estimates ORDER BY run_id, size_class, scheme").fetchnumpy()
    grades = grade(columns_of(given), LIMITS)
    assert verdicts == [list(Verdict)[code] for code in grades.verdict]
    assert set(verdicts) == set(Verdict)
    for name, column in probabilities.items():
        np.testing.assert_allclose(column, getattr(grades, name), rtol=0, atol=1e-12)


def columns_of(given: dict[str, Any]) -> EstimateColumns:
    def floats(name: str) -> FloatArray:
        return np.ma.filled(np.ma.asarray(given[name], dtype=np.float64), np.nan)

    def spread(quantity: str) -> FloatArray:
        return log_sd(floats(f"{quantity}_low"), floats(f"{quantity}_high"), LIMITS.interval_probability)

    return EstimateColumns(
        is_decoder=given["architecture_kind"] == "decoder",
        decode_tokens_per_second=floats("decode_tokens_per_second"),
        decode_tokens_per_second_log_sd=spread("decode_tokens_per_second"),
        time_to_first_token_seconds=floats("time_to_first_token_seconds"),
        time_to_first_token_seconds_log_sd=spread("time_to_first_token_seconds"),
        latency_seconds=floats("latency_seconds"),
        latency_seconds_log_sd=spread("latency_seconds"),
        memory_bytes=floats("memory_bytes"),
        memory_available_bytes=floats("memory_available_bytes"),
        stopped=np.isnan(floats("prefill_tokens_per_second")),
    )
