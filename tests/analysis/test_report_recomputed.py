"""Every number on the page is what a query over the snapshot's own files says: nothing is typed, nothing is stale.

The queries here are written anew over the Parquet files, without the package's own SQL. The page is held against what
``coverage_of`` returns, and that against what queries count of every device; the formula that makes an interval of it
has tests of its own, and so has how a number is written.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import duckdb
import pytest
from html_checks import Page, Table
from made_fleet import make_fleet

import weighin_analysis
from weighin_analysis.card import Verdict
from weighin_analysis.catalog import class_rank, size_classes
from weighin_analysis.fleet.coverage.cover import coverage_of
from weighin_analysis.fleet.coverage.shares import Cells, reached, share_of
from weighin_analysis.fleet.coverage.values import Coverage, Level, Share
from weighin_analysis.fleet.external.importing import import_rows
from weighin_analysis.limits import Limits, current_limits
from weighin_analysis.numbers import number
from weighin_analysis.public.rows import read_rows
from weighin_analysis.report.decision import SOURCE_WORDS
from weighin_analysis.report.numbers import gb, gib, percent, share_text
from weighin_analysis.report.write import write_report

THROUGHPUT = Path(__file__).parents[1] / "data" / "throughput.csv"
ABSENT = "–"
DECODERS = "counts AND architecture_kind = 'decoder'"
RANK = f"list_position({[str(one) for one in Verdict]}, verdict)"
REACHES = {Level.COMFORTABLE: "verdict = 'comfortable'", Level.USABLE: "verdict IN ('comfortable', 'usable')"}
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A snapshot behind plain DuckDB, what coverage says of it, and the page that was written."""

    sql: duckdb.DuckDBPyConnection
    coverage: Coverage
    page: Page
    folder: Path

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.sql.execute(query).fetchall()

    def table(self, kind: str) -> Table:
        (found,) = [table for table in self.page.tables if kind in table.classes]
        return found


def made(folder: Path) -> Path:
    return make_fleet(folder / "snapshot", devices=150, seed=3, runs_per_device=2)


def public(folder: Path) -> Path:
    import_rows(
        read_rows(THROUGHPUT),
        folder / "snapshot",
        base=None,
        limits=current_limits(),
        import_time=datetime(2026, 3, 1),
        file_sha256="",
    )
    return folder / "snapshot"


@pytest.fixture(scope="module", params=[made, public], ids=lambda make: str(make.__name__))
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """A fleet that ran twice with all sources native; and what others published."""
    folder = tmp_path_factory.mktemp("report")
    snapshot = request.param(folder)
    with weighin_analysis.open(snapshot) as fleet:
        write_report(fleet, folder / "report")
        coverage = coverage_of(fleet, [current_limits()])
    with duckdb.connect() as sql:
        for table in ("devices", "runs", "estimates", "verdicts", "tiers"):
            sql.execute(f"CREATE TABLE {table} AS FROM '{snapshot}/{table}/*.parquet'")
        for table in ("estimates", "verdicts", "runs"):
            sql.execute(f"DELETE FROM {table} WHERE run_id NOT IN (SELECT run_id FROM devices)")
        sql.execute(f"CREATE VIEW margins AS {margins_query(current_limits())}")
        text = (folder / "report" / "index.html").read_text(encoding="utf-8")
        yield Report(sql=sql, coverage=coverage, page=Page(text), folder=folder / "report")


def margins_query(limits: Limits) -> str:
    """Return SQL for the verdicts on decoders with their margins: how many standard deviations from a limit."""
    quantile = NormalDist().inv_cdf(0.5 + limits.interval_probability / 2)
    columns = []
    for level, limit in ((Level.COMFORTABLE, limits.decoder_comfortable), (Level.USABLE, limits.decoder_usable)):
        decode, first = limit.decode_tokens_per_second, limit.time_to_first_token_seconds
        columns.append(
            f"""CASE verdict WHEN 'does_not_fit' THEN '-inf' ELSE least(
                ln(decode_tokens_per_second / {decode}) / decode_sd,
                ln({first} / time_to_first_token_seconds) / first_sd
            ) END::DOUBLE AS {level}_margin_sds"""
        )
    sds = ", ".join(
        f"ln({name}_high / {name}_low) / {2 * quantile} AS {short}_sd"
        for name, short in (("decode_tokens_per_second", "decode"), ("time_to_first_token_seconds", "first"))
    )
    return f"""SELECT verdicts.*, {", ".join(columns)} FROM verdicts
        JOIN (SELECT * EXCLUDE (counts, architecture_kind), {sds} FROM estimates)
        USING (run_id, size_class, architecture, scheme, execution_provider)
        WHERE {DECODERS} AND verdict IS NOT NULL"""


