import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tiny_cases import (
    ENDLESS,
    LENGTHS,
    PATIENCE_SECONDS,
    ROUNDS,
    TINY,
    TINY_ENCODER,
    case_children,
    is_gone,
    tiny_case,
    tiny_job,
    wait_until,
)

from weighin_agent.bench import runner
from weighin_agent.bench.job import Failed, Job, encode_job
from weighin_agent.bench.runner import CaseChild, needed_memory_bytes, run_case
from weighin_agent.errors import EnvironmentFailure
from weighin_agent.run import CaseFailure, CaseFailureReason
from weighin_agent.weigh_in import work_folder
from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architecture
from weighin_analysis.estimate import anchor_times, full_model_times
from weighin_analysis.measurement import Case, Measurement, Phase, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SuiteCase, load_suite

CASE_PARENT = Path(__file__).parents[1] / "case_parent.py"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where cases run; afterwards nothing is left there, and no child process."""
    work = tmp_path / "work"
    work.mkdir()
    yield work
    assert list(work.iterdir()) == []
    assert case_children() == []


def outcome_of(
    job: Job, *, timeout_seconds: float = 60.0, on_progress: Callable[[float], None] = lambda _share: None
) -> tuple[Measurement, ...] | CaseFailure:
    return run_case(job, timeout_seconds=timeout_seconds, on_progress=on_progress)


def measured(job: Job) -> tuple[Measurement, ...]:
    outcome = outcome_of(job)
    assert isinstance(outcome, tuple), outcome
    return outcome


def failure_of(job: Job, *, timeout_seconds: float = 60.0) -> CaseFailure:
    outcome = outcome_of(job, timeout_seconds=timeout_seconds)
    assert isinstance(outcome, CaseFailure)
    assert outcome.case == job.case
    assert "\n" not in outcome.detail
    assert str(job.folder) not in outcome.detail
    return outcome


@pytest.mark.parametrize("scheme", [s for s in Scheme if s is not Scheme.FP16])
@pytest.mark.parametrize("shape", [TINY, TINY_ENCODER], ids=["decoder", "encoder"])
def test_a_case_comes_back_measured(shape: Architecture, scheme: Scheme, folder: Path) -> None:
    shares: list[float] = []
    case = tiny_case(shape, scheme)
    outcome = outcome_of(tiny_job(folder, case), on_progress=shares.append)
    assert isinstance(outcome, tuple), outcome
    decodes, prefills = (2, 3) if case.head_columns else (0, 2)
    assert [m.phase for m in outcome] == [Phase.DECODE] * decodes + [Phase.PREFILL] * prefills
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0])
    for found in outcome:
        assert found.execution_provider == "cpu"
        assert len(found.case.layers_graph_sha256) == 64
        assert len(found.case.head_graph_sha256) == (64 if case.head_columns else 0)
        assert replace(found.case, layers_graph_sha256="", head_graph_sha256="") == case
        assert found.peak_memory_bytes is not None
        assert found.peak_memory_bytes > 10_000_000
        assert full_model_times(found).median_seconds > 0


def test_an_anchor_is_measured_beside_its_own_probe(folder: Path) -> None:
    for found in measured(tiny_job(folder, full_model=True)):
        assert {s.part for s in found.series} == {SeriesPart.LAYERS, SeriesPart.HEAD, SeriesPart.FULL_MODEL}
        assert anchor_times(found).median_seconds > 0


def test_more_than_one_thread_is_timed_by_the_wall_clock(folder: Path) -> None:
    clocks = {
        threads: {s.clock for m in measured(tiny_job(folder, tiny_case(threads=threads))) for s in m.series}
        for threads in (1, 2)
    }
    assert clocks == {1: {"thread_cpu"}, 2: {"wall"}}


def test_two_children_build_the_same_graphs(folder: Path) -> None:
    first, second = (measured(tiny_job(folder))[0].case for _ in range(2))
    assert first == second


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that end a process from outside")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_child_ended_in_the_middle_is_one_failure_that_names_the_signal(end: signal.Signals, folder: Path) -> None:
    def end_child(_share: float) -> None:
        for child in case_children():
            child.send_signal(end)

    outcome = outcome_of(tiny_job(folder, rounds=ENDLESS), on_progress=end_child)
    assert isinstance(outcome, CaseFailure)
    assert outcome.reason is CaseFailureReason.CRASHED
    assert end.name in outcome.detail
    assert ("want of memory" in outcome.detail) == (end is signal.SIGKILL)


def test_a_child_that_takes_too_long_is_ended(folder: Path) -> None:
    failure = failure_of(tiny_job(folder, rounds=ENDLESS), timeout_seconds=1.0)
    assert (failure.reason, failure.detail) == (CaseFailureReason.TIMED_OUT, "ended after 1 s")


def test_a_stopped_child_is_ended_too(folder: Path) -> None:
    """A hang that no signal but SIGKILL ends: the time-out does not rely on the child's help."""

    def stop_child(_share: float) -> None:
        for child in case_children():
            child.suspend()

    outcome = outcome_of(tiny_job(folder, rounds=ENDLESS), timeout_seconds=3.0, on_progress=stop_child)
    assert isinstance(outcome, CaseFailure)
    assert outcome.reason is CaseFailureReason.TIMED_OUT


