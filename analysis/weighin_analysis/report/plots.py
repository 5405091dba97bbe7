"""From cards to charts: which points stand where, and what the picture says in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from weighin_analysis.card import CardRow, Estimate, Verdict
from weighin_analysis.catalog import size_classes
from weighin_analysis.limits import Limits
from weighin_analysis.report.charts import DotChart, Point, Zone
from weighin_analysis.report.fleet import VERDICTS, DeviceResult, best_rows, device_facts
from weighin_analysis.report.numbers import estimate_text, gib, percent

TONES = {
    Verdict.COMFORTABLE: "comfortable",
    Verdict.USABLE: "usable",
    Verdict.TOO_SLOW: "too-slow",
    Verdict.DOES_NOT_FIT: "does-not-fit",
}
# More dots than this in one row hide each other; evenly spaced ranks keep the shape of the distribution.
MAX_DOTS_IN_ROW = 120
# No device is this many times slower or faster than a limit; one that says so must not squeeze all others together.
MOST_TIMES_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart with its words; ``alternative`` says what the picture shows to who does not see it."""

    anchor: str
    heading: str
    caption: str
    alternative: str
    verdicts: tuple[Verdict, ...]
    chart: DotChart


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dot:
    size_class: str
    estimate: Estimate
    verdict: Verdict
    label: str
    words: str
    hollow: bool = False


def plots(results: Sequence[DeviceResult], limits: Limits) -> tuple[Plot, ...]:
    """Return the charts of a report: decode rate, time to first token, memory. One without data is left out."""
    found = (_decode_plot(results, limits), _first_token_plot(results, limits), _memory_plot(results, limits))
    return tuple(plot for plot in found if plot is not None)


def _decode_plot(results: Sequence[DeviceResult], limits: Limits) -> Plot | None:
    usable = limits.decoder_usable.decode_tokens_per_second
    comfortable = limits.decoder_comfortable.decode_tokens_per_second
    return _plot(
        results,
        _speed_dot(lambda row: row.decode_tokens_per_second, "tokens/s"),
        anchor="decode",
        heading="How fast it writes: decode rate by size class",
        unit="tokens per second",
        limit_words=f"Limits: usable from {usable:g}, comfortable from {comfortable:g} tokens per second.",
        detail=f"At {limits.decode_context_depth} tokens of context. {_interval_words(limits)}",
        zones=_zones(("too slow", "usable", "comfortable"), (usable, comfortable)),
    )


def _first_token_plot(results: Sequence[DeviceResult], limits: Limits) -> Plot | None:
    usable = limits.decoder_usable.time_to_first_token_seconds
    comfortable = limits.decoder_comfortable.time_to_first_token_seconds
    return _plot(
        results,
        _speed_dot(lambda row: row.time_to_first_token_seconds, "s"),
        anchor="first-token",
        heading="How long it reads first: time to first token by size class",
        unit="seconds, less is better",
        limit_words=f"Limits: comfortable up to {comfortable:g} s, usable up to {usable:g} s.",
        detail=f"For a prompt of {limits.prompt_tokens} tokens. {_interval_words(limits)}",
        zones=_zones(("comfortable", "usable", "too slow"), (comfortable, usable)),
    )


def _memory_plot(results: Sequence[DeviceResult], limits: Limits) -> Plot | None:
    return _plot(
        results,
        _memory_dot,
        anchor="memory",
        heading="Whether it fits: memory by size class",
        unit="share of the free memory",
        limit_words=f"Limit: it fits up to {percent(limits.memory_share)} of the free memory.",
        detail="Free when the run began; counted are weights, "
        f"{limits.memory_context_tokens} tokens of context, activations and the runtime.",
        zones=_zones(("fits", "does not fit"), (limits.memory_share,)),
        axis_format="~%",
    )


def _interval_words(limits: Limits) -> str:
    return (
        f"Bars are {percent(limits.interval_probability)} intervals. The verdict counts decode rate, first token and "
        "memory together."
    )


def _zones(names: Sequence[str], borders: Sequence[float]) -> tuple[Zone, ...]:
    """Return the bands between the borders, in the order of the axis."""
    tones = {"fits": "comfortable"}
    return tuple(
        Zone(name=name, low=low, high=high, tone=tones.get(name, name.replace(" ", "-")))
        for name, low, high in zip(names, (None, *borders), (*borders, None), strict=True)
    )


_DotOf = Callable[[CardRow, DeviceResult], _Dot | None]


