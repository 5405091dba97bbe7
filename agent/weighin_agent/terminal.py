"""What a person sees on a terminal: the progress of a weigh-in, the card, tables. The rich edge of the agent."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from weighin_agent.device import Device, ProbeGap
from weighin_agent.fleet.actions import Status
from weighin_agent.run import CaseFailure, Run
from weighin_agent.verify import PhaseErrors, Verification
from weighin_agent.weigh_in import Watcher
from weighin_analysis.card import Basis, Card, CardRow, Estimate, Verdict
from weighin_analysis.limits import current_limits
from weighin_analysis.suite import Suite, SuiteCase

_VERDICT_STYLES = {
    Verdict.COMFORTABLE: "bold green",
    Verdict.USABLE: "yellow",
    Verdict.TOO_SLOW: "red",
    Verdict.DOES_NOT_FIT: "bold red",
}
_BASIS_WORDS = {
    Basis.MEASURED: "all layers run",
    Basis.LAYER_PROBE: "layer probe",
    Basis.INTERPOLATED: "interpolated",
    Basis.FORMULA: "formula",
    Basis.NEIGHBOURS: "neighbours",
}
_LIMIT_WORDS = {
    "memory": "free memory",
    "bandwidth": "memory bandwidth (decode reads every weight once per token)",
    "compute": "compute",
}


def gib(count: float | None) -> str:
    """Return bytes as GiB for the screen."""
    return "unknown" if count is None else f"{count / 2**30:.1f} GiB"


def number(value: float) -> str:
    """Return a positive number with as many digits as a measurement supports: about two or three."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def interval(estimate: Estimate | None, factor: float = 1.0) -> str:
    """Return the value and, on a line below, its interval; a dash for what does not apply."""
    if estimate is None:
        return "-"
    low, high = number(estimate.low * factor), number(estimate.high * factor)
    return f"{number(estimate.value * factor)}\n{low}-{high}"


@contextmanager
def suite_progress(console: Console, suite: Suite) -> Iterator[Watcher]:
    """Show the progress of a suite with the time left; plain lines where the console is no terminal."""
    if not console.is_terminal:
        yield _plain_watcher(console, suite)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading the device", total=len(suite.cases))
        begun = 0

        def on_case(index: int, case: SuiteCase) -> None:
            nonlocal begun
            begun = index
            progress.update(task, completed=index, description=_case_name(case))

        yield Watcher(
            on_case=on_case,
            on_progress=lambda share: progress.update(task, completed=begun + share),
            on_failure=lambda failure: progress.console.print(failure_line(failure)),
        )


def _plain_watcher(console: Console, suite: Suite) -> Watcher:
    def on_case(index: int, case: SuiteCase) -> None:
        console.print(f"[{index + 1}/{len(suite.cases)}] {_case_name(case)}", markup=False, highlight=False)

    return Watcher(
        on_case=on_case,
        on_progress=lambda _: None,
        on_failure=lambda failure: console.print(failure_line(failure), highlight=False),
    )


def _case_name(case: SuiteCase) -> str:
    return f"{case.architecture.name} {case.scheme}"


def failure_line(failure: CaseFailure) -> Text:
    """Return one line about a case without a measurement."""
    case = failure.case
    return Text(f"{case.architecture.name} {case.scheme}: {failure.reason.replace('_', ' ')}: {failure.detail}", "red")


def print_card(console: Console, card: Card, run: Run) -> None:
    """Print the card of a run: headline, a line per case, and what stands behind it."""
    console.print()
    console.print(Text(card.headline, "bold"))
    if card.limited_by:
        console.print(f"What it runs out of first: {_LIMIT_WORDS[card.limited_by]}.", highlight=False)
    console.print(device_line(run.device), highlight=False)
    console.print()
    console.print(_card_table(card))
    for row in card.rows:
        if row.reasons:
            console.print(f"  {row.architecture} {row.scheme}: {'; '.join(row.reasons)}", highlight=False)
    for text in card.unjudged:
        console.print(f"  not judged: {text}", highlight=False)
    for failure in run.failures:
        console.print(Text("  ") + failure_line(failure))
    console.print()
    limits = current_limits()
    console.print(
        f"Decode at {limits.decode_context_depth} tokens of context, first token after a prompt of "
        f"{limits.prompt_tokens}, encoders with {limits.encoder_tokens} tokens; memory at a context of "
        f"{limits.memory_context_tokens}. Intervals hold with {limits.interval_probability:.0%}. "
        f"ONNX Runtime {run.device.runtime_versions.onnxruntime}, "
        f"limits {card.limits_version}, formula {card.formula_version}, suite {run.suite} {run.suite_version}. "
        "Size is not ability: a smaller tuned model may do the task as well.",
        style="dim",
        highlight=False,
    )


