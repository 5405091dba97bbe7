"""What a person sees on a terminal: the progress of a weigh-in, the card, tables. The rich edge of the agent."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from weighin_agent.bench.suite_run import Watcher
from weighin_agent.check import REMINDER
from weighin_agent.device import Device, ExecutionProvider, ProbeGap, Virtualization
from weighin_agent.run import CaseFailure, Run
from weighin_agent.verify import Step, StepKind
from weighin_agent.weigh_in import device_facts
from weighin_analysis.accuracy import Cell, PhaseErrors, Verification
from weighin_analysis.card import Anchor, Basis, Card, CardRow, Estimate, Verdict, shown_rows
from weighin_analysis.judge import judge
from weighin_analysis.limits import current_limits
from weighin_analysis.measurement import Measurement
from weighin_analysis.numbers import number
from weighin_analysis.suite import Suite, SuiteCase

VERDICT_STYLES = {
    Verdict.COMFORTABLE: "bold green",
    Verdict.USABLE: "yellow",
    Verdict.TOO_SLOW: "red",
    Verdict.DOES_NOT_FIT: "bold red",
}
BASIS_WORDS = {
    Basis.MEASURED: "all layers",
    Basis.LAYER_PROBE: "layer probe",
    Basis.INTERPOLATED: "interpolated",
    Basis.FORMULA: "computed",
    Basis.NEIGHBOURS: "neighbours",
}
# From this width on there is room for more air between columns.
_ROOMY_COLUMNS = 100
_LIMIT_WORDS = {
    "memory": "free memory",
    "bandwidth": "memory bandwidth (decode reads every weight once per token)",
    "compute": "compute",
}


def gib(count: float | None) -> str:
    """Return bytes as GiB for the screen."""
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"


def interval(estimate: Estimate | None, factor: float = 1.0) -> str:
    """Return the value and, on a line below, its interval; a dash for what does not apply."""
    if estimate is None:
        return "-"
    low, high = number(estimate.low * factor), number(estimate.high * factor)
    return f"{number(estimate.value * factor)}\n{low}-{high}"


@contextmanager
def suite_progress(console: Console, suite: Suite) -> Iterator[Callable[[Device], Watcher]]:
    """Show how far a suite is and every verdict as it arrives; plain lines where the console is no terminal."""
    if not console.is_terminal:
        yield lambda device: Watcher(
            on_case=lambda case: console.print(_case_name(case), markup=False),
            on_measured=lambda found: _print_verdict(console, device, found),
            on_failure=lambda failure: console.print(failure_line(failure)),
            on_progress=lambda _: None,
        )
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("of at most"),
        TextColumn(f"{int(suite.time_limit_seconds) // 60}:{int(suite.time_limit_seconds) % 60:02d}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading the device", total=1.0)
        yield lambda device: Watcher(
            on_case=lambda case: progress.update(task, description=_case_name(case)),
            on_measured=lambda found: _print_verdict(progress.console, device, found),
            on_failure=lambda failure: progress.console.print(failure_line(failure)),
            on_progress=lambda share: progress.update(task, completed=share),
        )


def _print_verdict(console: Console, device: Device, found: Sequence[Measurement]) -> None:
    """Print what the first rounds of a case say; later ones make it surer."""
    for row in judge(found, device_facts(device)).rows[:1]:
        console.print(Text("  ") + _verdict_line(row))


def _verdict_line(row: CardRow) -> Text:
    first = row.time_to_first_token_seconds or row.latency_seconds
    numbers = [
        f"{_in_one_line(row.decode_tokens_per_second)} tokens/s" if row.decode_tokens_per_second else "",
        f"{_in_one_line(first)} s to the first token" if first and row.decode_tokens_per_second else "",
        f"{_in_one_line(first)} s" if first and not row.decode_tokens_per_second else "",
    ]
    verdict = Text(row.verdict.replace("_", " "), VERDICT_STYLES[row.verdict])
    return Text(f"{row.size_class} ").append_text(verdict).append(f": {', '.join(n for n in numbers if n)}")


def _in_one_line(estimate: Estimate) -> str:
    return interval(estimate).replace("\n", " (") + ")"


def _case_name(case: SuiteCase) -> str:
    return f"{case.architecture.name} {case.scheme}"


def failure_line(failure: CaseFailure) -> Text:
    """Return one line about a case without a measurement."""
    case = failure.case
    return Text(f"{case.architecture.name} {case.scheme}: {failure.reason.replace('_', ' ')}: {failure.detail}", "red")


def print_card(console: Console, card: Card, run: Run) -> None:
    """Print the card of a run: headline, a line per model, and what stands behind it."""
    console.print()
    console.print(Text(card.headline, "bold"))
    if card.limited_by:
        console.print(f"What it runs out of first: {_LIMIT_WORDS[card.limited_by]}.", highlight=False)
    console.print(device_line(run.device), highlight=False)
    for text in card.disturbances:
        console.print(Text(f"Disturbed: {text}", "yellow"))
    console.print()
    shown = shown_rows(card.rows)
    console.print(_card_table(shown, console.width))
    for row in shown:
        if row.reasons:
            console.print(f"  {row.architecture} {row.scheme}: {'; '.join(row.reasons)}", highlight=False)
    if len(shown) < len(card.rows):
        hidden = len(card.rows) - len(shown)
        console.print(f"  {hidden} computed rows are left out: in their classes others are better; --json has them")
    for text in card.unjudged:
        console.print(f"  not judged: {text}", highlight=False)
    for failure in run.failures:
        console.print(Text("  ") + failure_line(failure))
    for anchor in card.anchors:
        console.print(f"  {_anchor_line(anchor)}", highlight=False)
    console.print()
    limits = current_limits()
    state = "Disturbed run" if card.disturbances else "Clean run"
    console.print(
        f"{state} of {run.elapsed_seconds:.0f} s. "
        f"Decode at {limits.decode_context_depth} tokens of context, first token after a prompt of "
        f"{limits.prompt_tokens}, for encoders the latency of {limits.encoder_tokens} tokens; memory at a context of "
        f"{limits.memory_context_tokens}. {_threads(card)}Intervals hold with {limits.interval_probability:.0%}. "
        f"ONNX Runtime {run.device.runtime_versions.onnxruntime}, "
        f"limits {card.limits_version}, formula {card.formula_version}, suite {run.suite} {run.suite_version}. "
        + REMINDER,
        style="dim",
        highlight=False,
    )


def _anchor_line(anchor: Anchor) -> str:
    what = "as" if anchor.applied else "too far off to be" if not anchor.plausible else "too close to 1 to be"
    return (
        f"anchor {anchor.architecture} {anchor.scheme}, {anchor.phase}: the full model took {anchor.kappa:.2f} "
        f"(± {anchor.sd:.2f}) times what its layers let expect, {what} a correction of the others"
    )


def _threads(card: Card) -> str:
    """Return with how many threads each execution provider ran, as a sentence."""
    used = sorted({(row.execution_provider, row.threads) for row in card.rows})
    return "".join(f"EP {provider} with {threads} thread{'s' * (threads > 1)}. " for provider, threads in used)


def _card_table(rows: Sequence[CardRow], width: int) -> Table:
    """Two lines per row, so that the whole card fits a terminal of 80 columns; nothing is ever cut off."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1 if width < _ROOMY_COLUMNS else 2, 0, 0))
    for name in ("class", "model\nscheme, EP", "verdict\nhow"):
        table.add_column(name, overflow="fold")
    for name in ("decode\ntokens/s", "prefill\ntokens/s", "first\ntoken, s", "memory\ndownload"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*_card_cells(row))
    return table


