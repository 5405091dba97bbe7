"""The charts of a report with their words: coverage and speeds of a fleet, and the same of one device."""

from collections.abc import Callable, Sequence

from weighin_analysis.card import Estimate, Verdict
from weighin_analysis.catalog import class_rank
from weighin_analysis.fleet.coverage.values import CoverageRow, Level
from weighin_analysis.limits import Limits
from weighin_analysis.numbers import number
from weighin_analysis.report.cards import CardLine, DeviceDetail
from weighin_analysis.report.charts import (
    Curve,
    CurveChart,
    CurvePoint,
    DotChart,
    LimitLine,
    Mark,
    MemoryChart,
    Need,
    Point,
    ScatterChart,
    Stock,
    Zone,
)
from weighin_analysis.report.findings import Findings
from weighin_analysis.report.numbers import counted, estimate_text, gib, percent
from weighin_analysis.report.queries import MAX_MARKS
from weighin_analysis.report.view import Figure
from weighin_analysis.report.words import TONES, verdict_words

# No device is this many times slower or faster than a limit; one that says so must not squeeze all others together.
MOST_TIMES_LIMIT = 1000
_GIB = 2**30
_CURVE_TONES = {
    (0, Level.COMFORTABLE): "comfortable",
    (0, Level.USABLE): "usable",
    (1, Level.COMFORTABLE): "compared",
    (1, Level.USABLE): "compared-usable",
}


def coverage_figure(findings: Findings) -> Figure | None:
    """Return the coverage curves, None where no class could be judged on any device."""
    coverage = findings.coverage
    rows = [row for row in coverage.rows if row.scheme is None and row.share is not None]
    if not rows:
        return None
    classes = tuple(sorted({row.size_class for row in rows}, key=class_rank))
    several = len(coverage.limits_versions) > 1
    curves, sentences = [], []
    for (place, level), tone in _CURVE_TONES.items():
        if place < len(coverage.limits_versions):
            version = coverage.limits_versions[place]
            words = "comfortable" if level is Level.COMFORTABLE else "at least usable"
            name = f"{words}, limits {version}" if several else words
            found = [row for row in rows if row.limits_version == version and row.level is level]
            found.sort(key=lambda row: class_rank(row.size_class))
            points = tuple(_curve_point(row) for row in found)
            curves.append(Curve(name=name, tone=tone, dashed=level is Level.USABLE, points=points))
            sentences.append(f"{name}: {', '.join(f'{point.size_class} {point.text}' for point in points)}.")
    probability = percent(coverage.sample.interval_probability)
    judged = [row.judged_count for row in rows]
    different = (
        f" A class counts the devices that could be judged on it: {min(judged)} to {max(judged)}. The sentence and the "
        "table of choices count all judged devices, and one that was not judged on a class as not running it."
        if min(judged) < max(judged)
        else ""
    )
    return Figure(
        anchor="coverage",
        caption=f"Bands are {probability} intervals: they count the size of the sample and the errors of estimates."
        f"{different}",
        alternative=f"Share of devices that run each size class. {' '.join(sentences)}",
        chart=CurveChart(axis_title="share of devices", classes=classes, curves=tuple(curves)),
    )


def _curve_point(row: CoverageRow) -> CurvePoint:
    share = row.share
    assert share is not None
    return CurvePoint(
        size_class=row.size_class, value=share.value, low=share.low, high=share.high, text=percent(share.value)
    )


def speed_figure(findings: Findings) -> Figure | None:
    """Return decode against prefill for the class of the decision, a mark per device."""
    limits = findings.limits[0]
    if not findings.marks:
        return None
    marks = [
        _mark(limits, one.prefill_tokens_per_second, one.decode_tokens_per_second, one.verdict, "", one.computed)
        for one in findings.marks
    ]
    counts = {verdict: sum(one.verdict is verdict for one in findings.marks) for verdict in Verdict}
    found = ", ".join(f"{count} {verdict_words(verdict)}" for verdict, count in counts.items() if count)
    drawn = f"An even part of {len(marks)} devices is drawn." if len(marks) >= MAX_MARKS else ""
    return _speed_figure(
        limits,
        marks,
        what=f"Each mark is a device with its best scheme for {findings.mark_class}. {drawn}".strip(),
        alternative=f"{findings.mark_class} on {counted(len(marks), 'device')}: {found}.",
    )


