"""Devices of two sources are never counted together unless somebody asks for it."""

import pytest

from weighin_analysis.errors import QuestionError
from weighin_analysis.fleet.sources import Source, chosen_sources


def test_native_devices_count_where_there_are_any() -> None:
    assert chosen_sources({"external": 98, "native": 1}, None) == ("native",)


def test_the_only_source_counts_where_nothing_is_native() -> None:
    assert chosen_sources({"external": 98}, None) == ("external",)
    assert chosen_sources({}, None) == ()


def test_of_two_others_one_has_to_be_named() -> None:
    with pytest.raises(QuestionError, match="browser and external"):
        chosen_sources({"browser": 1, "external": 98}, None)


def test_what_is_asked_for_counts_whether_it_is_there_or_not() -> None:
    assert chosen_sources({"external": 98, "native": 1}, Source.EXTERNAL) == ("external",)
    assert chosen_sources({"external": 98}, Source.BROWSER) == ("browser",)
    assert chosen_sources({"external": 98, "native": 1}, Source.ALL) == ("external", "native")