def test_a_case_that_needs_more_than_it_may_is_not_started(folder: Path) -> None:
    failure = failure_of(tiny_job(folder, memory_limit_bytes=50_000_000))
    assert failure.reason is CaseFailureReason.MEMORY_GATE
    assert failure.detail == "needs about 0.1 GiB, 0.0 GiB may be used"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a child here")
def test_a_case_that_turns_out_to_need_more_than_it_may_runs_out_of_memory(tmp_path: Path) -> None:
    """What the gate does not foresee, the limit stops before the system suffers; here the gate was not asked."""
    wide = replace(TINY, ffn=8192)
    long = replace(LENGTHS, decoder_prompt_tokens=(8, 16384), max_context_tokens=32768)
    job = tiny_job(tmp_path, tiny_case(wide), lengths=long, memory_limit_bytes=400_000_000)
    with CaseChild(job, timeout_seconds=60) as child:
        outcome = child.outcome(lambda _share: None)
    assert isinstance(outcome, Failed)
    assert outcome.reason is CaseFailureReason.OUT_OF_MEMORY


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a child here")
@pytest.mark.parametrize("case", load_suite("quick").cases, ids=lambda case: case.architecture.name)
def test_a_case_that_just_passes_the_gate_really_runs_in_that_memory(case: SuiteCase, folder: Path) -> None:
    suite = load_suite("quick")
    whole = replace(
        tiny_case(case.architecture, case.scheme, threads=2),
        probe_layers=case.probe_layers,
        head_columns=case.head_columns,
    )
    needed = needed_memory_bytes(whole, suite.lengths, full_model=False)
    once = replace(ROUNDS, count=1, most_count=1)
    job = tiny_job(folder, whole, lengths=suite.lengths, rounds=once, memory_limit_bytes=needed)
    assert measured(job)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file sizes")
def test_a_disk_without_room_is_said_without_its_path(folder: Path) -> None:
    import resource  # noqa: PLC0415 - POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        failure = failure_of(tiny_job(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure.reason is CaseFailureReason.RUNTIME_ERROR
    assert failure.detail == "the models cannot be written: File too large"


def test_a_folder_that_is_gone_fails_the_case_and_not_the_run(folder: Path) -> None:
    failure = failure_of(tiny_job(folder / "gone"))
    assert failure.reason is CaseFailureReason.RUNTIME_ERROR
    assert failure.detail == "the case could not be started: No such file or directory"


def test_a_file_named_like_a_library_where_the_user_stands_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    assert measured(tiny_job(folder))


def test_weights_that_cannot_be_reproduced_are_a_mismatch(folder: Path) -> None:
    job = tiny_job(folder)
    failure = failure_of(replace(job, weights=replace(job.weights, block_sha256="ab" * 32)))
    assert failure.reason is CaseFailureReason.WEIGHTS_MISMATCH
    assert "abababababab" in failure.detail


def test_a_graph_that_the_runtime_refuses_is_its_error(folder: Path) -> None:
    impossible = tiny_case(replace(TINY, heads=3, kv_heads=2))
    assert failure_of(tiny_job(folder, impossible)).reason is CaseFailureReason.RUNTIME_ERROR