def _card_cells(row: CardRow) -> tuple[str | Text, ...]:
    verdict = Text(row.verdict.replace("_", " "), VERDICT_STYLES[row.verdict])
    return (
        row.size_class,
        f"{row.architecture}\n{row.scheme} {row.execution_provider}",
        verdict.append(f"\n{BASIS_WORDS[row.basis]}", "not bold default"),
        interval(row.decode_tokens_per_second),
        interval(row.prefill_tokens_per_second),
        interval(row.time_to_first_token_seconds or row.latency_seconds),
        f"{gib(row.memory_bytes)}\n{row.download_bytes / 1e9:.2f} GB",
    )


def device_line(device: Device) -> str:
    """Return one line about the device."""
    cpu, memory = device.cpu, device.memory
    bandwidth = memory.read_bandwidth_bytes_per_second
    parts = [
        cpu.model or "unknown processor",
        f"{cpu.physical_core_count or 'unknown number of'} cores",
        f"{gib(memory.available_bytes)} of {gib(memory.total_bytes)} memory free",
        f"reads {bandwidth / 1e9:.1f} GB/s" if bandwidth else "read bandwidth unknown",
        *(accelerator.model or accelerator.vendor or "a GPU" for accelerator in device.accelerators),
    ]
    return ", ".join(parts)


