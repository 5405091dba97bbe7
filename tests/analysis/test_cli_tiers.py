"""The commands `tiers` and `limits`: the answer first, every device, and one document for machines."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_runs import SMALL_BOARD, Machine, example_run
from example_snapshots import device_id, make_snapshot, replace_table
from made_fleet import make_fleet

from weighin_analysis.cli import main
from weighin_analysis.commands.tiers import MOST_SHOWN
from weighin_analysis.fleet.query.fleet import Fleet
from weighin_analysis.limits import CURRENT_VERSION, current_limits, parse_limits, shipped_text

FAST = replace(Machine(), read_bandwidth_bytes_per_second=200e9, multiply_adds_per_second=2e12)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machines = (Machine(), SMALL_BOARD, FAST)
    pairs = [(device_id(number), example_run(number, machine)) for number, machine in enumerate(machines, start=1)]
    return make_snapshot(tmp_path_factory.mktemp("fleet"), pairs)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made fleet that is longer than a screen."""
    return make_fleet(tmp_path_factory.mktemp("many") / "made", devices=70, seed=3, measurements_per_run=0)


@pytest.fixture
def stricter(tmp_path: Path) -> Path:
    """Limits of somebody's own, under which a decoder must be five times as fast."""
    text = shipped_text(CURRENT_VERSION).replace(f'"{CURRENT_VERSION}"', '"stricter"')
    path = tmp_path / "stricter.toml"
    path.write_text(text.replace("decode_tokens_per_second = 10.0", "decode_tokens_per_second = 50.0"))
    return path