def test_a_child_that_fails_before_it_answers_is_a_crash(folder: Path) -> None:
    """No engine is known by this name, and no agent asks for it: the child ends with an error of Python."""
    failure = failure_of(tiny_job(folder, replace(tiny_case(), execution_provider="abacus")))
    assert (failure.reason, failure.detail) == (CaseFailureReason.CRASHED, "ended with exit code 1 and no answer")


@pytest.mark.parametrize("text", ["Vulkan loader: hello", "\\xff\\xfe", "{}", "5"])
def test_a_child_that_says_something_else_is_a_crash(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries and drivers may print to the child's standard output, in any encoding."""
    code = f"import sys; sys.stdin.readline(); sys.stdout.buffer.write(b'{text}\\n'); sys.stdout.flush()"
    monkeypatch.setattr(runner, "_COMMAND", (sys.executable, "-c", code))
    failure = failure_of(tiny_job(folder))
    assert (failure.reason, failure.detail) == (
        CaseFailureReason.CRASHED,
        "the child wrote something that is not an answer",
    )


def test_an_interrupt_ends_the_child_and_clears_its_folder(folder: Path) -> None:
    def interrupt(_share: float) -> None:
        assert len(case_children()) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcome_of(tiny_job(folder, rounds=ENDLESS), on_progress=interrupt)


def test_an_interrupt_while_the_child_is_started_ends_it_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment between the birth of the child and the first answer; a signal does not wait for a better one."""

    def interrupted(job: Job) -> str:
        assert job.case == tiny_case()
        wait_until(lambda: len(case_children()) == 1, "the child has been born")
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "encode_job", interrupted)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        outcome_of(tiny_job(folder))
    wait_until(lambda: threading.active_count() == threads, "the timer has ended")


def test_a_child_whose_parent_was_killed_ends_by_itself(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, CASE_PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(encode_job(tiny_job(tmp_path, rounds=ENDLESS)) + "\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "under way\n"
        (child,) = case_children(psutil.Process(parent.pid))
        parent.kill()
        parent.wait(timeout=PATIENCE_SECONDS)
        wait_until(lambda: is_gone(child), "the child of a killed agent ends")


def test_what_a_killed_agent_left_behind_goes_with_the_next_run(tmp_path: Path) -> None:
    """And nothing else: the state folder may be one that holds the user's own files."""
    (tmp_path / "weighin-work-old" / "case-old").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    with work_folder(tmp_path) as folder:
        assert list(folder.iterdir()) == []
        assert {path.name for path in tmp_path.iterdir()} == {"work", folder.name}
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert (tmp_path / "work" / "thesis.txt").read_text() == "mine"


def test_a_state_folder_that_cannot_hold_models_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="no models can be made"), work_folder(tmp_path / "file"):
        pass


def real_case(name: str, scheme: Scheme, *, probe_layers: int, head_columns: int) -> Case:
    return replace(tiny_case(architecture(name), scheme), probe_layers=probe_layers, head_columns=head_columns)


def test_the_memory_gate_counts_stored_and_packed_weights_cache_and_runtime() -> None:
    case = real_case("Llama-3.2-1B", Scheme.INT4_BLOCK32, probe_layers=3, head_columns=49_920)
    weights = 3 * (2048 * 3072 + 2048 * 2048 + 3 * 2048 * 8192) + 2048 * 49_920
    cache = 2 * 3 * 8 * 64 * 64 * 4
    needed = needed_memory_bytes(case, LENGTHS, full_model=False)
    activations = 4 * (48 * (4 * 2048 + 3 * 8192 + 2 * 2048) + 128_256)
    assert needed == round(weights * (0.625 + 0.75)) + cache + activations + 100_000_000


def test_an_anchor_needs_its_whole_model_on_top() -> None:
    case = real_case("Llama-3.2-1B", Scheme.INT4_BLOCK32, probe_layers=3, head_columns=49_920)
    probe = needed_memory_bytes(case, LENGTHS, full_model=False)
    both = needed_memory_bytes(case, LENGTHS, full_model=True)
    assert both - probe > case.architecture.parameter_count * (0.625 + 0.75)