def print_device(console: Console, device: Device, gaps: tuple[ProbeGap, ...]) -> None:
    """Print the facts of a device and what could not be read."""
    cpu, memory, system = device.cpu, device.memory, device.operating_system
    virtual = device.virtualization
    facts = {
        "processor": f"{cpu.model or 'unknown'} ({cpu.vendor or 'unknown vendor'}, {cpu.architecture or 'unknown'})",
        "cores": f"{cpu.physical_core_count or '?'} physical, {cpu.logical_core_count or '?'} logical",
        "instruction sets": ", ".join(cpu.instruction_sets) or "none known",
        "caches": ", ".join(
            f"L{c.level} {c.kind} {c.instance_count} x {_cache_size(c.size_bytes)}" for c in cpu.caches
        ),
        "memory": f"{gib(memory.total_bytes)}, {gib(memory.available_bytes)} free",
        "read bandwidth": _bandwidth(device),
        "disk": f"{gib(device.storage.free_bytes)} free",
        "system": " ".join(part for part in (system.name or system.family, system.version, system.kernel) if part),
        "form factor": (device.form_factor or "unknown").replace("_", " "),
        "virtualisation": _virtualization(virtual) if virtual else "unknown",
        "accelerators": ", ".join(a.model or a.vendor or a.kind for a in device.accelerators) or "none",
        "execution providers": "; ".join(
            _provider_name(ep) if ep.measured else f"{_provider_name(ep)} (not measured: {ep.reason})"
            for ep in device.execution_providers
        ),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(Text(name, "bold"), Text(value))
    console.print(table)
    for gap in gaps:
        console.print(f"not known: {gap.fact}: {gap.detail}", style="dim", markup=False, highlight=False)


def _provider_name(provider: ExecutionProvider) -> str:
    return f"{provider.name} on {provider.adapter}" if provider.adapter else provider.name


def _cache_size(count: int) -> str:
    return f"{count / 2**20:g} MiB" if count >= 2**20 else f"{count / 2**10:g} KiB"


def _virtualization(virtual: Virtualization) -> str:
    kind = virtual.kind.replace("_", " ")
    return f"{kind} ({virtual.product})" if virtual.product else kind


def _bandwidth(device: Device) -> str:
    all_cores = device.memory.read_bandwidth_bytes_per_second
    one = device.memory.single_thread_read_bandwidth_bytes_per_second
    if all_cores is None:
        return "not measured"
    return f"{all_cores / 1e9:.1f} GB/s" + (f", {one / 1e9:.1f} GB/s with one thread" if one else "")


def step_line(step: Step, where: str) -> str:
    """Return one line about the step of a verification that is under way."""
    names = "layers of the suite" if step.kind is StepKind.SUITE_LAYERS else step.cases[0].architecture.name
    return f"load {step.load + 1}: {names} {step.scheme} ({where})"


def print_verification(console: Console, verification: Verification) -> None:
    """Print predicted against actual times, the errors by phase, and whether they are as small as they should be."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("model", "scheme", "what"):
        table.add_column(name)
    for name in ("loads", "full model, ms", "predicted, ms", "error", "scatter"):
        table.add_column(name, justify="right")
    for cell in verification.cells:
        predicted = Estimate(value=cell.predicted_seconds, low=cell.low, high=cell.high)
        table.add_row(
            cell.architecture,
            cell.scheme,
            _what(cell),
            str(cell.loads),
            number(1000 * cell.actual_seconds),
            interval(predicted, 1000).replace("\n", " in "),
            f"{cell.error:+.1%}",
            "-" if cell.scatter is None else f"{cell.scatter:.1%}",
        )
    console.print(table)
    for name, errors in (("decode", verification.decode), ("prefill", verification.prefill)):
        for line in _errors_lines(name, errors):
            console.print(line, highlight=False)
    if verification.interval_coverage is not None:
        console.print(f"The interval held in {verification.interval_coverage:.0%} of the cells.", highlight=False)
    console.print("passed" if verification.passed else "not passed", style="bold", highlight=False)


def _what(cell: Cell) -> str:
    return f"decode at {cell.context_depth}" if cell.phase == "decode" else f"prefill of {cell.token_count}"


def _errors_lines(name: str, errors: PhaseErrors) -> list[str]:
    if errors.median_abs_error is None or errors.p90_abs_error is None or errors.allowed_median is None:
        return [f"{name}: nothing to judge"]
    allowed = f"allowed {errors.allowed_median:.1%}"
    allowed_p90 = "" if errors.allowed_p90 is None else f" (allowed {errors.allowed_p90:.1%})"
    lines = [
        f"{name}: {errors.cells} cells, |error| median {errors.median_abs_error:.1%} ({allowed}), "
        f"p90 {errors.p90_abs_error:.1%}{allowed_p90}"
    ]
    if errors.median_scatter is not None and errors.p90_scatter is not None:
        scatter = f"median {errors.median_scatter:.1%}, p90 {errors.p90_scatter:.1%}"
        lines.append(f"  a second load of the same models differs by {scatter}")
    return lines
