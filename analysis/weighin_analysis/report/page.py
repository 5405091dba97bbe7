"""The border between judgements and the page: from a snapshot to the flat view that the template prints."""

from collections import Counter
from collections.abc import Callable, Sequence

from markupsafe import Markup

from weighin_analysis.catalog import size_classes
from weighin_analysis.estimate import FORMULA_VERSION
from weighin_analysis.limits import Limits, current_limits
from weighin_analysis.report.charts import DotChart
from weighin_analysis.report.devices import device_view
from weighin_analysis.report.fleet import (
    VERDICTS,
    DeviceResult,
    TierRow,
    fleet_headline,
    judge_device,
    share_interval,
    tier_counts,
    tier_table,
)
from weighin_analysis.report.numbers import counted, percent
from weighin_analysis.report.plots import TONES, plots, verdict_words
from weighin_analysis.report.view import Fact, Figure, Legend, Page, TierCell, TierRowView
from weighin_analysis.snapshot import Snapshot

# A page with more full device sections than this helps nobody and loads slowly; tables and charts count all devices.
MAX_DEVICE_SECTIONS = 50
# Pixels of plot: beside the text of a desktop page, and inside a phone of 360 pixels.
WIDE_PIXELS, NARROW_PIXELS = 850, 264

_EMPTY_LEAD = (
    "This snapshot holds no run.",
    "Enrol a device with “weighin-agent enroll --insecure HOST:PORT --accept-consent 1”, weigh it in with "
    "“weighin-agent run”, then take a new snapshot with “weighin-aggregator snapshot --data DIR --out DIR” and write "
    "this report again.",
)
_CANNOT_SAY = (
    "Other runtimes: every number is for ONNX Runtime in the version named below. llama.cpp, MLX or a browser may be "
    "faster or slower on the same device.",
    "What a model can do: size is not ability. A smaller model tuned for the task may do it as well as a larger one, "
    "and may need more work on prompts.",
    "Sustained use: a run takes under a minute. A device without a fan may slow down after it.",
    "Other users' devices: only devices that were weighed in are counted, each once.",
)


def build_page(snapshot: Snapshot, draw: Callable[[DotChart, int], str]) -> Page:
    """Judge every device of a snapshot and return the page; ``draw`` makes a chart of a given width into SVG."""
    limits = current_limits()
    results = [judge_device(device) for device in snapshot.devices]
    headline = fleet_headline(results)
    if not results:
        return Page(
            title="weighin: no runs yet",
            headline=headline,
            lead=_EMPTY_LEAD,
            versions=(Fact(name="Snapshot", text=_time_text(snapshot)),),
        )
    shown = results[:MAX_DEVICE_SECTIONS]
    tiers = tier_table(results)
    return Page(
        title=f"weighin: {headline}",
        headline=headline,
        lead=_lead(snapshot, results, limits),
        figures=_figures(results, limits, draw),
        tier_heading="Which classes it runs" if len(results) == 1 else "How many devices run what",
        tier_rows=tuple(_tier_row(row) for row in tiers),
        tier_note=_tier_note(tiers),
        devices=tuple(device_view(result, limits) for result in shown),
        devices_note=_devices_note(len(shown), len(results)),
        method=_method(limits),
        cannot_say=_CANNOT_SAY,
        versions=_versions(snapshot, limits),
        run_ids=tuple(Fact(name=device.device_id, text=device.run.run_id) for device in snapshot.devices),
    )


def _lead(snapshot: Snapshot, results: Sequence[DeviceResult], limits: Limits) -> tuple[str, ...]:
    """Return the sentences under the headline."""
    comfortable, usable = limits.decoder_comfortable, limits.decoder_usable
    meaning = (
        f"Comfortable means at least {comfortable.decode_tokens_per_second:g} tokens per second and a first token "
        f"within {comfortable.time_to_first_token_seconds:g} s for a prompt of {limits.prompt_tokens} tokens; "
        f"usable means {usable.decode_tokens_per_second:g} tokens per second, reading speed, and "
        f"{usable.time_to_first_token_seconds:g} s."
    )
    sample = ""
    tiers = tier_counts(results)
    if len(results) > 1 and tiers:
        tier, count = tiers[0]
        low, high = share_interval(count, len(results), limits.interval_probability)
        sample = (
            f"If these devices are a random sample of your users', the share for {tier} lies between {percent(low)} "
            f"and {percent(high)} ({percent(limits.interval_probability)} interval)."
        )
    runs = sum(device.run_count for device in snapshot.devices)
    runs_words = "" if runs == len(results) else f" A device counts once, by the newest of its runs ({runs} in all)."
    disturbed = sum(1 for result in results if result.card.disturbances)
    doubt = (
        f"{disturbed} of the {len(results)} runs were disturbed, by other programs for example; they are less sure."
        if len(results) > 1 and disturbed
        else ""
    )
    return tuple(text for text in (meaning + runs_words, sample, doubt) if text)


