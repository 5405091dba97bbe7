"""The border between findings and the page: what is said, in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from weighin_analysis.fleet.coverage.values import Coverage, Sample
from weighin_analysis.limits import Limits
from weighin_analysis.report.cards import DeviceDetail
from weighin_analysis.report.decision import (
    MAJORITY,
    SOURCE_WORDS,
    device_headline,
    fallback_choice,
    fleet_headline,
    main_choice,
)
from weighin_analysis.report.device_tables import (
    baseline_table,
    device_table,
    gate_table,
    limits_table,
    memory_table,
    speed_table,
)
from weighin_analysis.report.devices import device_view
from weighin_analysis.report.figures import (
    coverage_figure,
    decode_figure,
    device_speed_figure,
    first_token_figure,
    memory_figure,
    speed_figure,
)
from weighin_analysis.report.findings import Findings
from weighin_analysis.report.numbers import counted, percent
from weighin_analysis.report.tables import coverage_tables, scheme_tables, ship_tables, tier_table
from weighin_analysis.report.view import Fact, Page, Section

NOT_ABILITY = (
    "Size is not ability. A smaller model tuned for the task may do it as well as a larger one, and may need more work "
    "on prompts."
)
_EMPTY_LEAD = (
    "This snapshot holds no run.",
    "Enrol a device with “weighin-agent enroll TOKEN”, weigh it in with "
    "“weighin-agent run”, then take a new snapshot with “weighin-aggregator snapshot --data DIR --out DIR” and write "
    "this report again.",
)


def build_page(findings: Findings, details: Sequence[DeviceDetail]) -> Page:
    """Return the page; ``details`` are the devices that have a section."""
    count = findings.coverage.sample.device_count
    if not count:
        return _empty_page(findings)
    alone = details[0] if count == 1 else None
    headline = device_headline(alone) if alone else fleet_headline(findings.coverage)
    sections = _device_sections(findings, alone) if alone else _fleet_sections(findings, len(details))
    return Page(
        title=f"weighin: {headline}",
        headline=headline,
        lead=(*_lead(findings), NOT_ABILITY),
        sections=sections,
        devices=tuple(device_view(detail, findings.limits[0]) for detail in details),
        devices_note=_devices_note(len(details), count),
        method=_method_section(findings),
        cannot_say=_cannot_say(findings),
        versions=_versions(findings),
    )


def _empty_page(findings: Findings) -> Page:
    coverage = findings.coverage
    sample = coverage.sample
    others: tuple[str, ...] = ()
    if any(sample.left_out.values()) or sample.unplaced_device_count:
        others = tuple(text for text in (_left_out(sample), *_notes(coverage)) if text)
    headline = "No devices are counted." if others else "No runs yet."
    return Page(
        title=f"weighin: {headline[0].lower()}{headline[1:-1]}",
        headline=headline,
        lead=others or _EMPTY_LEAD,
        versions=_versions(findings),
    )


def _notes(coverage: Coverage) -> Iterator[str]:
    return (f"{note[0].upper()}{note[1:]}." for note in coverage.notes)


def _lead(findings: Findings) -> tuple[str, ...]:
    """Return the sentences under the headline: what the words mean, and how far the numbers carry."""
    coverage, limits = findings.coverage, findings.limits[0]
    sample = coverage.sample
    return tuple(
        text
        for text in (
            " ".join((_meaning(limits, several=len(findings.limits) > 1), *_other_decisions(findings))),
            _choice_words(findings),
            _sample_words(sample),
            _left_out(sample),
            _run_words(findings),
            *_notes(coverage),
        )
        if text
    )


def _other_decisions(findings: Findings) -> Iterator[str]:
    """Yield the decision by every version of the limits but the first, which the sentence above goes by."""
    if findings.coverage.sample.device_count == 1:
        return  # its section tells its tier by all of them
    for version in findings.coverage.limits_versions[1:]:
        decision = fleet_headline(replace(findings.coverage, limits_versions=(version,)))
        yield f"By limits {version}: {decision}"


def _meaning(limits: Limits, *, several: bool) -> str:
    """Return what the words mean; of several limits by the first, which the sentence above goes by."""
    comfortable, usable = limits.decoder_comfortable, limits.decoder_usable
    subject = f"By limits {limits.version}, comfortable" if several else "Comfortable"
    return (
        f"{subject} means at least {comfortable.decode_tokens_per_second:g} tokens per second and a first token "
        f"within {comfortable.time_to_first_token_seconds:g} s for a prompt of {limits.prompt_tokens} tokens; "
        f"usable means {usable.decode_tokens_per_second:g} tokens per second, reading speed, and "
        f"{usable.time_to_first_token_seconds:g} s."
    )


def _choice_words(findings: Findings) -> str:
    main = main_choice(findings.coverage)
    if findings.coverage.sample.device_count == 1 or main is None:
        return ""
    if main.reach.value < MAJORITY:
        return f"No class is comfortable on half of the devices; {main.size_class} reaches most of them."
    largest = f"{main.size_class} is the largest class that at least half of the devices run comfortably"
    # The interval tells how firm that is.
    doubt = (
        f", but its interval lies on both sides of half: {main.size_class} is a close call"
        if (main.reach.low < MAJORITY)
        else ""
    )
    fallback = fallback_choice(findings.coverage)
    others = (
        ""
        if fallback in {None, main}
        else (f" {fallback.size_class} is the largest that reaches nearly all that any class reaches.")
    )
    return f"{largest}{doubt}.{others} The table of choices tells what a larger or a smaller one reaches."


def _sample_words(sample: Sample) -> str:
    if sample.device_count == 1:
        return ""
    probability = percent(sample.interval_probability)
    if not sample.weighted:
        return (
            f"The interval ({probability}) is that of all your users if these devices are a random sample of theirs. "
            "Whether they are, this page cannot know."
        )
    return (
        f"Shares are weighted to the population that was given, of which these devices stand for "
        f"{percent(sample.covered_population_share)}: they say as much as {sample.effective_device_count:,.0f} devices "
        f"drawn from it at random ({probability} interval)."
    )


def _left_out(sample: Sample) -> str:
    """Return what was not asked for: no source is mixed in silently."""
    parts = [
        f"{counted(count, 'device')} {SOURCE_WORDS.get(source, source)}"
        for source, count in sample.left_out.items()
        if count
    ]
    return f"Left out: {', '.join(parts)}; “--source all” counts them too." if parts else ""


def _run_words(findings: Findings) -> str:
    """Return how many runs there are, and what is doubtful about them."""
    sample = findings.coverage.sample
    several = findings.run_count > sample.device_count
    runs = f"A device counts once, by the newest of its runs ({findings.run_count} in all)." if several else ""
    few = sample.disturbed_device_count
    were, are = ("was", "it is") if few == 1 else ("were", "they are")
    disturbed = (
        f"{few} of the {sample.device_count} runs {were} disturbed, by other programs for example; {are} less sure."
        if few and sample.device_count > 1
        else ""
    )
    unjudged = (
        f"On {counted(sample.unjudged_device_count, 'device')} no class could be judged; no share counts them."
        if sample.unjudged_device_count and sample.device_count > 1
        else ""
    )
    return " ".join(text for text in (runs, disturbed, unjudged) if text)


def _fleet_sections(findings: Findings, sections: int) -> tuple[Section, ...]:
    found = (
        Section(
            anchor="decision",
            heading="How many devices run which size class",
            figure=coverage_figure(findings),
            tables=ship_tables(findings),
            folded=(*coverage_tables(findings), *scheme_tables(findings)),
        ),
        Section(anchor="tiers", heading="What the devices of each tier do", tables=(tier_table(findings),)),
        Section(
            anchor="speeds",
            heading=f"Decode against prefill: {findings.mark_class}",
            figure=speed_figure(findings),
            tables=(speed_table(findings),),
        ),
        Section(
            anchor="memories",
            heading="Memory: what classes take, what devices have",
            figure=memory_figure(findings),
            tables=(memory_table(findings),),
        ),
        Section(anchor="baselines", heading="Baseline devices", tables=(baseline_table(findings),)),
        Section(anchor="gates", heading="Gates elsewhere", tables=(gate_table(findings),)),
        Section(anchor="all-devices", heading="Devices", tables=(device_table(findings, sections),)),
    )
    return tuple(kept for section in found if (kept := _with_content(section)))


def _device_sections(findings: Findings, detail: DeviceDetail) -> tuple[Section, ...]:
    limits = findings.limits[0]
    found = (
        Section(
            anchor="decode-rate",
            heading="How fast it writes: decode rate by size class",
            figure=decode_figure(detail, limits),
        ),
        Section(
            anchor="first-tokens",
            heading="How long it reads first: time to first token by size class",
            figure=first_token_figure(detail, limits),
        ),
        Section(anchor="speeds", heading="Decode against prefill", figure=device_speed_figure(detail, limits)),
        Section(
            anchor="memories",
            heading="Memory: what classes take, what is free",
            figure=memory_figure(findings),
        ),
        Section(anchor="gates", heading="Gates elsewhere", tables=(gate_table(findings),)),
    )
    return tuple(kept for section in found if (kept := _with_content(section)))


def _with_content(section: Section) -> Section | None:
    """Return a section without its empty tables; None where nothing is left of it."""
    tables = tuple(table for table in section.tables if table.rows)
    folded = tuple(table for table in section.folded if table.rows)
    if not (section.figure or tables or folded):
        return None
    return Section(
        anchor=section.anchor,
        heading=section.heading,
        texts=section.texts,
        figure=section.figure,
        tables=tables,
        folded=folded,
    )


def _devices_note(shown: int, total: int) -> str:
    return f"The {shown} devices with the newest runs of {total}; all are counted above." if shown < total else ""


def _method_section(findings: Findings) -> Section:
    limits = findings.limits[0]
    return Section(
        anchor="method",
        heading="How these numbers came about",
        texts=_method(findings, limits),
        tables=(limits_table(findings.limits),),
    )


def _method(findings: Findings, limits: Limits) -> tuple[str, ...]:
    probability = percent(limits.interval_probability)
    sources = findings.coverage.sample.sources
    native = (
        "Each device that was weighed in ran a short benchmark: a few layers of each model's true shape with "
        "pseudo-random weights, and part of its output head, timed in several rounds. The time of the whole model is "
        "the layers' time times their number plus the head's; nothing was downloaded, and no text was generated. Where "
        "a full model was run beside its own layers, the others are corrected by what it differed. Classes that were "
        "not run are computed from the layers of those that were; they are marked as computed."
    )
    external = (
        "Devices from published figures were measured by others, with other runtimes and in other schemes; classes "
        "that nobody published are estimated from the models that they did. What was assumed stands beside each row."
    )
    return (
        *((native,) if set(sources) - {"external"} else ()),
        *((external,) if sources.get("external") else ()),
        f"Prefill is for a prompt of {limits.prompt_tokens} tokens, decode at {limits.decode_context_depth} tokens "
        f"of context, memory for {limits.memory_context_tokens}; encoders read one input of "
        f"{limits.encoder_tokens} tokens. Time to first token leaves out tokenising, sampling and loading the model.",
        f"The interval of an estimate is meant to hold in {probability} of cases. Verdicts compare the value, not the "
        "interval, with the limit: where the interval crosses a limit the verdict may turn in another run. The shares "
        "count that uncertainty, and the size of the sample.",
        f"A model fits if its estimated memory is at most {percent(limits.memory_share)} of what was free when the run "
        "began. A size class gets the verdict of its reference shape; a tier is the largest class with a comfortable "
        "decoder. Encoders have no tier, and a software adapter, a program that plays a GPU on the processor, never "
        "counts.",
    )


def _cannot_say(findings: Findings) -> tuple[str, ...]:
    sources = findings.coverage.sample.sources
    external = (
        "Whether published figures hold for you: their devices were chosen by enthusiasts and makers, often cool and "
        "at full clock, and are no sample of anybody's users. How much memory was free on them nobody told."
    )
    runtimes = (
        "Other runtimes: every number of a device that was weighed in is for ONNX Runtime in the version named below; "
        "llama.cpp, MLX or a browser may be faster or slower on the same device. A published figure is for the runtime "
        "that stands beside it."
    )
    return (
        runtimes,
        *((external,) if sources.get("external") else ()),
        "Other users' devices: only these devices are counted, each once. An interval speaks of chance, not of who was "
        "never asked.",
        "Sustained use: a run takes about a minute. A device without a fan may slow down after it.",
        "What a model can do: the classes are sizes, and size is not ability.",
    )


def _versions(findings: Findings) -> tuple[Fact, ...]:
    coverage = findings.coverage
    tallies: dict[str, list[str]] = {}
    several = {
        what for what in {one.what for one in findings.tallies} if sum(t.what == what for t in findings.tallies) > 1
    }
    for one in findings.tallies:
        text = f"{one.value} ({counted(one.count, 'device')})" if one.what in several else one.value
        tallies.setdefault(one.what, []).append(text)
    return (
        Fact(name="Snapshot", text=f"{findings.time:%Y-%m-%d %H:%M} UTC"),
        Fact(name="Devices", text=str(coverage.sample.device_count)),
        Fact(name="Limits", text=", ".join(coverage.limits_versions)),
        *((Fact(name="Formula", text=coverage.formula_version),) if coverage.formula_version else ()),
        *(Fact(name=what, text=", ".join(texts)) for what, texts in tallies.items()),
    )
