"""What a person sees of `check`: the answer first, then what stands behind it and what would change it."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from weighin_agent.check import REMINDER, Answer
from weighin_agent.terminal import BASIS_WORDS, VERDICT_STYLES, duration, gib, interval
from weighin_analysis.answers.check import CheckRow
from weighin_analysis.answers.words import requirement_lines, what_if_lines
from weighin_analysis.card import Estimate
from weighin_analysis.files.reading import shown
from weighin_analysis.limits import current_limits
from weighin_analysis.naming.identify import say_parameters


def print_check(console: Console, answer: Answer, links_bits_per_second: Sequence[float]) -> None:
    """Print whether the device runs a model."""
    found, rows = answer.found, answer.rows
    name = Text(shown(found.name), "bold")  # an unknown name is any text
    if found.parameters is None:
        console.print(name)
    else:
        count = f"{say_parameters(found.parameters)} parameters, size class {found.size_class}"
        console.print(name.append(f": {count}; {found.reason}", "not bold"))
    if not rows:
        console.print(Text("no", "bold red").append(f": {'; '.join(answer.reasons)}", "not bold default"))
    if found.candidates:
        console.print(f"perhaps you mean: {', '.join(found.candidates)}", markup=False)
    changed = rows[0].requirement.candidate.entry if answer.what_ifs and rows else None
    if changed and changed.name != found.name and changed.parameters:
        console.print(f"judged as {changed.name}: {say_parameters(changed.parameters)} parameters", markup=False)
    for row in rows:
        console.print(_row_line(row))
    if rows:
        for line in _details(answer, rows[0], links_bits_per_second):
            console.print(line, markup=False, highlight=False)
    for result in answer.what_ifs:
        console.print()
        for line in what_if_lines(result):
            console.print(line, markup=False, highlight=False)
    if answer.changes:
        console.print()
        console.print("What would change the answer:")
        for change in answer.changes:
            verdict = Text(change.verdict.replace("_", " "), VERDICT_STYLES[change.verdict])
            console.print(Text(f"  {change.change}: ").append_text(verdict))
    console.print()
    console.print(_footer(answer), style="dim", markup=False, highlight=False)


def _row_line(row: CheckRow) -> Text:
    verdict = row.verdict
    style = VERDICT_STYLES[verdict] if verdict else "yellow"
    line = Text("not known" if verdict is None else verdict.replace("_", " "), style)
    how = f", {BASIS_WORDS[row.basis]}" if row.basis else ""
    line.append(f": {row.requirement.candidate.scheme} on {row.execution_provider}{how}", "not bold default")
    speeds = [
        _speed(row.decode_tokens_per_second, "tokens/s"),
        _speed(row.time_to_first_token_seconds, "s to the first token"),
        _speed(row.prefill_tokens_per_second, "tokens/s of prompt") if row.decode_tokens_per_second else "",
        _speed(row.latency_seconds, "s"),
    ]
    return line.append("".join(f"; {speed}" for speed in speeds if speed), "not bold default")


def _speed(estimate: Estimate | None, unit: str) -> str:
    return "" if estimate is None else f"{interval(estimate).replace(chr(10), ' (')}) {unit}"


def _details(answer: Answer, row: CheckRow, links_bits_per_second: Sequence[float]) -> Iterator[str]:
    yield from requirement_lines(row.requirement, answer.context_tokens or 0, links_bits_per_second)
    share = current_limits().memory_share
    if row.memory_free_bytes is not None:
        usable = gib(share * row.memory_free_bytes)
        yield f"  free now  {gib(row.memory_free_bytes)} of memory, of which {usable} may be used"
    if answer.storage_free_bytes is not None:
        yield f"            {answer.storage_free_bytes / 1e9:.0f} GB of disk"
    for reason in answer.reasons:
        if reason not in row.requirement.missing:
            yield f"  {reason}"


def _footer(answer: Answer) -> str:
    limits = current_limits()
    if answer.run_age_seconds is None:
        return REMINDER
    disturbed = f" It was disturbed: {' '.join(answer.disturbances)}" if answer.disturbances else ""
    return (
        f"From the run of {duration(answer.run_age_seconds)} ago.{disturbed} "
        f"Decode at {limits.decode_context_depth} tokens of context, first token after a prompt of "
        f"{limits.prompt_tokens}, an encoder's latency for {limits.encoder_tokens}. "
        f"Intervals hold with {limits.interval_probability:.0%}; limits {limits.version}. {REMINDER}"
    )
