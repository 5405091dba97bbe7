import os
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
    synthesisers,
    tiny_case,
    tiny_job,
    wait_until,
)

from weighin_agent.bench import child_process, runner
from weighin_agent.bench.job import GRAPH_FILES, Failed, Job, Ready, Synthesised, encode_job
from weighin_agent.bench.runner import OpenCase, Synthesiser, needed_memory_bytes, open_case, run_case
from weighin_agent.errors import EnvironmentFailure
from weighin_agent.run import CaseFailure, CaseFailureReason
from weighin_agent.weigh_in import work_folder
from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architecture
from weighin_analysis.estimate import anchor_times, call_seconds, full_model_times
from weighin_analysis.footprint import RUNTIME_BYTES, activation_bytes
from weighin_analysis.measurement import Case, Measurement, Phase, SeriesPart
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Processor, SuiteCase, load_suite

CASE_PARENT = Path(__file__).parents[1] / "case_parent.py"
TIMEOUT_SECONDS = 60.0
LLAMA_1B = replace(tiny_case(architecture("Llama-3.2-1B")), probe_layers=3, short_probe_layers=1, head_columns=49_920)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where cases run; afterwards nothing is left there, and no child process."""
    work = tmp_path / "work"
    work.mkdir()
    yield work
    assert list(work.iterdir()) == []
    assert case_children() == []
    assert synthesisers() == []


def outcome_of(
    job: Job, *, timeout_seconds: float = TIMEOUT_SECONDS, on_progress: Callable[[float], None] = lambda _share: None
) -> tuple[Measurement, ...] | CaseFailure:
    return run_case(job, timeout_seconds=timeout_seconds, on_progress=on_progress)


def measured(job: Job) -> tuple[Measurement, ...]:
    outcome = outcome_of(job)
    assert isinstance(outcome, tuple), outcome
    return outcome


def without_hashes(case: Case) -> Case:
    return replace(case, layers_graph_sha256="", short_layers_graph_sha256="", head_graph_sha256="")


def failure_of(job: Job, *, timeout_seconds: float = TIMEOUT_SECONDS) -> CaseFailure:
    outcome = outcome_of(job, timeout_seconds=timeout_seconds)
    assert isinstance(outcome, CaseFailure)
    assert without_hashes(outcome.case) == job.case
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
        assert found.case.short_layers_graph_sha256 == ""
        assert len(found.case.head_graph_sha256) == (64 if case.head_columns else 0)
        assert without_hashes(found.case) == case
        assert found.peak_memory_bytes is not None
        assert found.peak_memory_bytes > 10_000_000
        assert full_model_times(found).median_seconds > 0


def test_a_short_layer_probe_runs_beside_the_long_one_and_tells_the_cost_of_a_call(folder: Path) -> None:
    case = replace(tiny_case(replace(TINY, layers=9)), probe_layers=6, short_probe_layers=2)
    found = measured(tiny_job(folder, case))
    assert len(found[0].case.short_layers_graph_sha256) == 64
    assert found[0].case.short_layers_graph_sha256 != found[0].case.layers_graph_sha256
    for one in found[:4]:
        parts = {s.part for s in one.series} - {SeriesPart.CALL}
        assert parts == {SeriesPart.LAYERS, SeriesPart.SHORT_LAYERS, SeriesPart.HEAD}
        call = call_seconds(one)
        assert call is not None
        assert call >= 0
    long_prompt = found[4]
    assert {s.part for s in long_prompt.series} == {SeriesPart.SHORT_LAYERS, SeriesPart.HEAD}
    assert {s.round for s in long_prompt.series} == {0}
    assert full_model_times(long_prompt).median_seconds > 0


def test_an_anchor_is_the_full_model_alone(folder: Path) -> None:
    """It is another case than its layer probe: its graph is another, and it has no head of its own."""
    found = measured(tiny_job(folder, layer_probe=False, full_model_loads=1))
    assert len(found) == 5
    for one in found:
        assert {s.part for s in one.series} == {SeriesPart.FULL_MODEL}
        assert anchor_times(one).median_seconds > 0
        assert one.case.head_graph_sha256 == ""
    assert found[0].case.layers_graph_sha256 != measured(tiny_job(folder))[0].case.layers_graph_sha256


@pytest.mark.parametrize("shape", [TINY, TINY_ENCODER], ids=["decoder", "encoder"])
def test_two_loads_of_a_full_model_run_beside_its_layer_probe(shape: Architecture, folder: Path) -> None:
    head = {SeriesPart.HEAD} if shape is TINY else set()
    for found in measured(tiny_job(folder, tiny_case(shape), full_model_loads=2)):
        call = {SeriesPart.CALL} if found.phase is Phase.DECODE else set()
        parts = {s.part for s in found.series}
        assert parts == {SeriesPart.FULL_MODEL, SeriesPart.FULL_MODEL_TWIN, SeriesPart.LAYERS} | head | call
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


def test_a_step_that_takes_too_long_is_ended(folder: Path) -> None:
    """Graphs cannot be made in no time at all."""
    failure = failure_of(tiny_job(folder), timeout_seconds=0.001)
    assert (failure.reason, failure.detail) == (CaseFailureReason.TIMED_OUT, "ended after 0.001 s")


def test_a_stopped_child_is_ended_too(folder: Path) -> None:
    """A hang that no signal but SIGKILL ends: the time-out does not rely on the child's help."""

    def stop_child(_share: float) -> None:
        for child in case_children():
            child.suspend()

    outcome = outcome_of(tiny_job(folder, rounds=ENDLESS), timeout_seconds=5.0, on_progress=stop_child)
    assert isinstance(outcome, CaseFailure)
    assert (outcome.reason, outcome.detail) == (CaseFailureReason.TIMED_OUT, "ended after 5 s")


