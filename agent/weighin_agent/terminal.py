"""What a person sees on a terminal: the progress of a weigh-in, the card, tables. The rich edge of the agent."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from weighin_agent.device import Device, ProbeGap, Virtualization
from weighin_agent.fleet.actions import Status
from weighin_agent.run import CaseFailure, Run
from weighin_agent.verify import PhaseErrors, Verification
from weighin_agent.weigh_in import Watcher
from weighin_analysis.card import Basis, Card, CardRow, Estimate, Verdict
from weighin_analysis.limits import current_limits
from weighin_analysis.numbers import number
from weighin_analysis.suite import Suite, SuiteCase

_VERDICT_STYLES = {
    Verdict.COMFORTABLE: "bold green",
    Verdict.USABLE: "yellow",
    Verdict.TOO_SLOW: "red",
    Verdict.DOES_NOT_FIT: "bold red",
}
_BASIS_WORDS = {
    Basis.MEASURED: "all layers",
    Basis.LAYER_PROBE: "layer probe",
    Basis.INTERPOLATED: "interpolated",
    Basis.FORMULA: "formula",
    Basis.NEIGHBOURS: "neighbours",
}
# From this width on there is room for more air between columns.
_ROOMY_COLUMNS = 100
# What a weigh-in does before its first case, about.
_READING_SECONDS = 4.0
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
def suite_progress(console: Console, suite: Suite) -> Iterator[Watcher]:
    """Show the progress of a suite with the time left; plain lines where the console is no terminal."""
    if not console.is_terminal:
        yield _plain_watcher(console, suite)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("elapsed, about"),
        _TimeLeftColumn(),
        TextColumn("left"),
    )
    seconds = [_expected_seconds(case) for case in suite.cases]
    total = _READING_SECONDS + sum(seconds)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading the device", total=total, expected_seconds=total)
        present = 0

        def advance(share: float) -> None:
            """Follow the present case, and expect the rest to go as what is done went."""
            done = _READING_SECONDS + sum(seconds[:present]) + share * seconds[present]
            pace = (progress.tasks[0].elapsed or done) / done
            progress.update(task, completed=done, expected_seconds=total * (pace * done + total - done) / total)

        def on_case(index: int, case: SuiteCase) -> None:
            nonlocal present
            present = index
            progress.update(task, description=_case_name(case))
            advance(0.0)

        yield Watcher(
            on_case=on_case,
            on_progress=advance,
            on_failure=lambda failure: progress.console.print(failure_line(failure)),
        )


class _TimeLeftColumn(ProgressColumn):
    """Counts down to the end that the last progress let expect."""

    def render(self, task: Task) -> Text:
        left = max(0.0, task.fields["expected_seconds"] - (task.elapsed or 0.0))
        return Text(f"{int(left) // 60}:{int(left) % 60:02d}")


def _expected_seconds(case: SuiteCase) -> float:
    """Return about how long a case takes on a small machine; only the proportions matter, and only until it is done."""
    return 11.0 if case.head_columns else 4.0


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
    console.print(_card_table(card, console.width))
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
        f"{limits.prompt_tokens}, for encoders the latency of {limits.encoder_tokens} tokens; memory at a context of "
        f"{limits.memory_context_tokens}. {_threads(card)}Intervals hold with {limits.interval_probability:.0%}. "
        f"ONNX Runtime {run.device.runtime_versions.onnxruntime}, "
        f"limits {card.limits_version}, formula {card.formula_version}, suite {run.suite} {run.suite_version}. "
        "Size is not ability: a smaller tuned model may do the task as well.",
        style="dim",
        highlight=False,
    )


def _threads(card: Card) -> str:
    """Return with how many threads each execution provider ran, as a sentence."""
    used = sorted({(row.execution_provider, row.threads) for row in card.rows})
    return "".join(f"EP {provider} with {threads} thread{'s' * (threads > 1)}. " for provider, threads in used)


def _card_table(card: Card, width: int) -> Table:
    """Two lines per row, so that the whole card fits a terminal of 80 columns; nothing is ever cut off."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1 if width < _ROOMY_COLUMNS else 2, 1, 0))
    for name in ("class", "model\nscheme, EP", "verdict\nhow"):
        table.add_column(name, overflow="fold")
    for name in ("decode\ntokens/s", "prefill\ntokens/s", "first\ntoken, s", "memory\ndownload"):
        table.add_column(name, justify="right", overflow="fold")
    for row in card.rows:
        table.add_row(*_card_cells(row))
    return table


def _card_cells(row: CardRow) -> tuple[str | Text, ...]:
    verdict = Text(row.verdict.replace("_", " "), _VERDICT_STYLES[row.verdict])
    return (
        row.size_class,
        f"{row.architecture}\n{row.scheme} {row.execution_provider}",
        verdict.append(f"\n{_BASIS_WORDS[row.basis]}", "not bold default"),
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
        "virtualisation": _virtualization(virtual) if virtual else "unknown",
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


def _duration(seconds: float) -> str:
    """Return a time span in the largest unit of which it holds two."""
    for name, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} seconds"


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
    waiting = f", the oldest for {_duration(age)}" if age is not None else ""
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
            f"{last.duplicate_count} stored before, {last.quarantined_count} set aside{kept}"
        )
