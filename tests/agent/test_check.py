"""`weighin-agent check`: the newest run of a device, asked about one model."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from agent_process import agent, agent_line, only_document
from filled_run import FILLED
from made_model_files import llama_tensors, write_gguf
from made_runs import run_of
from rich.console import Console

from weighin_agent.check import NOT_PUBLISHED, REMINDER, Answer, Request, answer, document, unanswerable
from weighin_agent.device import Device, Memory, Storage
from weighin_agent.errors import UsageError
from weighin_agent.fleet.actions import NewestRun, keep_run, working
from weighin_agent.fleet.state import State
from weighin_agent.run import Run
from weighin_agent.terminal_check import print_check
from weighin_agent.wire import run_to_message
from weighin_analysis.answers.found import find_model
from weighin_analysis.answers.words import LINKS_BITS_PER_SECOND, requirement_document
from weighin_analysis.card import Verdict
from weighin_analysis.scheme import Scheme

GIB = 1 << 30
CARD_ROW_KEYS = {
    "size_class",
    "architecture",
    "architecture_kind",
    "scheme",
    "execution_provider",
    "threads",
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
    "time_to_first_token_seconds",
    "latency_seconds",
    "memory_bytes",
    "download_bytes",
    "verdict",
    "reasons",
    "basis",
}


def a_run(schemes: Sequence[Scheme] = (Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC), *, slowness: float = 1.0) -> Run:
    memory = replace(FILLED.device.memory, read_bandwidth_bytes_per_second=40e9)  # the made times need 15 GB/s
    device = replace(FILLED.device, memory=memory, accelerators=(), execution_providers=())
    return replace(FILLED, device=device, measurements=tuple(run_of(schemes, slowness=slowness)), failures=())


def now(*, memory: int | None = 32 * GIB, disk: int | None = 1000 * GIB) -> Device:
    """The device as it is now; while its run was made it was another one, with next to nothing free."""
    return replace(
        FILLED.device,
        memory=Memory(total_bytes=64 * GIB, available_bytes=memory),
        storage=Storage(free_bytes=disk),
        accelerators=(),
    )


def ask(
    model: str | Path, run: Run | None = None, device: Device | None = None, *, age: float = 60.0, **request: Any
) -> Answer:
    newest = NewestRun(run_id="a run", run=run or a_run())
    asked = Request(found=find_model(str(model)), **request)
    return answer(asked, newest, device or now(), FILLED.observe_time + timedelta(seconds=age))


# The answer.


def test_a_model_that_runs_is_a_yes_with_its_numbers() -> None:
    found = document(ask("Qwen3-0.6B"))
    assert (found["model"], found["known"], found["disclosed"], found["runs"]) == ("Qwen3-0.6B", True, True, True)
    assert (found["verdict"], found["basis"]) == (Verdict.COMFORTABLE, "interpolated")
    assert set(found) >= CARD_ROW_KEYS | {"changes", "rows", "run_age_seconds"}
    assert all(set(row) >= CARD_ROW_KEYS for row in found["rows"])
    assert [row["scheme"] for row in found["rows"]] == ["int4_block32", "int8_dynamic"]
    decode = found["decode_tokens_per_second"]
    assert decode["low"] < decode["value"] < decode["high"]
    assert found["memory_parts_bytes"]["total"] == found["memory_bytes"]
    assert json.loads(json.dumps(found))["reminder"] == REMINDER


def test_free_memory_is_that_of_now_and_not_that_of_the_run() -> None:
    assert FILLED.device.memory.available_bytes is not None
    assert FILLED.device.memory.available_bytes < GIB
    assert ask("Gemma-2B").rows[0].memory_free_bytes == 32 * GIB
    tight = ask("Gemma-2B", device=now(memory=2 * GIB))
    assert (tight.rows[0].verdict, tight.runs) == (Verdict.DOES_NOT_FIT, False)
    assert any("closing programs" in change.change for change in tight.changes)


def test_free_memory_that_nobody_knows_leaves_the_speed_to_judge_by() -> None:
    found = ask("Qwen3-0.6B", device=now(memory=None))
    assert found.runs
    assert "free memory is not known, judged by speed alone" in found.reasons


def test_what_cannot_be_downloaded_for_lack_of_disk_is_a_no() -> None:
    found = ask("Qwen3-0.6B", device=now(disk=100_000_000))
    assert (found.rows[0].verdict, found.runs) == (Verdict.COMFORTABLE, False)
    assert found.reasons[-1].endswith("GB of disk to download, 0.10 GB are free")
    assert ask("Qwen3-0.6B", device=now(disk=None)).runs


def test_too_slow_is_a_no_that_names_what_would_do() -> None:
    found = ask("Llama-3.1-8B")
    assert (found.rows[0].verdict, found.runs) == (Verdict.TOO_SLOW, False)
    assert [change.change for change in found.changes] == ["a smaller model, such as Llama-3.2-1B"]


def test_the_age_of_the_run_is_told_and_never_below_zero() -> None:
    assert ask("Qwen3-0.6B", age=90.0).run_age_seconds == 90.0
    assert ask("Qwen3-0.6B", age=-90.0).run_age_seconds == 0.0


def test_a_scheme_narrows_the_answer_and_a_name_may_hold_one() -> None:
    assert [r.requirement.candidate.scheme for r in ask("Qwen3-0.6B", scheme="int8_dynamic").rows] == ["int8_dynamic"]
    (row,) = ask("Qwen3-0.6B-Q4_K_M.gguf").rows
    assert (row.requirement.candidate.format, row.measured_scheme) == ("gguf", Scheme.INT4_BLOCK32)


def test_a_real_file_is_judged_by_what_its_header_tells_and_needs_no_disk(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "some.gguf", llama_tensors())
    found = ask(path, device=now(disk=0))
    (row,) = found.rows
    assert (row.requirement.candidate.scheme, row.measured_scheme) == ("Q4_0", Scheme.INT4_BLOCK32)
    assert row.requirement.download_bytes == path.stat().st_size
    assert row.decode_tokens_per_second is not None
    assert row.basis == "neighbours"  # another runtime's kernels
    assert found.runs


@pytest.mark.parametrize("request_", [{"scheme": "Q8_0"}, {"what_ifs": ("quantize=Q8_0",)}])
def test_another_file_than_the_one_that_is_here_has_to_be_downloaded(tmp_path: Path, request_: dict[str, Any]) -> None:
    path = write_gguf(tmp_path / "some.gguf", llama_tensors())
    found = ask(path, device=now(disk=0), **request_)
    assert found.reasons[-1].endswith("GB of disk to download, 0.00 GB are free")
    assert not found.runs


def test_an_adapter_comes_on_top_of_the_file_that_is_here(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "some.gguf", llama_tensors())
    found = ask(path, what_ifs=("lora=2",))
    (row,), (result,) = found.rows, found.what_ifs
    adapter_bytes = result.after.candidate.adapters[0].bytes
    assert row.requirement.download_bytes == result.after.download_bytes == path.stat().st_size + adapter_bytes


def test_a_context_beyond_the_models_own_is_a_no_that_names_it() -> None:
    found = ask("SmolLM2-135M", context_tokens=32_768)
    assert not found.runs
    assert found.reasons[0] == "made for a context of at most 8,192 tokens: ask for --context 8192 or less"
    assert [change.change for change in found.changes] == ["with a context of 8,192 tokens"]
    assert not any("made for a context" in reason for reason in ask("SmolLM2-135M").reasons)


def test_the_document_tells_of_sizes_what_size_tells() -> None:
    asked = ask("Qwen3-0.6B")
    found, sized = document(asked), requirement_document(asked.rows[0].requirement, LINKS_BITS_PER_SECOND)
    renamed = {"basis": "size_basis", "memory_bytes": "memory_parts_bytes"}
    for row in (found, found["rows"][0]):
        assert {key: row[renamed.get(key, key)] for key in sized} == sized
    assert found["memory_basis"] == "counted"


def test_a_what_if_tells_the_parameters_before_and_after() -> None:
    found = document(ask("Qwen3-1.7B", what_ifs=("prune-layers=14",)))
    whole = find_model("Qwen3-1.7B").parameters
    assert found["what_ifs"][0]["parameters"] == {"before": whole, "after": found["parameters"]}
    assert found["parameters"] < whole
    assert found["size_class"] == "1B"


def test_a_mixture_tells_its_active_parameters_and_a_guessed_size_what_is_published() -> None:
    assert document(ask("Qwen3-30B-A3B"))["active_parameters"] == 3_353_032_704
    assert any("litert int4, 3.66 GB" in reason for reason in ask("gemma-3n-E2B").reasons)


def test_a_what_if_is_judged_as_the_model_that_it_makes() -> None:
    whole, pruned = ask("Qwen3-1.7B"), ask("Qwen3-1.7B", what_ifs=("prune-layers=14",))
    rates = [one.rows[0].decode_tokens_per_second for one in (whole, pruned)]
    assert rates[0] is not None
    assert rates[1] is not None
    assert rates[1].value > 1.2 * rates[0].value
    (result,) = pruned.what_ifs
    assert "not judged" in result.quality
    (row,) = ask("Qwen3-1.7B", what_ifs=("quantize=int8",)).rows
    assert row.measured_scheme is Scheme.INT8_DYNAMIC


def test_an_execution_provider_that_was_not_measured_is_bad_usage_that_names_the_measured_ones() -> None:
    with pytest.raises(UsageError, match="the newest run measured cpu"):
        ask("Qwen3-0.6B", execution_provider="webgpu")


@pytest.mark.parametrize(
    ("model", "known", "reason"), [("GPT-4", True, NOT_PUBLISHED), ("no such model at all", False, None)]
)
def test_what_nobody_can_download_needs_no_run_to_be_a_no(model: str, known: bool, reason: str | None) -> None:
    found = unanswerable(Request(found=find_model(model)))
    assert found is not None
    told = document(found)
    assert (told["known"], told["runs"], told["verdict"], told["rows"]) == (known, False, None, [])
    assert set(told) >= CARD_ROW_KEYS
    assert reason is None or reason in told["reasons"]
    assert unanswerable(Request(found=find_model("Qwen3-0.6B"))) is None


# The command.


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a device that made a run."""
    folder = tmp_path / "state"
    with working(State(folder)) as spool:
        keep_run(State(folder), spool, run_to_message(a_run()).SerializeToString())
    return folder


