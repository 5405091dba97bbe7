"""What a person sees of `check`: the answer first, then what stands behind it and what would change it."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from weighin_agent.check import REMINDER, Answer
from weighin_agent.terminal import BASIS_WORDS, VERDICT_STYLES, interval
from weighin_agent.terminal_status import duration
from weighin_analysis.answers.check import CheckRow
from weighin_analysis.answers.found import FoundModel
from weighin_analysis.answers.words import (
    NEXT_STEP,
    active_words,
    hanging_indent,
    requirement_lines,
    what_if_lines,
)
from weighin_analysis.card import Estimate
from weighin_analysis.files.reading import shown
from weighin_analysis.limits import current_limits
from weighin_analysis.naming.identify import say_parameters
from weighin_analysis.numbers import gb, gib


def print_check(console: Console, answer: Answer, links_bits_per_second: Sequence[float]) -> None:
    """Print whether the device runs a model."""
    found, rows = answer.found, answer.rows
    _print_model(console, answer)
    changed = rows[0].requirement.candidate.entry if answer.what_ifs and rows else None
    if changed and changed.name != found.name and changed.parameters:
        _print(console, f"judged as {changed.name}: {say_parameters(changed.parameters)} parameters")
    for row in rows:
        _print(console, _row_line(row))
        for reason in row.reasons if row is not rows[0] else ():
            _print(console, f"  {reason}")
    if rows:
        for line in _details(answer, rows[0], links_bits_per_second):
            _print(console, line)
    for result in answer.what_ifs:
        console.print()
        for line in what_if_lines(result):
            _print(console, line)
    if answer.changes:
        console.print()
        _print(console, "What would change the answer:")
        for change in answer.changes:
            verdict = Text(change.verdict.replace("_", " "), VERDICT_STYLES[change.verdict])
            _print(console, Text(f"  {change.change}: ").append_text(verdict))
    console.print()
    _print(console, Text(_footer(answer), "dim"))


def _print_model(console: Console, answer: Answer) -> None:
    found, rows = answer.found, answer.rows
    name = Text(shown(found.name), "bold")  # an unknown name is any text
    told = [] if found.parameters is None else [_size_words(found)]
    told += [found.reason] if rows else []  # else the answer says it
    _print(console, name.append(f": {'; '.join(told)}" if told else "", "not bold"))
    if found.scheme_problem:
        _print(console, Text(f"{found.scheme_problem}; answered for the schemes that were measured"))
    if not rows:
        _print(console, Text("no", "bold red").append(f": {'; '.join(answer.reasons)}", "not bold default"))
    if found.candidates:
        _print(console, f"perhaps you mean: {', '.join(found.candidates)}")
    if not found.known:
        _print(console, NEXT_STEP)


def _print(console: Console, line: str | Text) -> None:
    """Print one line: on a terminal broken with its later pieces indented, elsewhere as it is."""
    text = Text(line) if isinstance(line, str) else line
    if not console.is_terminal:
        console.print(text, soft_wrap=True, highlight=False)
        return
    indent = " " * hanging_indent(text.plain)
    for place, piece in enumerate(text.wrap(console, max(1, console.width - len(indent)))):
        console.print(Text(indent if place else "").append_text(piece), highlight=False)


def _size_words(found: FoundModel) -> str:
    assert found.parameters is not None
    active = active_words(found.active_parameters)
    return f"{say_parameters(found.parameters)} parameters{active}, size class {found.size_class}"


def _row_line(row: CheckRow) -> Text:
    verdict = row.verdict
    style = VERDICT_STYLES[verdict] if verdict else "bold red" if row.beyond_context else "yellow"
    unjudged = "no" if row.beyond_context else "not known"
    line = Text(unjudged if verdict is None else verdict.replace("_", " "), style)
    how = f", {BASIS_WORDS[row.basis]}" if row.basis else ""
    line.append(f": {row.requirement.candidate.scheme} on {row.execution_provider}{how}", "not bold default")
    speeds = [
        _speed("decode ", row.decode_tokens_per_second, "tokens/s"),
        _speed("", row.time_to_first_token_seconds, "s to the first token"),
        _speed("prefill ", row.prefill_tokens_per_second, "tokens/s") if row.decode_tokens_per_second else "",
        _speed("latency ", row.latency_seconds, "s"),
    ]
    return line.append("".join(f"; {speed}" for speed in speeds if speed), "not bold default")


def _speed(what: str, estimate: Estimate | None, unit: str) -> str:
    return "" if estimate is None else f"{what}{interval(estimate).replace(chr(10), ' (')}) {unit}"


def _details(answer: Answer, row: CheckRow, links_bits_per_second: Sequence[float]) -> Iterator[str]:
    yield from requirement_lines(row.requirement, answer.context_tokens or 0, links_bits_per_second)
    share = current_limits().memory_share
    if row.memory_free_bytes is not None:
        usable = gib(share * row.memory_free_bytes)
        yield f"  free now  {gib(row.memory_free_bytes)} of memory, of which {usable} may be used"
    if answer.storage_free_bytes is not None:
        yield f"            {gb(answer.storage_free_bytes)} of disk"
    for reason in answer.reasons:
        if reason not in row.requirement.missing:
            yield f"  {reason}"


def _footer(answer: Answer) -> str:
    limits = current_limits()
    if answer.run_age_seconds is None:
        return REMINDER
    disturbed = f" It was disturbed: {' '.join(answer.disturbances)}" if answer.disturbances else ""
    deep = answer.rows[0].decode_context_depth if answer.rows else None
    return (
        f"From the run of {duration(answer.run_age_seconds)} ago.{disturbed} "
        f"Decode at {deep or limits.decode_context_depth} tokens of context, first token after a prompt of "
        f"{limits.prompt_tokens}, an encoder's latency for {limits.encoder_tokens}. "
        f"Intervals hold with {limits.interval_probability:.0%}; limits {limits.version}. {REMINDER}"
    )