def device_speed_figure(detail: DeviceDetail, limits: Limits) -> Figure | None:
    """Return decode against prefill on one device, a mark per class."""
    marks, words = [], []
    for row in _best_decoders(detail):
        decode, prefill = row.decode_tokens_per_second, row.prefill_tokens_per_second
        if decode and prefill and row.verdict:
            marks.append(_mark(limits, prefill.value, decode.value, row.verdict, row.size_class, row.computed))
            words.append(
                f"{row.size_class}: decode {number(decode.value)}, prefill {number(prefill.value)} tokens per second"
            )
    if not marks:
        return None
    return _speed_figure(
        limits, marks, what="Each mark is a size class with its best scheme.", alternative="; ".join(words) + "."
    )


def _speed_figure(limits: Limits, marks: Sequence[Mark], *, what: str, alternative: str) -> Figure:
    comfortable, usable = limits.decoder_comfortable, limits.decoder_usable
    prompt = limits.prompt_tokens
    first = [
        LimitLine(
            value=prompt / limit.time_to_first_token_seconds, tone=tone, text=f"{limit.time_to_first_token_seconds:g} s"
        )
        for limit, tone in ((usable, "usable"), (comfortable, "comfortable"))
    ]
    decode = [
        LimitLine(
            value=limit.decode_tokens_per_second, tone=tone, text=f"{tone} from {limit.decode_tokens_per_second:g}"
        )
        for limit, tone in ((usable, "usable"), (comfortable, "comfortable"))
    ]
    edge = _edge_words(any(mark.text == _EDGE for mark in marks))
    hollow = " A hollow mark is computed: nothing of the class was run there." if any(m.hollow for m in marks) else ""
    return Figure(
        anchor="speed",
        caption=f"{what} Upright lines: the prefill rates at which a prompt of {prompt} tokens takes "
        f"{usable.time_to_first_token_seconds:g} s and {comfortable.time_to_first_token_seconds:g} s.{hollow}{edge}",
        alternative=f"Decode rate against prefill rate. {alternative}",
        chart=ScatterChart(
            x_title="prefill, tokens per second",
            y_title="decode, tokens per second",
            x_limits=tuple(first),
            y_limits=tuple(decode),
            marks=tuple(marks),
        ),
    )


_EDGE = "off axis"


def _mark(limits: Limits, prefill: float, decode: float, verdict: Verdict, text: str, computed: bool) -> Mark:
    least = limits.decoder_usable
    x = _within(prefill, limits.prompt_tokens / least.time_to_first_token_seconds)
    y = _within(decode, least.decode_tokens_per_second)
    inside = (x, y) == (prefill, decode)
    return Mark(x=x, y=y, tone=TONES[verdict], text=text if inside else _EDGE, hollow=computed)


def memory_figure(findings: Findings) -> Figure | None:
    """Return what classes need over what devices have, None where no need is known."""
    if not findings.needs:
        return None
    share = findings.limits[0].memory_share
    stocks = [
        Stock(value=share * one.memory_bytes / _GIB, text=f"{percent(one.share)}{' have' if place == 0 else ''}")
        for place, one in enumerate(findings.stock)
        if one.memory_bytes > 0
    ]
    had = [f"{percent(one.share)} of the devices {gib(share * one.memory_bytes)}" for one in findings.stock]
    known = findings.stock[0].known_count if findings.stock else 0
    assumed = " and assumed for published ones" if findings.coverage.sample.sources.get("external") else ""
    if findings.coverage.sample.device_count == 1 and stocks:
        stocks = [Stock(value=stocks[0].value, text="this device")]
        has = f"The line is what may be used on this device: {percent(share)} of what was free when the run began."
    elif had:
        has = (
            f"Lines: at least so much may be used on {', '.join(had)}; that is {percent(share)} of what was free when "
            f"the run began, known of {counted(known, 'device')}{assumed}."
        )
    else:
        has = "No device told how much memory was free."
    needs = tuple(
        Need(
            size_class=one.size_class,
            least=one.least_bytes / _GIB,
            most=one.most_bytes / _GIB,
            text=gib(one.least_bytes),
        )
        for one in findings.needs
    )
    return Figure(
        anchor="memory",
        caption=f"A dot is the scheme that takes least, the line reaches to the one that takes most. {has}",
        alternative="Memory that size classes take. "
        + " ".join(f"{one.size_class}: {gib(one.least_bytes)} to {gib(one.most_bytes)}." for one in findings.needs)
        + f" {has}",
        chart=MemoryChart(axis_title="GiB in use while it runs", needs=needs, stocks=tuple(stocks)),
    )