def test_a_case_that_needs_more_than_it_may_is_not_started(folder: Path) -> None:
    failure = failure_of(tiny_job(folder, LLAMA_1B, memory_limit_bytes=100_000_000))
    assert failure.reason is CaseFailureReason.MEMORY_GATE
    assert failure.detail == "needs about 0.3 GiB, 0.1 GiB may be used"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a child here")
def test_a_case_that_turns_out_to_need_more_than_it_may_runs_out_of_memory(tmp_path: Path) -> None:
    """What the gate does not foresee, the limit stops before the system suffers; here the gate was not asked."""
    wide = replace(TINY, ffn=8192)
    long = replace(LENGTHS, decoder_prompt_tokens=(8, 16384), max_context_tokens=32768)
    job = tiny_job(tmp_path, tiny_case(wide), lengths=long, memory_limit_bytes=400_000_000)
    with Synthesiser() as synthesiser, child_process.ChildProcess(child_process.MEASURE) as child:
        assert isinstance(synthesiser.make(job, TIMEOUT_SECONDS), Synthesised)
        outcome = child.ask_job(job, TIMEOUT_SECONDS)
        if isinstance(outcome, Ready):
            outcome = child.ask("0", TIMEOUT_SECONDS)
    assert isinstance(outcome, Failed)
    assert outcome.reason is CaseFailureReason.OUT_OF_MEMORY


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a child here")
@pytest.mark.parametrize(
    "suite_case",
    load_suite("standard").cases_on(Processor.CPU),
    ids=lambda case: f"{case.architecture.name} {case.scheme}{' anchor' if case.anchor else ''}",
)
def test_a_case_that_just_passes_the_gate_really_runs_in_that_memory(suite_case: SuiteCase, folder: Path) -> None:
    case = replace(
        tiny_case(suite_case.architecture, suite_case.scheme, threads=2),
        probe_layers=suite_case.probe_layers,
        short_probe_layers=suite_case.short_probe_layers,
        head_columns=suite_case.head_columns,
    )
    job = tiny_job(
        folder,
        case,
        lengths=load_suite("standard").lengths,
        rounds=replace(ROUNDS, least_count=1, most_count=1),
        layer_probe=not suite_case.anchor,
        full_model_loads=int(suite_case.anchor),
    )
    assert measured(replace(job, memory_limit_bytes=needed_memory_bytes(job)))


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
    assert failure.detail == "the models cannot be written or read: File too large"


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
def test_a_child_that_says_something_else_is_a_crash(
    text: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries and drivers may print to the child's standard output, in any encoding."""
    code = f"import sys; sys.stdin.readline(); sys.stdout.buffer.write(b'{text}\\n'); sys.stdout.flush()"
    (tmp_path / "babbling_child.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(runner, "MEASURE", "babbling_child")
    failure = failure_of(tiny_job(folder))
    assert (failure.reason, failure.detail) == (
        CaseFailureReason.CRASHED,
        "the child wrote something that is not an answer",
    )


def test_a_child_that_answers_something_else_than_was_asked_is_a_crash(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """if True:
        import sys
        sys.stdin.readline()
        print('{"kind": "Measured", "measurements": []}', flush=True)
        sys.stdin.readline()
    """
    (tmp_path / "hasty_child.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(runner, "MEASURE", "hasty_child")
    failure = failure_of(tiny_job(folder))
    assert (failure.reason, failure.detail) == (
        CaseFailureReason.CRASHED,
        "the child answered Measured out of turn",
    )


# Round by round.


def test_a_round_is_asked_for_and_answered(folder: Path) -> None:
    with Synthesiser() as synthesiser, open_case(tiny_job(folder), synthesiser, TIMEOUT_SECONDS) as case:
        assert isinstance(case, OpenCase), case
        assert (case.measurements, case.progress.round_count) == ((), 0)
        for number in range(5):
            assert case.run_round() is None
            assert case.progress.round_count == number + 1
            decode = case.measurements[0]
            assert {s.round for s in decode.series} == set(range(number + 1))
            long_prompt = case.measurements[-1]
            assert {s.round for s in long_prompt.series} == {0}


def test_the_files_of_a_case_are_gone_once_it_is_loaded(folder: Path) -> None:
    with Synthesiser() as synthesiser, open_case(tiny_job(folder), synthesiser, TIMEOUT_SECONDS) as case:
        assert isinstance(case, OpenCase), case
        assert list(folder.iterdir()) == []
        assert case.run_round() is None


def test_cases_stay_open_side_by_side(folder: Path) -> None:
    with (
        Synthesiser() as synthesiser,
        open_case(tiny_job(folder), synthesiser, TIMEOUT_SECONDS) as one,
        open_case(tiny_job(folder, tiny_case(TINY_ENCODER)), synthesiser, TIMEOUT_SECONDS) as other,
    ):
        assert isinstance(one, OpenCase)
        assert isinstance(other, OpenCase)
        assert len(case_children()) == 2
        assert len(synthesisers()) == 1
        for case in (one, other, one, other):
            assert case.run_round() is None
        assert [case.progress.round_count for case in (one, other)] == [2, 2]


def test_a_case_that_fails_in_a_later_round_says_how(folder: Path) -> None:
    with Synthesiser() as synthesiser, open_case(tiny_job(folder), synthesiser, TIMEOUT_SECONDS) as case:
        assert isinstance(case, OpenCase), case
        assert case.run_round() is None
        (child,) = case_children()
        child.kill()
        failure = case.run_round()
        assert failure is not None
        assert failure.reason is CaseFailureReason.CRASHED
        assert without_hashes(failure.case) == tiny_case()


# The process that makes models.


def test_a_synthesiser_that_dies_fails_one_case_and_is_started_anew_for_the_next(folder: Path) -> None:
    with Synthesiser() as synthesiser:

        def outcome() -> OpenCase | CaseFailure:
            with open_case(tiny_job(folder), synthesiser, TIMEOUT_SECONDS) as case:
                return case

        assert isinstance(outcome(), OpenCase)
        (first,) = synthesisers()
        first.kill()
        wait_until(lambda: is_gone(first), "the synthesiser ends")
        failure = outcome()
        assert isinstance(failure, CaseFailure)
        assert failure.reason is CaseFailureReason.CRASHED
        assert "9 (SIGKILL)" in failure.detail
        assert isinstance(outcome(), OpenCase)
        (second,) = synthesisers()
        assert second.pid != first.pid


def test_a_synthesiser_that_hangs_is_ended_and_started_anew(folder: Path) -> None:
    with Synthesiser() as synthesiser:
        with open_case(tiny_job(folder), synthesiser, TIMEOUT_SECONDS) as case:
            assert isinstance(case, OpenCase)
        (first,) = synthesisers()
        first.suspend()
        with open_case(tiny_job(folder), synthesiser, 1.0) as failed:
            assert isinstance(failed, CaseFailure)
            assert (failed.reason, failed.detail) == (CaseFailureReason.TIMED_OUT, "ended after 1 s")
        assert is_gone(first)
        with open_case(tiny_job(folder), synthesiser, TIMEOUT_SECONDS) as case:
            assert isinstance(case, OpenCase)


def test_a_synthesiser_that_cannot_make_one_case_makes_the_next(folder: Path) -> None:
    job = tiny_job(folder)
    with Synthesiser() as synthesiser:
        wrong = replace(job, weights=replace(job.weights, block_sha256="ab" * 32))
        with open_case(wrong, synthesiser, TIMEOUT_SECONDS) as failed:
            assert isinstance(failed, CaseFailure)
        with open_case(job, synthesiser, TIMEOUT_SECONDS) as case:
            assert isinstance(case, OpenCase)


def test_a_byte_that_changed_before_it_was_loaded_is_a_mismatch_of_the_weights(folder: Path) -> None:
    with Synthesiser() as synthesiser, child_process.ChildProcess(child_process.MEASURE) as child:
        job = replace(tiny_job(folder), folder=folder / "case")
        job.folder.mkdir()
        assert isinstance(synthesiser.make(job, TIMEOUT_SECONDS), Synthesised)
        data = (job.folder / GRAPH_FILES[SeriesPart.HEAD]).with_suffix(".data")
        stored = bytearray(data.read_bytes())
        stored[-1] ^= 1
        data.write_bytes(stored)
        answer = child.ask_job(job, TIMEOUT_SECONDS)
        for path in job.folder.iterdir():
            path.unlink()
        job.folder.rmdir()
    assert isinstance(answer, Failed)
    assert answer.reason is CaseFailureReason.WEIGHTS_MISMATCH
    assert "head" in answer.detail
    assert str(folder) not in answer.detail


# Ctrl-C, and the end of the parent.


def test_an_interrupt_ends_the_children_and_clears_their_folder(folder: Path) -> None:
    def interrupt(_share: float) -> None:
        assert len(case_children()) == 1
        assert len(synthesisers()) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcome_of(tiny_job(folder, rounds=ENDLESS), on_progress=interrupt)


def test_an_interrupt_while_the_children_are_started_ends_them_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between the birth of a child and its first answer; a signal does not wait for a better one."""

    def interrupted(job: Job) -> str:
        assert job.case == tiny_case()
        wait_until(lambda: len(case_children() + synthesisers()) == 2, "the children have been born")
        raise KeyboardInterrupt

    monkeypatch.setattr(child_process, "encode_job", interrupted)
    with pytest.raises(KeyboardInterrupt):
        outcome_of(tiny_job(folder))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that a process can send to itself alone")
def test_an_interrupt_while_an_answer_is_awaited_leaves_no_timer(folder: Path) -> None:
    threads = threading.active_count()

    def interrupt_later(_share: float) -> None:
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        for child in case_children():
            child.suspend()

    with pytest.raises(KeyboardInterrupt):
        outcome_of(tiny_job(folder, rounds=ENDLESS), on_progress=interrupt_later)
    wait_until(lambda: threading.active_count() == threads, "the timer has ended")


def test_children_whose_parent_was_killed_end_by_themselves(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, CASE_PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(encode_job(tiny_job(tmp_path, rounds=ENDLESS)) + "\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "under way\n"
        family = psutil.Process(parent.pid)
        children = case_children(family) + synthesisers(family)
        assert len(children) == 2
        parent.kill()
        parent.wait(timeout=PATIENCE_SECONDS)
        wait_until(lambda: all(map(is_gone, children)), "the children of a killed agent end")


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


# The memory gate.


def gated(case: Case, *, layer_probe: bool = True, full_model_loads: int = 0) -> int:
    return needed_memory_bytes(tiny_job(Path(), case, layer_probe=layer_probe, full_model_loads=full_model_loads))


def test_the_memory_gate_counts_packed_weights_caches_activations_of_every_part_and_the_runtime() -> None:
    weights = (3 + 1) * (2048 * 3072 + 2048 * 2048 + 3 * 2048 * 8192) + 2048 * 49_920
    cache = 2 * (3 + 1) * 8 * 64 * 64 * 4
    activations = 2 * activation_bytes(LLAMA_1B.architecture, 48)  # the head sees one token
    assert gated(LLAMA_1B) == round(weights * 0.75) + cache + activations + RUNTIME_BYTES


def test_full_models_beside_a_layer_probe_need_their_memory_on_top() -> None:
    probe, one, two = (gated(LLAMA_1B, full_model_loads=loads) for loads in range(3))
    assert one - probe == two - one
    assert one - probe > LLAMA_1B.architecture.parameter_count * 0.75


def test_an_anchor_needs_its_own_memory_alone() -> None:
    anchor = gated(LLAMA_1B, layer_probe=False, full_model_loads=1)
    assert gated(LLAMA_1B) < anchor < gated(LLAMA_1B, full_model_loads=1)


def test_an_encoder_has_no_head_to_count() -> None:
    encoder = tiny_case(architecture("DistilBERT"), Scheme.INT8_DYNAMIC)
    words = replace(encoder, architecture=replace(encoder.architecture, vocab=10**9))
    assert gated(encoder) == gated(words)
    assert gated(encoder, layer_probe=False, full_model_loads=1) == gated(encoder)
