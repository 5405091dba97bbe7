"""Limits: those that ship, and anybody's own file, which is refused in one line where it cannot be limits."""

import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.errors import LimitsError
from weighin_analysis.limits import (
    CURRENT_VERSION,
    current_limits,
    load_limits,
    load_several_limits,
    parse_limits,
    shipped_text,
    shipped_versions,
)

SHIPPED = shipped_text(CURRENT_VERSION)
OWN = SHIPPED.replace(f'version = "{CURRENT_VERSION}"', 'version = "mine"')


def edited(find: str, put: str) -> str:
    """The text of own limits with one place changed."""
    assert OWN.count(find) == 1, find
    return OWN.replace(find, put)


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_shipped_version_is_what_its_file_is_called() -> None:
    assert CURRENT_VERSION in shipped_versions()
    assert [load_limits(version).version for version in shipped_versions()] == list(shipped_versions())
    assert load_limits(CURRENT_VERSION) == current_limits()


def test_a_copy_under_another_version_is_the_same_limits(tmp_path: Path) -> None:
    assert load_limits(written(tmp_path, OWN)) == replace(current_limits(), version="mine")


def test_a_file_that_repeats_a_shipped_version_as_it_is_says_nothing_wrong(tmp_path: Path) -> None:
    assert load_limits(written(tmp_path, SHIPPED)) == current_limits()


def test_a_file_needs_no_ending_of_its_name(tmp_path: Path) -> None:
    assert load_limits(written(tmp_path, OWN, "mine")).version == "mine"


def test_whole_numbers_are_numbers_too() -> None:
    limits = parse_limits(edited("decode_tokens_per_second = 10.0 ", "decode_tokens_per_second = 12 "))
    assert limits.decoder_comfortable.decode_tokens_per_second == 12.0


def test_an_unknown_version_is_told_with_the_known_ones() -> None:
    with pytest.raises(LimitsError, match=r"no limits '2031.7', known are 2026\.1; .*`weighin-analysis limits`"):
        load_limits("2031.7")


def test_a_file_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match=r"none\.toml: the limits cannot be read: No such file"):
        load_limits(str(tmp_path / "none.toml"))


def test_a_folder_is_no_file_of_limits(tmp_path: Path) -> None:
    with pytest.raises(LimitsError, match="cannot be read"):
        load_limits(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (edited('version = "mine"', 'version = ""'), r"version is ''; it must be a text of 1 to 40 characters"),
        (edited('version = "mine"', 'version = " "'), "version is ' '"),
        (edited('version = "mine"', "version = 2026.1"), r"version is 2026\.1; it must be a text"),
        (edited('version = "mine"', r'version = "\u001b[31m"'), "version is"),
        (edited('version = "mine"', ""), "version is missing; it is a text"),
        (edited("prompt_tokens = 512", "prompt_tokens = 0"), r"reference\.prompt_tokens is 0; .* whole number"),
        (edited("prompt_tokens = 512", "prompt_tokens = 512.0"), r"reference\.prompt_tokens is 512\.0"),
        (edited("prompt_tokens = 512", "prompt_tokens = true"), r"reference\.prompt_tokens is True"),
        (edited("latency_seconds = 0.05", "latency_seconds = -0.05"), r"encoder\.comfortable\.latency_seconds is -0"),
        (edited("latency_seconds = 0.05", "latency_seconds = nan"), r"latency_seconds is nan"),
        (edited("latency_seconds = 0.05", "latency_seconds = inf"), r"latency_seconds is inf"),
        (edited("latency_seconds = 0.05", "latency_seconds = '50 ms'"), r"latency_seconds is '50 ms'; .* of seconds"),
        (edited("latency_seconds = 0.05", "latency_seconds = [0.05]"), r"latency_seconds is \[0\.05\]"),
        (edited("latency_seconds = 0.05", f"latency_seconds = {10**400}"), "latency_seconds is 1000.* below 1e.300"),
        (edited("prompt_tokens = 512", "prompt_tokens = 2147483648"), "prompt_tokens is 2147483648; .* to 2147483647"),
        (edited("latency_seconds = 0.05", ""), r"encoder\.comfortable\.latency_seconds is missing; .* seconds above 0"),
        (edited("share_of_available = 0.8", "share_of_available = 80"), r"share_of_available is 80; .* at most 1"),
        (edited("interval_probability = 0.8", "interval_probability = 1"), r"interval_probability is 1; .* between"),
        (edited("latency_seconds = 0.05", "latency_seconds = 0.4"), r"comfortable\S* is easier .* encoder\.usable"),
        (edited("tokens_per_second = 10.0", "tokens_per_second = 4"), r"comfortable\.decode\S* is easier"),
        (edited("first_token_seconds = 3.0", "first_token_seconds = 11"), r"comfortable\.time\S* is easier"),
        (edited("[estimate]", "[estimates]"), r"estimate\.interval_probability is missing"),
        (OWN + "\n[decoder.nice]\nrate = 1\n", r"'decoder\.nice\.rate' is nothing that limits have; remove it"),
        ("reference = 1\n" + OWN.replace("[reference]", "[workload]"), r"reference\.prompt_tokens is missing"),
        ("version = ", "is not TOML"),
        ("", "version is missing"),
        (edited('version = "mine"', f'version = "{CURRENT_VERSION}"').replace("10.0", "11"), "with other numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_limits_is_refused_in_one_line_that_names_file_and_key(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(LimitsError, match=words) as refusal:
        load_limits(written(tmp_path, text))
    assert str(refusal.value).startswith(f"{tmp_path}/mine.toml: ")
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"#" * 70_000], ids=["no text", "too large"])
def test_what_is_no_text_of_limits_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(LimitsError, match=r"mine\.toml: is "):
        load_limits(str(path))