def _speed_dot(estimate_of: Callable[[CardRow], Estimate | None], unit: str) -> _DotOf:
    def dot(row: CardRow, _: DeviceResult) -> _Dot | None:
        estimate = estimate_of(row)
        if estimate is None:
            return None
        label, interval = estimate_text(estimate)
        return _Dot(
            size_class=row.size_class,
            estimate=estimate,
            verdict=row.verdict,
            label=label,
            words=f"{label} {unit} ({interval})" + (", computed" if row.computed else ""),
            hollow=row.computed,
        )

    return dot


def _memory_dot(row: CardRow, result: DeviceResult) -> _Dot | None:
    available = device_facts(result.device).memory_for(row.execution_provider)
    if not available:
        return None
    share = row.memory_bytes / available
    fits = row.verdict is not Verdict.DOES_NOT_FIT
    return _Dot(
        size_class=row.size_class,
        estimate=Estimate(value=share, low=share, high=share),
        # Only memory is told here: what fits but is slow is not coloured as slow.
        verdict=Verdict.COMFORTABLE if fits else Verdict.DOES_NOT_FIT,
        label=gib(row.memory_bytes),
        words=f"{gib(row.memory_bytes)} of {gib(available)}",
    )


def _plot(
    results: Sequence[DeviceResult],
    dot_of: _DotOf,
    *,
    anchor: str,
    heading: str,
    unit: str,
    limit_words: str,
    detail: str,
    zones: tuple[Zone, ...],
    axis_format: str = ",~r",
) -> Plot | None:
    alone = len(results) == 1
    dots = [
        (dot, f"{row.architecture}, {_scheme_words(row)}")
        for result in results
        for row in best_rows(result.card).values()
        if (dot := dot_of(row, result))
    ]
    if not dots:
        return None
    present = {dot.size_class for dot, _ in dots}
    groups = tuple(one.name for one in size_classes() if one.name in present)
    points: list[Point] = []
    sentences: list[str] = []
    for group in groups:
        row = sorted(((d, n) for d, n in dots if d.size_class == group), key=lambda pair: pair[0].estimate.value)
        points += _points([dot for dot, _ in row], alone=alone)
        sentences.append(_row_words(group, row, alone=alone))
    borders = [zone.low for zone in zones if zone.low is not None]
    drawn = [_within(point, min(borders) / MOST_TIMES_LIMIT, max(borders) * MOST_TIMES_LIMIT) for point in points]
    crowd = "" if alone else " One dot per device, with its best scheme."
    if any(dot.hollow for dot, _ in dots):
        crowd += " A hollow mark is computed: nothing of that class was run."
    if len(results) > MAX_DOTS_IN_ROW:
        crowd += f" Of more than {MAX_DOTS_IN_ROW} in a row an even part is drawn, from end to end."
    if [point.value for point in drawn] != [point.value for point in points]:
        crowd += f" A value more than {MOST_TIMES_LIMIT:,} times beyond the limits is drawn at the edge."
    return Plot(
        anchor=anchor,
        heading=heading,
        caption=f"{limit_words} {detail}{crowd}",
        alternative=f"{heading}, in {unit}. {limit_words} {' '.join(sentences)}",
        verdicts=tuple(verdict for verdict in VERDICTS if any(dot.verdict is verdict for dot, _ in dots)),
        chart=DotChart(axis_title=unit, axis_format=axis_format, groups=groups, zones=zones, points=tuple(drawn)),
    )


def _scheme_words(row: CardRow) -> str:
    return f"{row.scheme} on {row.execution_provider}"


def _points(dots: Sequence[_Dot], *, alone: bool) -> list[Point]:
    """Return the dots of one row, sorted by value, as points at their ranks; a crowd is thinned evenly."""
    step = max(1, -(-len(dots) // MAX_DOTS_IN_ROW))
    return [
        Point(
            group=dot.size_class,
            place=place,
            value=dot.estimate.value,
            low=dot.estimate.low,
            high=dot.estimate.high,
            tone=TONES[dot.verdict],
            text=dot.label if alone else "",
            hollow=dot.hollow,
        )
        for place, dot in enumerate(dots[::step])
    ]


def _within(point: Point, least: float, most: float) -> Point:
    """Return a point whose value and interval lie on the axis."""
    value, low, high = (min(max(one, least), most) for one in (point.value, point.low, point.high))
    text = point.text if value == point.value else point.text and "off axis"
    return replace(point, value=value, low=low, high=high, text=text)


def _row_words(group: str, row: Sequence[tuple[_Dot, str]], *, alone: bool) -> str:
    if alone:
        dot, name = row[0]
        return f"{group} ({name}): {dot.words}, {verdict_words(dot.verdict)}."
    least, middle, most = row[0][0].words, row[len(row) // 2][0].words, row[-1][0].words
    return f"{group}: {len(row)} devices from {least} to {most}, median {middle}."


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict as people say it."""
    return verdict.replace("_", " ")