def answered(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(list(map(str, arguments))) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def document(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answered(capsys, *arguments, "--json"))
    return found


def stored(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with Fleet(folder) as fleet:
        return fleet.sql(query).rows()


def test_the_answer_comes_first_and_every_device_after_it(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = answered(capsys, "tiers", "--snapshot", snapshot).splitlines()
    assert lines[0].startswith("Of 3 devices, ")
    assert " comfortably run models of " in lines[0]
    assert (
        lines[1] == f"Limits {CURRENT_VERSION}, formula {stored(snapshot, 'SELECT formula_version FROM tiers')[0][0]}."
    )
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == ["tier", "devices", "share", "expected"]
    devices = [line.split() for line in table[table.index("") + 2 :]]
    expected = stored(
        snapshot, "SELECT device_id, tier FROM tiers JOIN devices USING (device_id) ORDER BY last_receive_time DESC"
    )
    assert [tuple(words[:2]) for words in devices] == expected
    assert [words[0] for words in devices] == [device_id(3), device_id(2), device_id(1)]


def test_one_document_carries_the_versions_the_tiers_and_every_device(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "tiers", "--snapshot", snapshot)
    assert found["headline"].startswith("Of 3 devices, ")
    assert found["snapshot_time"].endswith("+00:00")
    assert (found["sources"], found["left_out"]) == ({"native": 3}, {})
    columns = (
        "device_id, run_id, source, tier, tier_probability, usable_tier, scheme, execution_provider, limited_by, "
        "limits_version, formula_version"
    )
    rows = stored(snapshot, f"SELECT {columns} FROM tiers ORDER BY device_id")
    names = columns.split(", ")
    assert [
        tuple(one[name] for name in names) for one in sorted(found["devices"], key=lambda one: str(one["device_id"]))
    ] == rows
    assert all(one["headline"] for one in found["devices"])


def test_shares_count_every_device_once_and_the_expected_share_counts_it_by_its_probability(
    many: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "tiers", "--snapshot", many)
    expected = stored(many, "SELECT tier, count(*), sum(tier_probability) / 70 FROM tiers GROUP BY tier")
    assert {one["tier"]: one["device_count"] for one in found["tiers"]} == {tier: count for tier, count, _ in expected}
    assert sum(one["share"] for one in found["tiers"]) == pytest.approx(1)
    for tier, _, share in expected:
        (one,) = (one for one in found["tiers"] if one["tier"] == tier)
        assert one["expected_share"] == (share if share is None else pytest.approx(share))


def test_a_terminal_shows_the_first_devices_and_how_to_see_all(
    many: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = answered(capsys, "tiers", "--snapshot", many).splitlines()
    assert lines[-1] == "and 20 more: --json, or the output in a file, has all"
    assert len([line for line in lines if "Made " in line]) == MOST_SHOWN


def test_what_is_no_terminal_gets_every_device(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answered(capsys, "tiers", "--snapshot", many).count("Made ") == 70


def test_other_limits_grade_the_same_snapshot_again(
    snapshot: Path, stricter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = document(capsys, "tiers", "--snapshot", snapshot)
    after = document(capsys, "tiers", "--snapshot", snapshot, "--limits", stricter)
    assert (before["limits_version"], after["limits_version"]) == (CURRENT_VERSION, "stricter")
    assert {one["limits_version"] for one in after["devices"]} == {"stricter"}
    assert [one["tier"] for one in after["devices"]] != [one["tier"] for one in before["devices"]]


def test_the_version_of_the_snapshot_may_be_named(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = document(capsys, "tiers", "--snapshot", snapshot, "--limits", CURRENT_VERSION)
    assert named == document(capsys, "tiers", "--snapshot", snapshot)


def test_devices_of_other_sources_are_not_counted_unless_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1)), (device_id(2), example_run(2))])
    for table in ("devices", "tiers"):
        replace_table(
            folder, table, f"SELECT * REPLACE (if(device_id = '{device_id(2)}', 'external', source) AS source) FROM it"
        )
    alone = document(capsys, "tiers", "--snapshot", folder)
    assert (len(alone["devices"]), alone["sources"], alone["left_out"]) == (1, {"native": 1}, {"external": 1})
    assert "Not counted: 1 external device;" in answered(capsys, "tiers", "--snapshot", folder)
    both = document(capsys, "tiers", "--snapshot", folder, "--source", "all")
    assert (len(both["devices"]), both["sources"]) == (2, {"native": 1, "external": 1})
    nobody = answered(capsys, "tiers", "--snapshot", folder, "--source", "browser").splitlines()
    assert nobody[0] == "None of its devices are counted."


@pytest.mark.parametrize(
    ("machines", "headline"),
    [
        ([Machine()], "Of 1 device, 1 (100.0 %) comfortably runs models of 1B or larger."),
        ([replace(FAST, memory_available_bytes=1 << 20)], "None of 1 device runs a measured class comfortably."),
        ([], "No runs yet."),
    ],
)
def test_small_fleets_are_told_in_one_sentence(
    machines: list[Machine], headline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(device_id(number), example_run(number, machine)) for number, machine in enumerate(machines, start=1)]
    folder = make_snapshot(tmp_path, pairs)
    assert answered(capsys, "tiers", "--snapshot", folder).splitlines()[0] == headline
    assert document(capsys, "tiers", "--snapshot", folder)["headline"] == headline


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--limits", "2031.7"], 1, "there are no limits '2031.7', known are 2026.1"),
        (["--limits", "none.toml"], 1, "none.toml: the limits cannot be read"),
        (["--limits", ""], 1, "there are no limits '', known are 2026.1"),
        (["--source", "moon"], 2, "there is no source 'moon'"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    arguments: list[str], exit_code: int, words: str, snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tiers", "--snapshot", str(snapshot), *arguments]) == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_limits_on_another_workload_say_that_a_new_snapshot_is_needed(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shipped_text(CURRENT_VERSION).replace(f'"{CURRENT_VERSION}"', '"long"').replace(" = 2048", " = 8192")
    path = tmp_path / "long.toml"
    path.write_text(text)
    assert main(["tiers", "--snapshot", str(snapshot), "--limits", str(path)]) == 1
    assert "memory_context_tokens = 8192, but this snapshot has estimates for 2048" in capsys.readouterr().err


def test_limits_are_printed_as_the_file_that_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_limits(answered(capsys, "limits")) == current_limits()
    assert answered(capsys, "limits", CURRENT_VERSION) == answered(capsys, "limits")
    assert main(["limits", "2031.7"]) == 1


def test_limits_as_json_are_all_that_ship(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "limits")
    assert found["current"] == CURRENT_VERSION
    assert CURRENT_VERSION in [one["version"] for one in found["limits"]]


def test_a_device_on_which_nothing_could_be_judged_is_no_device_without_a_tier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = example_run(2, SMALL_BOARD)
    del empty.measurements[:]
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1)), (device_id(2), empty)])
    found = document(capsys, "tiers", "--snapshot", folder)
    assert (found["device_count"], found["judged_count"]) == (2, 1)
    assert sum(one["device_count"] for one in found["tiers"]) == 1
    assert sum(one["share"] for one in found["tiers"]) == pytest.approx(1.0)
    assert found["headline"].startswith("Of 1 judged of 2 devices, 1 (100.0 %)")
    assert next(one for one in found["devices"] if one["tier"] is None)["headline"].startswith("Not judged")
    assert "\n?              1        -         -\n" in answered(capsys, "tiers", "--snapshot", folder)


def test_a_document_is_ascii_whatever_a_device_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_snapshot(tmp_path, [(device_id(1), example_run(1))])
    name = 'Gerät "1" \x9b2J\u202e \\'
    replace_table(folder, "devices", "SELECT * REPLACE ($name$" + name + "$name$ AS name) FROM it")
    text = answered(capsys, "tiers", "--snapshot", folder, "--json")
    assert text.isascii()
    assert [one["name"] for one in json.loads(text)["devices"]] == [name]


def test_a_document_of_many_batches_has_every_device_once(
    many: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = document(capsys, "tiers", "--snapshot", many)
    monkeypatch.setattr("weighin_analysis.commands.tiers._BATCH_ROWS", 7)
    assert document(capsys, "tiers", "--snapshot", many) == whole
    assert len({one["device_id"] for one in whole["devices"]}) == 70


def test_a_document_is_ascii_and_keeps_every_text_of_a_device(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = '\x1b[2J "\x9b\x7f\u2028, \\é😀'
    folder = shutil.copytree(snapshot, tmp_path / "named")
    replace_table(folder, "devices", f"SELECT * REPLACE ('{name}' AS name) FROM it")
    text = answered(capsys, "tiers", "--snapshot", folder, "--json")
    assert set(text) <= {"\n", *map(chr, range(32, 127))}
    assert {one["name"] for one in json.loads(text)["devices"]} == {name}