def joined(*parts: object) -> str:
    return " ".join(str(part) for part in parts if part not in {"", None})


def share(found: Share | None) -> str:
    return "not judged" if found is None else joined(*share_text(found))


def stands_for(name: str) -> str:
    (found,) = [one for one in size_classes() if one.name == name]
    return found.reference or found.representative or ""


def by_class(names: Any) -> list[str]:
    return sorted(set(names), key=class_rank)


def test_no_table_is_left_unchecked(report: Report) -> None:
    """A new table needs a test here."""
    kinds = {kind for table in report.page.tables for kind in table.classes} - {"data", "card", "plain"}
    assert kinds == {
        "ship",
        "coverage",
        "schemes",
        "heat",
        "speeds",
        "memory",
        "baselines",
        "gates",
        "devices",
        "limits",
    }


def test_the_table_of_choices(report: Report) -> None:
    counts = dict(report.rows("SELECT tier, count(*) FROM tiers GROUP BY tier"))
    unjudged = report.rows(
        f"SELECT count(*) FROM devices WHERE run_id NOT IN (SELECT run_id FROM verdicts WHERE {DECODERS})"
    )
    counts[None] = counts.get(None, 0) - unjudged[0][0]
    wanted = []
    for row in report.coverage.ship:
        download, decode, first = chosen_rates(report, row.size_class, row.scheme)
        reach = (ABSENT, ABSENT) if row.size_class is None else (share(row.reach), share(row.usable_reach))
        wanted.append(
            [
                *reach,
                share(row.server),
                str(counts.get(row.size_class, 0)),
                joined(row.scheme, download) if row.scheme else ABSENT,
                f"{decode} tokens/s" if decode else ABSENT,
                f"{first} s" if first else ABSENT,
            ]
        )
    table = report.table("ship")
    assert [row[1:] for row in table.rows[1:]] == wanted
    names = [row.size_class or "Nothing: all to a server" for row in report.coverage.ship]
    assert [row[0].removesuffix(" named above") for row in table.rows[1:]] == names


def chosen_rates(report: Report, size_class: str | None, scheme: str | None) -> tuple[str, str, str]:
    """Return the download of a class in a scheme, and the medians over the devices that run it comfortably in any."""
    if not scheme:
        return "", "", ""
    best = report.rows(
        f"""SELECT arg_max(time_to_first_token_seconds, decode_tokens_per_second), max(decode_tokens_per_second)
        FROM estimates JOIN verdicts USING (run_id, architecture, scheme, execution_provider)
        WHERE estimates.{DECODERS.replace("architecture_kind", "estimates.architecture_kind")}
            AND estimates.size_class = '{size_class}' AND verdict = 'comfortable'
        GROUP BY run_id"""
    )
    downloads = report.rows(
        f"""SELECT min(download_bytes) FROM estimates
        WHERE size_class = '{size_class}' AND scheme = '{scheme}' AND {DECODERS}"""
    )
    decode = quantile([rate for _, rate in best], 0.5)
    first = quantile([seconds for seconds, _ in best], 0.5, longest_first=True)
    return gb(downloads[0][0]), decode, first


def quantile(values: list[float | None], share: float, *, longest_first: bool = False) -> str:
    """Return the value at a share of the way from the slowest device: from the smallest rate, or the longest time."""
    known = sorted((one for one in values if one is not None), reverse=longest_first)
    return number(known[math.ceil(share * len(known)) - 1]) if known else ABSENT


def counted_share(report: Report, condition: str, level: Level) -> Share:
    """Return the share of the devices that a query counts; ``condition`` picks the verdicts that may reach a level."""
    of_devices = report.sql.execute(
        f"""SELECT coalesce(bool_or({REACHES[level]}) FILTER ({condition}), false) AS point,
            coalesce(max({level}_margin_sds) FILTER ({condition}), '-inf') AS margin_sds,
            coalesce(max({level}_probability) FILTER ({condition}), 0) AS probability
        FROM margins GROUP BY run_id"""
    ).fetchnumpy()
    return share_by(of_devices)