def _figures(
    results: Sequence[DeviceResult], limits: Limits, draw: Callable[[DotChart, int], str]
) -> tuple[Figure, ...]:
    return tuple(
        Figure(
            anchor=plot.anchor,
            heading=plot.heading,
            caption=plot.caption,
            alternative=plot.alternative,
            legend=tuple(Legend(tone=TONES[verdict], word=verdict_words(verdict)) for verdict in plot.verdicts)
            if plot.anchor != "memory"
            else (),
            # The one text that is not escaped again: the drawing library has escaped every text in it.
            wide=Markup(draw(plot.chart, WIDE_PIXELS)),  # noqa: S704
            narrow=Markup(draw(plot.chart, NARROW_PIXELS)),  # noqa: S704
        )
        for plot in plots(results, limits)
    )


def _tier_row(row: TierRow) -> TierRowView:
    stands_for = next(one.reference or one.representative for one in size_classes() if one.name == row.size_class)
    cells = [
        TierCell(
            name=verdict_words(verdict),
            count=str(row.counts[verdict]),
            tone=TONES[verdict],
            note=_computed_note(row.computed_counts[verdict], row.counts[verdict]),
        )
        for verdict in VERDICTS
    ]
    cells.append(TierCell(name="not measured", count=str(row.not_measured_count), tone="not-measured"))
    return TierRowView(
        size_class=row.size_class,
        stands_for=stands_for or "no reference shape",
        cells=tuple(cell if cell.count != "0" else TierCell(name=cell.name, count="0", tone="") for cell in cells),
    )


def _computed_note(computed: int, total: int) -> str:
    return "" if not computed else "computed" if computed == total else f"{computed} computed"


def _tier_note(rows: Sequence[TierRow]) -> str:
    """Return what “computed” means, and which classes count as not measured although a device tried them."""
    computed = any(any(row.computed_counts.values()) for row in rows)
    parts = [f"{counted(row.failed_count, 'device')} tried {row.size_class}" for row in rows if row.failed_count]
    sentences = (
        "Computed: nothing of the class was run there; the verdict follows from the layers of other models."
        if computed
        else "",
        f"{', '.join(parts)} and failed." if parts else "",
    )
    return " ".join(sentence for sentence in sentences if sentence)


def _devices_note(shown: int, total: int) -> str:
    if shown == total:
        return ""
    return (
        f"The {shown} devices with the newest runs are shown; all {total} are counted above. "
        "“weighin-analysis tiers --json” lists every one."
    )


def _method(limits: Limits) -> tuple[str, ...]:
    probability = percent(limits.interval_probability)
    return (
        "Each device ran a short benchmark: a few layers of each model's true shape with pseudo-random weights, and "
        "part of its output head, timed in several rounds. The time of the whole model is the layers' time times "
        "their number plus the head's; nothing was downloaded, and no text was generated. Where a full model was run "
        "beside its own layers, the others are corrected by what it differed.",
        "Classes that were not run are computed from the layers of those that were, if there are three at least: from "
        "what a weight, an operator or an element of attention cost. They are marked as computed.",
        f"Prefill is for a prompt of {limits.prompt_tokens} tokens, decode at {limits.decode_context_depth} tokens "
        f"of context, memory for {limits.memory_context_tokens}; encoders read one input of "
        f"{limits.encoder_tokens} tokens. Time to first token leaves out tokenising, sampling and loading the model.",
        f"An interval is meant to hold in {probability} of cases. It covers the method, the scatter of the rounds and "
        "what two runs of one device differ by. Verdicts compare the value, not the interval, with the limit: where "
        "the interval crosses a limit the verdict may turn in another run.",
        f"A model fits if its estimated memory is at most {percent(limits.memory_share)} of what was free when the run "
        "began. A size class gets the verdict of its reference shape; a tier is the largest class with a comfortable "
        "decoder. Encoders have no tier, and a software adapter, a program that plays a GPU on the processor, never "
        "counts.",
    )


def _versions(snapshot: Snapshot, limits: Limits) -> tuple[Fact, ...]:
    runs = [device.run for device in snapshot.devices]
    runtimes = [device.hardware.onnxruntime_version or "not stated" for device in snapshot.devices]
    return (
        Fact(name="Snapshot", text=_time_text(snapshot)),
        Fact(name="Limits", text=limits.version),
        Fact(name="Formula", text=FORMULA_VERSION),
        Fact(name="Suite", text=_tally([f"{run.suite} {run.suite_version}" for run in runs])),
        Fact(name="Agent", text=_tally([run.agent_version for run in runs])),
        Fact(name="ONNX Runtime", text=_tally(runtimes)),
    )


def _tally(values: Sequence[str]) -> str:
    """Return the one value of all, or every value with how many devices have it."""
    counts = Counter(values).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{value} ({count} devices)" for value, count in counts)


def _time_text(snapshot: Snapshot) -> str:
    return f"{snapshot.time:%Y-%m-%d %H:%M} UTC"
