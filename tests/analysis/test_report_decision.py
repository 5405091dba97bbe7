"""The decision in one sentence: what to ship, to whom, and what is left to a server."""

from dataclasses import replace

import pytest

from weighin_analysis.fleet.coverage.values import Coverage, Sample, Share, ShipRow
from weighin_analysis.report.decision import fallback_choice, fleet_headline, main_choice


def about(value: float) -> Share:
    return Share(value=value, low=max(0.0, value - 0.1), high=min(1.0, value + 0.1))


def choice(size_class: str | None, reach: float) -> ShipRow:
    return ShipRow(
        usable_count=0,
        limits_version="2026.1",
        size_class=size_class,
        scheme="int4_block32" if size_class else None,
        download_bytes=None,
        tier_count=1,
        tier_share=about(0.1),
        reach=about(reach),
        usable_reach=about(reach),
        server=about(1 - reach),
        median_decode_tokens_per_second=None,
        median_time_to_first_token_seconds=None,
    )


def fleet(*ship: ShipRow, devices: int = 40, unjudged: int = 0, **sources: int) -> Coverage:
    return Coverage(
        sample=Sample(
            device_count=devices,
            sources=sources or {"native": devices},
            left_out={},
            weighted=False,
            effective_device_count=devices,
            covered_population_share=1,
            unplaced_device_count=0,
            unjudged_device_count=unjudged,
            disturbed_device_count=0,
            interval_probability=0.95,
        ),
        limits_versions=("2026.1",),
        formula_version="1",
        rows=(),
        ship=ship,
        baselines=(),
        speeds=(),
        gates=(),
        notes=(),
    )


CHOICES = choice("4B", 0.2), choice("1B", 0.6), choice("0.1B", 0.9), choice(None, 0.0)


@pytest.mark.parametrize(
    ("coverage", "headline"),
    [
        (
            fleet(*CHOICES),
            "Ship 1B to the 60 % (50 to 70 %) of 40 devices that run it comfortably, 0.1B to 30 % more, "
            "and leave 10 % to a server.",
        ),
        (
            fleet(choice("1B", 0.6), choice(None, 0.0)),
            "Ship 1B to the 60 % (50 to 70 %) of 40 devices that run it comfortably and leave 40 % to a server.",
        ),
        (
            fleet(choice("7B", 1.0)),
            "Ship 7B to the 100 % (90 to 100 %) of 40 devices that run it comfortably.",
        ),
        (
            fleet(choice("4B", 0.1), choice("0.1B", 0.3)),
            "Ship 0.1B to the 30 % (20 to 40 %) of 40 devices that run it comfortably and leave 70 % to a server.",
        ),
        (fleet(choice(None, 0.0)), "Leave all to a server: none of 40 devices runs a measured class comfortably."),
        (
            fleet(choice("1B", 1.0), unjudged=4),
            "Ship 1B to the 100 % (90 to 100 %) of 36 judged of 40 devices that run it comfortably.",
        ),
        (
            fleet(choice("1B", 1.0), external=40),
            "Ship 1B to the 100 % (90 to 100 %) of 40 devices from published figures that run it comfortably.",
        ),
        (
            fleet(choice("1B", 1.0), native=3, external=37),
            "Ship 1B to the 100 % (90 to 100 %) of 40 devices (3 weighed in and 37 from published figures) "
            "that run it comfortably.",
        ),
        (
            fleet(unjudged=40),
            "Nothing can be said of 40 devices: no run gave a measurement that a class can be judged by.",
        ),
    ],
)
def test_the_sentence_tells_what_to_ship_to_whom(coverage: Coverage, headline: str) -> None:
    assert fleet_headline(coverage) == headline


def test_a_weighted_share_is_one_of_the_population() -> None:
    coverage = fleet(choice("1B", 1.0))
    weighted = replace(coverage, sample=replace(coverage.sample, weighted=True))
    words = "Ship 1B to the 100 % (90 to 100 %) of the population (by 40 devices) that run it comfortably."
    assert fleet_headline(weighted) == words


def test_the_class_that_is_named_is_the_largest_that_half_of_the_devices_run() -> None:
    main = main_choice(fleet(*CHOICES))
    assert main is not None
    assert main.size_class == "1B"


def test_the_others_get_the_largest_class_that_reaches_nearly_all_of_them() -> None:
    fallback = fallback_choice(fleet(choice("14B", 0.5), choice("4B", 0.8), choice("1B", 0.95), choice("0.5B", 0.97)))
    assert fallback is not None
    assert fallback.size_class == "1B"


def test_the_first_limits_decide() -> None:
    other = fleet(choice("0.1B", 0.9))
    two = fleet(*CHOICES, *other.ship)
    assert main_choice(two) == main_choice(fleet(*CHOICES))