def decode_figure(detail: DeviceDetail, limits: Limits) -> Figure | None:
    """Return the decode rates of one device by class, over the limits."""
    usable = limits.decoder_usable.decode_tokens_per_second
    comfortable = limits.decoder_comfortable.decode_tokens_per_second
    return _dot_figure(
        detail,
        limits,
        anchor="decode",
        estimate_of=lambda row: row.decode_tokens_per_second,
        unit="tokens per second",
        zones=_zones(("too slow", "usable", "comfortable"), (usable, comfortable)),
        caption=f"Usable from {usable:g}, comfortable from {comfortable:g} tokens per second, at "
        f"{limits.decode_context_depth} tokens of context.",
    )


def first_token_figure(detail: DeviceDetail, limits: Limits) -> Figure | None:
    """Return the times to first token of one device by class, over the limits."""
    usable = limits.decoder_usable.time_to_first_token_seconds
    comfortable = limits.decoder_comfortable.time_to_first_token_seconds
    return _dot_figure(
        detail,
        limits,
        anchor="first-token",
        estimate_of=lambda row: row.time_to_first_token_seconds,
        unit="seconds, less is better",
        zones=_zones(("comfortable", "usable", "too slow"), (comfortable, usable)),
        caption=f"Comfortable up to {comfortable:g} s, usable up to {usable:g} s, for a prompt of "
        f"{limits.prompt_tokens} tokens.",
    )


def _dot_figure(
    detail: DeviceDetail,
    limits: Limits,
    *,
    anchor: str,
    estimate_of: Callable[[CardLine], Estimate | None],
    unit: str,
    zones: tuple[Zone, ...],
    caption: str,
) -> Figure | None:
    points, sentences = [], []
    limit = next(zone.low for zone in zones if zone.low is not None)
    for row in _best_decoders(detail):
        estimate = estimate_of(row)
        if estimate is None or row.verdict is None:
            continue
        points.append(_point(row, estimate, row.verdict, limit))
        value, interval = estimate_text(estimate)
        computed = ", computed" if row.computed else ""
        sentences.append(
            f"{row.size_class} ({row.scheme} on {row.execution_provider}): {value} ({interval}){computed}, "
            f"{verdict_words(row.verdict)}."
        )
    if not points:
        return None
    hollow = " A hollow mark is computed: nothing of that class was run." if any(p.hollow for p in points) else ""
    edge = _edge_words(any(point.text == _EDGE for point in points))
    return Figure(
        anchor=anchor,
        caption=f"{caption} Bars are {percent(limits.interval_probability)} intervals; a verdict counts decode, first "
        f"token and memory together.{hollow}{edge}",
        alternative=f"In {unit}. {' '.join(sentences)}",
        chart=DotChart(
            axis_title=unit, groups=tuple(point.group for point in points), zones=zones, points=tuple(points)
        ),
    )


def _point(row: CardLine, estimate: Estimate, verdict: Verdict, limit: float) -> Point:
    value, low, high = (_within(one, limit) for one in (estimate.value, estimate.low, estimate.high))
    return Point(
        group=row.size_class,
        value=value,
        low=low,
        high=high,
        tone=TONES[verdict],
        text=estimate_text(estimate)[0] if value == estimate.value else _EDGE,
        hollow=row.computed,
    )


def _within(value: float, limit: float) -> float:
    return min(max(value, limit / MOST_TIMES_LIMIT), limit * MOST_TIMES_LIMIT)


def _edge_words(found: bool) -> str:
    return f" A value more than {MOST_TIMES_LIMIT:,} times beyond the limits is drawn at the edge." if found else ""


def _zones(names: Sequence[str], borders: Sequence[float]) -> tuple[Zone, ...]:
    """Return the bands between the borders, in the order of the axis."""
    return tuple(
        Zone(name=name, low=low, high=high, tone=name.replace(" ", "-"))
        for name, low, high in zip(names, (None, *borders), (*borders, None), strict=True)
    )


def _best_decoders(detail: DeviceDetail) -> list[CardLine]:
    """Return the best row of each class, the smallest class first."""
    rows = [row for row in detail.rows if row.is_best and row.counts and row.architecture_kind == "decoder"]
    return sorted(rows, key=lambda row: class_rank(row.size_class))