@given(st.text(max_size=200))
def test_any_text_is_limits_or_one_error(text: str) -> None:
    with pytest.raises(LimitsError):
        parse_limits(text)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(key=st.sampled_from(sorted(line.split(" = ")[0] for line in OWN.splitlines() if " = " in line)), value=LEAVES)
def test_any_value_in_the_place_of_one_is_taken_or_refused_with_one_error(key: str, value: object) -> None:
    lines = [f"{key} = {toml(value)}" if line.startswith(f"{key} =") else line for line in OWN.splitlines()]
    try:
        limits = parse_limits("\n".join(lines))
    except LimitsError:
        return
    assert limits.decoder_comfortable.decode_tokens_per_second >= limits.decoder_usable.decode_tokens_per_second > 0
    assert limits.encoder_comfortable.latency_seconds <= limits.encoder_usable.latency_seconds
    assert 0 < limits.memory_share <= 1


def toml(value: object) -> str:
    """A value as TOML writes it; None is left out."""
    by_type: dict[type, Callable[[object], str]] = {bool: lambda one: str(one).lower(), type(None): lambda _: ""}
    return by_type.get(type(value), repr)(value)


def test_each_of_several_limits_is_taken_once(tmp_path: Path) -> None:
    own = written(tmp_path, OWN)
    assert [one.version for one in load_several_limits([own, CURRENT_VERSION, own])] == ["mine", CURRENT_VERSION]


def test_two_limits_with_other_numbers_cannot_share_a_version(tmp_path: Path) -> None:
    one = written(tmp_path, OWN, "one.toml")
    other = written(tmp_path, edited("share_of_available = 0.8", "share_of_available = 0.7"), "other.toml")
    with pytest.raises(LimitsError, match="both called 'mine'; give one a version"):
        load_several_limits([one, other])


def test_the_file_holds_every_field_of_the_limits_once() -> None:
    def leaves(table: dict[str, object]) -> int:
        return sum(leaves(value) if isinstance(value, dict) else 1 for value in table.values())

    limits = current_limits()
    numbers = [getattr(limits, one.name) for one in fields(limits)]
    count = sum(len(fields(value)) if hasattr(value, "__dataclass_fields__") else 1 for value in numbers)
    assert leaves(tomllib.loads(SHIPPED)) == count