def share_by(of_devices: Mapping[str, Any]) -> Share:
    """Return the share of devices by what a query says of each."""
    found = share_of(reached(of_devices["margin_sds"], of_devices["probability"]), Cells.one(len(of_devices["point"])))
    assert found is not None
    assert found.value == pytest.approx(of_devices["point"].mean())
    return found


def same(found: Share | None, wanted: Share) -> bool:
    # Probabilities are computed by SQL there and by numpy here.
    assert found is not None
    return [found.value, found.low, found.high] == pytest.approx([wanted.value, wanted.low, wanted.high], abs=1e-5)


def test_what_a_choice_reaches_is_what_queries_count(report: Report) -> None:
    for row in report.coverage.ship:
        if row.size_class is None:
            continue
        larger = by_class(one.name for one in size_classes())[class_rank(row.size_class) :]
        condition = f"list_contains({larger}, size_class)"
        assert same(row.reach, counted_share(report, condition, Level.COMFORTABLE)), row.size_class
        assert same(row.usable_reach, counted_share(report, condition, Level.USABLE)), row.size_class
        assert row.server.value == pytest.approx(1 - row.reach.value)


def test_the_share_of_a_class_is_that_of_the_devices_judged_on_it(report: Report) -> None:
    for row in report.coverage.rows:
        chosen = "size_class = $1 AND coalesce(scheme = $2, true)"
        of_devices = report.sql.execute(
            f"""SELECT bool_or({REACHES[row.level]}) AS point, max({row.level}_margin_sds) AS margin_sds,
                max({row.level}_probability) AS probability
            FROM margins WHERE {chosen} GROUP BY run_id""",
            [row.size_class, row.scheme],
        ).fetchnumpy()
        assert row.judged_count == len(of_devices["point"])
        assert same(row.share, share_by(of_devices)), (row.size_class, row.scheme, row.level)


def test_the_shares_by_class(report: Report) -> None:
    judged = dict(report.rows(f"SELECT size_class, count(DISTINCT run_id) FROM verdicts WHERE {DECODERS} GROUP BY ALL"))
    ((total,),) = report.rows("SELECT count(*) FROM devices")
    found = {(row.size_class, row.level): row.share for row in report.coverage.rows if row.scheme is None}
    assert report.table("coverage").rows[1:] == [
        [
            joined(name, stands_for(name)),
            share(found[name, Level.COMFORTABLE]),
            share(found[name, Level.USABLE]),
            str(judged[name]),
            str(total - judged[name]),
        ]
        for name in by_class(judged)
    ]


def test_the_shares_by_scheme(report: Report) -> None:
    query = f"SELECT size_class, scheme, count(DISTINCT run_id) FROM verdicts WHERE {DECODERS} GROUP BY ALL"
    judged = {(size_class, scheme): count for size_class, scheme, count in report.rows(query)}
    found = {(row.size_class, row.scheme): row.share for row in report.coverage.rows if row.level is Level.COMFORTABLE}
    head, *rows = report.table("schemes").rows
    for row in rows:
        for scheme, text in zip(head[1:], row[1:], strict=True):
            count = judged.get((row[0], scheme), 0)
            devices = f"{count} device{'' if count == 1 else 's'}"
            assert text == (f"{share(found[row[0], scheme])}, {devices}" if count else "not judged")
    assert [row[0] for row in rows] == by_class(size_class for size_class, _ in judged)


def test_the_verdicts_by_tier_and_class(report: Report) -> None:
    query = f"""
        SELECT tier, size_class, best, count(*) FROM tiers JOIN (
            SELECT run_id, size_class, min({RANK}) AS best FROM verdicts WHERE {DECODERS} GROUP BY ALL)
        USING (run_id) GROUP BY ALL"""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for tier, size_class, best, count in report.rows(query):
        counts.setdefault((tier or "no class", size_class), {})[tuple(Verdict)[best - 1]] = count
    head, *rows = report.table("heat").rows
    for row in rows:
        tier = row[0].split(" ")[0] if not row[0].startswith("no class") else "no class"
        for size_class, text in zip(head[1:], row[1:], strict=True):
            found = counts.get((tier, size_class))
            if found is None:
                assert text == ABSENT
                continue
            verdict = max(found, key=lambda one: (found[one], -[*Verdict].index(Verdict(one))))
            assert text == f"{verdict.replace('_', ' ')} {percent(found[verdict] / sum(found.values()))}"
    assert {key[0] for key in counts} == {" ".join(row[0].split(" ")[:-2]) for row in rows}


