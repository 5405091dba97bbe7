"""Cases so small that their child processes take a quarter of a second, and what to know about those processes."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from weighin_agent.bench.child_process import MEASURE, SYNTHESISE
from weighin_agent.bench.job import Job
from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.measurement import Case, ClockKind
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Lengths, Rounds, Suite, load_suite, suite_case

PATIENCE_SECONDS = 120.0  # for what takes seconds, on a machine that others use, too

TINY = Architecture(
    name="Tiny",
    kind=ArchitectureKind.DECODER,
    layers=2,
    hidden=64,
    ffn=128,
    heads=2,
    kv_heads=1,
    head_dim=32,
    vocab=512,
    tied_embeddings=True,
)
TINY_ENCODER = Architecture(
    name="TinyEncoder",
    kind=ArchitectureKind.ENCODER,
    layers=2,
    hidden=64,
    ffn=128,
    heads=2,
    kv_heads=2,
    head_dim=32,
    vocab=512,
    tied_embeddings=True,
    feed_forward=FeedForward.GELU,
)
QUICK = load_suite("quick")
LENGTHS = replace(
    QUICK.lengths,
    decode_context_depths=(4, 40),
    decoder_prompt_tokens=(8, 16, 48),
    encoder_prompt_tokens=(8, 16),
    max_context_tokens=64,
)
# Never known well enough: always the most rounds.
ROUNDS = replace(QUICK.rounds, least_count=2, most_count=3, target_sd=0.0, decode_samples=2, pause_seconds=0.0)
# Minutes of work: such a child is ended by the test.
ENDLESS = replace(ROUNDS, most_count=1_000_000, pause_seconds=0.001)


def tiny_case(shape: Architecture = TINY, scheme: Scheme = Scheme.INT4_BLOCK32, *, threads: int = 1) -> Case:
    """All layers of a tiny shape, and half of its head."""
    decoder = shape.kind is ArchitectureKind.DECODER
    return Case(
        architecture=shape,
        scheme=scheme,
        execution_provider="cpu",
        threads=threads,
        probe_layers=shape.layers,
        head_columns=shape.vocab // 2 if decoder else 0,
    )


def tiny_job(
    folder: Path,
    case: Case | None = None,
    *,
    lengths: Lengths = LENGTHS,
    rounds: Rounds = ROUNDS,
    layer_probe: bool = True,
    full_model_loads: int = 0,
    memory_limit_bytes: int | None = None,
) -> Job:
    """A job for the real child process."""
    return Job(
        case=case or tiny_case(),
        folder=folder,
        weights=QUICK.weights,
        lengths=lengths,
        rounds=rounds,
        layer_probe=layer_probe,
        full_model_loads=full_model_loads,
        memory_limit_bytes=memory_limit_bytes,
        clock=ClockKind.THREAD_CPU if (case or tiny_case()).threads == 1 else ClockKind.WALL,
    )


def tiny_suite(rounds: Rounds = ROUNDS) -> Suite:
    """The quick suite with three tiny models in the place of its own."""
    planned = [(TINY_ENCODER, Scheme.INT8_DYNAMIC), (TINY, Scheme.INT4_BLOCK32), (TINY, Scheme.INT8_BLOCK32)]
    return replace(
        QUICK,
        name="tiny",
        version=1,
        time_limit_seconds=600.0,  # its rounds are few: the limit is only for a machine that hangs
        # Among them are those of the reference workload: a line through times this short need not be positive there.
        lengths=replace(
            QUICK.lengths,
            decode_context_depths=(16, 512),
            decoder_prompt_tokens=(8, 512),
            encoder_prompt_tokens=(8, 128),
        ),
        rounds=rounds,
        cases=tuple(suite_case(shape, scheme, QUICK.probe) for shape, scheme in planned),
    )


def case_children(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The living child processes that measure a case for ``process``, this one unless told; the oldest first."""
    return _children(process or psutil.Process(), MEASURE)


def synthesisers(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The living child processes that make models for ``process``, this one unless told."""
    return _children(process or psutil.Process(), SYNTHESISE)


def _children(process: psutil.Process, module: str) -> list[psutil.Process]:
    found = []
    for child in process.children(recursive=True):
        try:
            if module in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append((child.create_time(), child.pid, child))
        except psutil.NoSuchProcess:
            continue
    return [child for _time, _pid, child in sorted(found, key=lambda one: one[:2])]


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as the condition holds; fail after a generous deadline."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:g} s in vain: {what}"
        time.sleep(0.01)