def test_the_command_answers_from_the_newest_run(state: Path) -> None:
    done = agent("check", "SmolLM2-360M", "--json", "--state", state)
    found = only_document(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (found["model"], found["runs"], found["execution_provider"]) == ("SmolLM2-360M", True, "cpu")
    assert found["storage_free_bytes"] > 0
    assert found["memory_free_bytes"] > 0


def test_a_no_is_exit_code_1_and_tells_a_person_why(state: Path) -> None:
    done = agent("check", "Llama-3-70B", "--state", state)
    assert (done.returncode, done.stderr) == (1, "")
    text = " ".join(done.stdout.split())
    assert "What would change the answer" in text
    assert REMINDER in text


def test_a_yes_tells_a_person_speed_download_memory_and_what_is_free(state: Path) -> None:
    done = agent("check", "SmolLM2-360M", "--link-mbit", "50", "--state", state)
    assert done.returncode == 0
    for words in ("comfortable", "tokens/s", "s to the first token", "at 50 Mbit/s", "free now", REMINDER[:20]):
        assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("SmolLM2-360M", "--ep", "cuda"),
        ("SmolLM2-360M", "--scheme", "q99"),
        ("SmolLM2-360M", "--what-if", "magic"),
        ("GPT-4", "--what-if", "magic"),
        ("GPT-4", "--scheme", "q99"),
        ("",),
        ("./no-such-file.gguf",),
        (),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(state: Path, arguments: tuple[str, ...]) -> None:
    done = agent("check", *arguments, "--state", state)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_name_that_no_terminal_can_print_is_escaped() -> None:
    unknown = unanswerable(Request(found=find_model("no\x1b such\udcff model")))
    assert unknown is not None
    printed = StringIO()
    print_check(Console(file=printed), unknown, (1e6,))
    assert printed.getvalue().splitlines()[0] == r"no\x1b such\udcff model"


def test_a_scheme_that_nobody_here_knows_is_said_and_the_measured_ones_are_answered() -> None:
    found = ask("Llama-3.2-3B-Instruct-4bit")
    assert [row.requirement.candidate.scheme for row in found.rows] == ["int4_block32", "int8_dynamic"]
    assert "weighin does not know the scheme 4bit" in printed(found, width=200)


@pytest.mark.parametrize("model", ["Gemma-2B", "DistilBERT", "Qwen3-30B-A3B"])
def test_on_a_terminal_of_80_columns_nothing_is_wider_and_later_pieces_are_indented(model: str) -> None:
    lines = printed(ask(model), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    start = next(place for place, line in enumerate(lines) if line.startswith("  memory"))
    assert lines[start + 1].startswith(" " * 12)


def test_what_is_no_terminal_gets_every_sentence_on_one_line() -> None:
    output = StringIO()
    print_check(Console(file=output, width=80), ask("Gemma-2B"), (1e6,))
    assert [line for line in output.getvalue().splitlines() if line.endswith(REMINDER)]


def test_every_scheme_that_is_not_judged_says_why() -> None:
    text = printed(ask("DistilBERT"), width=200)
    assert text.count("not known: ") == text.count("no encoder was run") == 2


def test_an_unknown_name_is_told_once_and_with_what_to_do() -> None:
    unknown = unanswerable(Request(found=find_model("FooBar-13B")))
    assert unknown is not None
    text = printed(unknown, width=200)
    assert text.count("not in the catalogue") == 1
    assert "weighin-analysis catalogue add" in text


def printed(found: Answer, *, width: int) -> str:
    """What a terminal without colours shows."""
    output = StringIO()
    print_check(Console(file=output, force_terminal=True, no_color=True, color_system=None, width=width), found, (1e6,))
    return output.getvalue()


def test_an_answer_whose_reader_left_keeps_its_exit_code(state: Path) -> None:
    line = agent_line("check", "SmolLM2-360M", "--state", state)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("damage", [None, b"", b"damaged"])
def test_without_a_run_that_can_be_read_one_line_says_to_make_one(tmp_path: Path, damage: bytes | None) -> None:
    folder = tmp_path / "state"
    if damage is not None:
        folder.mkdir()
        (folder / "newest_run").write_bytes(damage)
    done = agent("check", "SmolLM2-360M", "--state", folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "run `weighin-agent run` first" in done.stderr
    assert ("is damaged" in done.stderr) == (damage is not None)
    assert damage is not None or not folder.exists()