def test_the_speeds_by_class(report: Report) -> None:
    query = f"""
        SELECT size_class, decode_tokens_per_second, prefill_tokens_per_second, time_to_first_token_seconds
        FROM estimates e JOIN verdicts v USING (run_id, size_class, architecture, scheme, execution_provider)
        WHERE e.counts AND e.architecture_kind = 'decoder' AND verdict <> 'does_not_fit'
            AND decode_tokens_per_second IS NOT NULL
        QUALIFY 1 = row_number() OVER (
            PARTITION BY run_id, size_class ORDER BY {RANK}, decode_tokens_per_second DESC)"""
    speeds: dict[str, list[tuple[Any, ...]]] = {}
    for name, *values in report.rows(query):
        speeds.setdefault(name, []).append(tuple(values))
    wanted = []
    for name in by_class(speeds):
        decode, prefill = (quartiles([row[column] for row in speeds[name]]) for column in (0, 1))
        first = quartiles([row[2] for row in speeds[name]], longest_first=True)
        wanted.append([name, str(len(speeds[name])), decode, prefill, first])
    assert report.table("speeds").rows[1:] == wanted


def quartiles(values: list[float | None], *, longest_first: bool = False) -> str:
    found = [quantile(values, share, longest_first=longest_first) for share in (0.25, 0.5, 0.75)]
    return " · ".join(found) if any(values) else ABSENT


def test_memory_by_class(report: Report) -> None:
    query = f"""
        SELECT size_class, min(memory_bytes), max(memory_bytes), avg((basis IN ('measured', 'layer_probe'))::INTEGER),
            count(*) FROM estimates WHERE {DECODERS} GROUP BY ALL HAVING min(memory_bytes) IS NOT NULL"""
    needs = {row[0]: row[1:] for row in report.rows(query)}
    judged = f"SELECT run_id, size_class, min({RANK}) AS best FROM verdicts WHERE {DECODERS} GROUP BY ALL"
    unfit = {
        row[0]: row[1:]
        for row in report.rows(f"SELECT size_class, count(*) FILTER (best = 4), count(*) FROM ({judged}) GROUP BY ALL")
    }
    wanted = []
    for name in by_class(needs):
        least, most, run, count = needs[name]
        missed, total = unfit[name]
        takes = gib(least) if gib(least) == gib(most) else f"{gib(least)} to {gib(most)}"
        wanted.append([name, takes, f"{missed} {percent(missed / total)}", str(total), f"{percent(run)} of {count}"])
    assert report.table("memory").rows[1:] == wanted


def test_the_baseline_devices(report: Report) -> None:
    query = """
        SELECT d.*, tier, max(decode_tokens_per_second) FILTER (verdict = 'comfortable') AS decode
        FROM devices d JOIN (SELECT device_id, tier FROM tiers) USING (device_id) JOIN (
            SELECT run_id, size_class, decode_tokens_per_second, verdict FROM verdicts
            JOIN estimates USING (run_id, size_class, architecture, scheme, execution_provider)
            WHERE verdicts.counts AND verdicts.architecture_kind = 'decoder') AS judged
        ON judged.run_id = d.run_id AND judged.size_class = tier GROUP BY ALL"""
    cursor = report.sql.execute(query)
    names = [column[0] for column in cursor.description or ()]
    found = {row["device_id"]: row for row in (dict(zip(names, row, strict=True)) for row in cursor.fetchall())}
    for one, row in zip(report.coverage.baselines, report.table("baselines").rows[1:], strict=True):
        device = found[one.device_id]
        memory = gib(device["memory_total_bytes"]) if device["memory_total_bytes"] else "not stated"
        assert row == [
            f"{one.percentile} %",
            joined(device["name"], SOURCE_WORDS[device["source"]]),
            (device["form_factor"] or "not stated").replace("_", " "),
            memory,
            device["tier"],
            f"{number(device['decode'])} tokens/s on {device['tier']}",
        ]


def test_the_gates(report: Report) -> None:
    for name, row in zip(("chrome_built_in_ai", "copilot_plus_pc"), report.table("gates").rows[1:], strict=True):
        query = f"SELECT count(*) FILTER ({name}), count(*) FILTER (NOT {name}), count(*) FROM devices"
        ((passed, failed, total),) = report.rows(query)
        known = f" {percent(passed / (passed + failed))} of the known" if passed + failed else ""
        assert row[1:] == [f"{passed}{known}", str(failed), str(total - passed - failed)]