def _card_table(card: Card) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    for name in ("class", "model\nscheme", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("decode\ntokens/s", "prefill\ntokens/s", "first token\nor latency, s", "memory\ndownload"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("how", no_wrap=True)
    for row in card.rows:
        table.add_row(*_card_cells(row))
    return table


def _card_cells(row: CardRow) -> tuple[str | Text, ...]:
    return (
        row.size_class,
        f"{row.architecture}\n{row.scheme}",
        Text(row.verdict.replace("_", " "), _VERDICT_STYLES[row.verdict]),
        interval(row.decode_tokens_per_second),
        interval(row.prefill_tokens_per_second),
        interval(row.time_to_first_token_seconds or row.latency_seconds),
        f"{gib(row.memory_bytes)}\n{row.download_bytes / 1e9:.2f} GB",
        f"{_BASIS_WORDS[row.basis]}\n{row.execution_provider} x {row.threads}",
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
            f"L{c.level} {c.kind} {c.size_bytes / 1024:,.0f} KiB x {c.instance_count}" for c in cpu.caches
        ),
        "memory": f"{gib(memory.total_bytes)}, {gib(memory.available_bytes)} free",
        "read bandwidth": _bandwidth(device),
        "disk": f"{gib(device.storage.free_bytes)} free",
        "system": " ".join(part for part in (system.name or system.family, system.version, system.kernel) if part),
        "virtualisation": f"{virtual.kind.replace('_', ' ')} {virtual.product or ''}".strip() if virtual else "unknown",
        "accelerators": ", ".join(a.model or a.vendor or a.kind for a in device.accelerators) or "none",
        "execution providers": "; ".join(
            ep.name if ep.measured else f"{ep.name} (not measured: {ep.reason})" for ep in device.execution_providers
        ),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(Text(name, "bold"), Text(value))
    console.print(table)
    for gap in gaps:
        console.print(f"not known: {gap.fact}: {gap.detail}", style="dim", markup=False, highlight=False)


def _bandwidth(device: Device) -> str:
    all_cores = device.memory.read_bandwidth_bytes_per_second
    one = device.memory.single_thread_read_bandwidth_bytes_per_second
    if all_cores is None:
        return "not measured"
    return f"{all_cores / 1e9:.1f} GB/s" + (f", {one / 1e9:.1f} GB/s with one thread" if one else "")


def print_verification(console: Console, verification: Verification) -> None:
    """Print predicted against actual times and the errors by phase."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("repeat", "model", "scheme", "what"):
        table.add_column(name)
    for name in ("full model, ms", "predicted, ms", "error"):
        table.add_column(name, justify="right")
    for cell in verification.cells:
        what = f"decode at {cell.context_depth}" if cell.phase == "decode" else f"prefill of {cell.token_count}"
        predicted = Estimate(value=cell.predicted_seconds, low=cell.low, high=cell.high)
        table.add_row(
            str(cell.repeat + 1),
            cell.architecture,
            cell.scheme,
            what,
            number(1000 * cell.actual_seconds),
            interval(predicted, 1000).replace("\n", " in "),
            f"{cell.error:+.1%}",
        )
    console.print(table)
    for name, errors in (("decode", verification.decode), ("prefill", verification.prefill)):
        console.print(_errors_line(name, errors), highlight=False)
    if verification.interval_coverage is not None:
        console.print(f"The interval held in {verification.interval_coverage:.0%} of the cells.", highlight=False)


def _errors_line(name: str, errors: PhaseErrors) -> str:
    if errors.median_abs_error is None or errors.p90_abs_error is None:
        return f"{name}: nothing measured"
    return f"{name}: {errors.cells} cells, |error| median {errors.median_abs_error:.1%}, p90 {errors.p90_abs_error:.1%}"


def print_status(console: Console, status: Status) -> None:
    """Print where things stand on this device."""
    enrolment, last = status.enrolment, status.last_delivery
    console.print(f"device {status.device_id or 'without identity before its first weigh-in'}")
    console.print(f"state folder {status.state_folder}")
    if enrolment:
        plain = " (plain text on loopback)" if enrolment.insecure else ""
        console.print(f"enrolled with {enrolment.aggregator_address}{plain}, consent {enrolment.consent_version}")
    else:
        console.print("not enrolled: runs wait in the spool until `weighin-agent enroll`")
    age = status.oldest_pending_age_seconds
    waiting = f", the oldest for {age / 3600:.1f} hours" if age is not None else ""
    console.print(f"{status.pending_count} run(s) wait, {status.pending_bytes / 1024:.0f} KiB{waiting}")
    console.print(
        f"since installation {status.dropped_count} dropped by the caps, {status.quarantined_count} set aside"
    )
    for run in status.quarantine:
        console.print(f"  set aside {run.run_id or run.file_name}: {run.reason or 'reason lost'}: {run.detail}")
    for name in status.damaged_files:
        console.print(f"  damaged and begun anew: {name}")
    if last:
        kept = f", {last.kept_count} kept: {last.kept_detail}" if last.kept_count else ""
        when = f"{datetime.fromtimestamp(last.time_seconds, UTC):%Y-%m-%d %H:%M} UTC"
        console.print(
            f"last delivery {when}: {last.stored_count} stored, "
            f"{last.duplicate_count} stored before, {last.quarantined_count} refused{kept}"
        )