def test_the_devices(report: Report) -> None:
    query = """
        SELECT d.name, d.device_id, tier, usable_tier, limited_by, decode, memory_total_bytes, form_factor,
            accelerator_model, d.source, disturbed
        FROM devices d JOIN tiers t USING (device_id) LEFT JOIN (
            SELECT run_id, size_class, scheme, execution_provider, max(decode_tokens_per_second) AS decode
            FROM estimates GROUP BY ALL) e
        ON e.run_id = t.run_id AND e.size_class = tier AND e.scheme = t.scheme
            AND e.execution_provider = t.execution_provider
        ORDER BY last_receive_time DESC, device_id"""
    wanted = []
    for name, device, tier, usable, limited, decode, memory, form, accelerator, source, disturbed in report.rows(query):
        nothing = "none" if limited else "not judged"
        doubt = {True: "disturbed", False: "clean", None: ""}[disturbed]
        wanted.append(
            [
                joined(name, device[:8]),
                tier or nothing,
                usable or nothing,
                f"{number(decode)} tokens/s" if decode else ABSENT,
                gib(memory) if memory is not None else "not stated",
                (form or "not stated").replace("_", " "),
                accelerator or "none told",
                joined(SOURCE_WORDS[source], doubt),
            ]
        )
    assert report.table("devices").rows[1:] == wanted


def test_every_speed_of_every_card(report: Report) -> None:
    """Each reading of a card is an estimate of that device's newest run, with its interval."""
    columns = ("decode_tokens_per_second", "prefill_tokens_per_second", "time_to_first_token_seconds")
    units = ("tokens/s", "tokens/s", "s")
    known: set[str] = set()
    for column, unit in zip(columns, units, strict=True):
        for value, low, high in report.rows(f"SELECT {column}, {column}_low, {column}_high FROM estimates"):
            if value is not None:
                known.add(f"{number(value)} {unit} {number(low)} to {number(high)}")
    memory = {gib(row[0]) for row in report.rows("SELECT memory_bytes FROM estimates WHERE memory_bytes IS NOT NULL")}
    downloads = {gb(row[0]) for row in report.rows("SELECT download_bytes FROM estimates WHERE download_bytes > 0")}
    cards = [table for table in report.page.tables if "card" in table.classes]
    assert cards
    for row in [row for card in cards for row in card.rows[1:]]:
        assert {text for text in row[2:5] if text != "not estimated"} <= known
        assert row[5] in memory | {"not known"}
        assert row[6] in downloads | {"not known"}


def test_every_number_in_the_sentences(report: Report) -> None:
    """A number in a sentence is one of the tables', of the limits, of the sample, or of the memory that is free."""
    limits, sample = current_limits(), report.coverage.sample
    known = {one for table in report.page.tables for row in table.rows for cell in row for one in NUMBER.findall(cell)}
    for value in (
        limits.prompt_tokens,
        limits.decode_context_depth,
        limits.memory_context_tokens,
        limits.encoder_tokens,
        sample.device_count,
        sample.device_count - (sample.unjudged_device_count or 0),
        sample.unjudged_device_count,
        sample.disturbed_device_count,
    ):
        known.add(str(value))
    for part in (limits.interval_probability, sample.interval_probability, 0.9, 0.5, 0.1):
        known |= set(NUMBER.findall(percent(part)))
    ((runs,),) = report.rows("SELECT sum(run_count) FROM devices")
    known.add(str(runs))
    free = "SELECT max(memory_available_bytes) AS most FROM estimates WHERE counts GROUP BY run_id"
    ((amounts, count),) = report.rows(f"SELECT quantile_disc(most, [0.1, 0.5, 0.9]), count(most) FROM ({free})")
    known |= {one for amount in amounts for one in NUMBER.findall(gib(limits.memory_share * amount))} | {str(count)}
    ship = [row for row in report.coverage.ship if row.size_class]
    known |= {one for a in ship for b in ship for one in NUMBER.findall(percent(abs(a.reach.value - b.reach.value)))}
    head = [text for text in report.page.blocks if not text.startswith("This device")]
    unknown = {one for text in head for one in NUMBER.findall(text)} - known
    assert unknown <= {"50", "3", "10"}, "the number of sections, and the limits in seconds"
