"""Can a device run a model? One model, judged from what a run of the device says and from what is free on it now."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.requirement import Requirement, Setting, requirement
from weighin_analysis.card import Basis, CardRow, Estimate, Verdict
from weighin_analysis.catalog import size_class_of, size_classes
from weighin_analysis.errors import EstimateError
from weighin_analysis.evidence import Evidence, Group, Subject, model_times
from weighin_analysis.footprint import bytes_read_per_token
from weighin_analysis.judge import Needs, timed_row
from weighin_analysis.memory.runtimes import Runtime
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import DownloadSize, Format

# A scheme that was measured speaks for one whose weights have at most so many times more bits, or fewer.
_MOST_BITS_RATIO = 1.5
_BITS = {
    Scheme.FP32: 32,
    Scheme.FP16: 16,
    Scheme.INT8_DYNAMIC: 8,
    Scheme.INT8_BLOCK32: 8,
    Scheme.INT4_BLOCK32: 4,
}
# What runs a format where the execution provider is not the processor.
_ON_GPU = {Format.ONNX: Runtime.ONNXRUNTIME_GPU, Format.GGUF: Runtime.LLAMA_CPP_GPU}
# What Transformers.js calls the same kernels.
_SAME_KERNELS = {
    Scheme.INT8_DYNAMIC: ("int8", "uint8", "q8", "quantized"),
    Scheme.INT4_BLOCK32: ("q4",),
}
# From the best answer to the worst; None, not known, is better than a no.
_ORDER = (Verdict.COMFORTABLE, Verdict.USABLE, None, Verdict.TOO_SLOW, Verdict.DOES_NOT_FIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a device about a model.

    ``any_scheme`` asks for every scheme of ONNX Runtime that was measured, and not for the candidate's alone.
    ``execution_provider`` None asks for all that were measured. ``file_size`` is that of the model's own files, where
    it is known by these.
    """

    candidate: Candidate
    context_tokens: int
    any_scheme: bool = False
    execution_provider: str | None = None
    file_size: DownloadSize | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """A model in one scheme on one execution provider.

    ``verdict`` is None where the memory would do and the run says nothing of the speed; then ``basis`` is None, too.
    ``measured_scheme`` is the scheme of ONNX Runtime whose speed is told, None where none is. ``memory_free_bytes`` is
    free now in the pool that the execution provider uses, None where the device does not tell.
    """

    requirement: Requirement
    execution_provider: str
    threads: int
    memory_free_bytes: int | None
    measured_scheme: Scheme | None
    decode_tokens_per_second: Estimate | None
    prefill_tokens_per_second: Estimate | None
    time_to_first_token_seconds: Estimate | None
    latency_seconds: Estimate | None
    verdict: Verdict | None
    reasons: tuple[str, ...]
    basis: Basis | None
    counts: bool

    @property
    def runs(self) -> bool:
        """Whether the device runs it: comfortable or usable."""
        return self.verdict in {Verdict.COMFORTABLE, Verdict.USABLE}


def check(question: Question, evidence: Evidence) -> tuple[CheckRow, ...]:
    """Return what a device says of a disclosed model, the best first: a row per scheme and execution provider.

    ``evidence`` is that of a run, with facts that hold now. Empty only where nothing was measured on the execution
    provider that is asked for.
    """
    groups = [g for g in evidence.groups if question.execution_provider in {None, g[0]}]
    if question.any_scheme:
        rows = [
            _row(replace(question, candidate=replace(question.candidate, format=Format.ONNX, scheme=g[1])), g, evidence)
            for g in groups
        ]
    else:
        rows = [_row(question, group, evidence) for group in _nearest_groups(question.candidate.scheme, groups)]
    return tuple(sorted(rows, key=_badness))


def better(verdict: Verdict | None, other: Verdict | None) -> bool:
    """Return whether a verdict is a better answer than another."""
    return _ORDER.index(verdict) < _ORDER.index(other)


def _badness(row: CheckRow) -> tuple[bool, int, float]:
    decode = row.decode_tokens_per_second
    return not row.counts, _ORDER.index(row.verdict), -decode.value if decode else 0.0


def _nearest_groups(scheme: str, groups: Collection[Group]) -> list[Group]:
    """Return for every execution provider the group whose speed is nearest; any of its groups where none is near."""
    found = []
    for provider in dict.fromkeys(group[0] for group in groups):
        own = [group for group in groups if group[0] == provider]
        near = nearest_scheme(scheme, [group[1] for group in own])
        found.append(next((group for group in own if group[1] is near), own[0]))
    return found


def nearest_scheme(scheme: str, measured: Collection[Scheme]) -> Scheme | None:
    """Return the measured scheme whose speed stands for that of a scheme of any format, None where none is near.

    It is the scheme itself, else the nearest by the bits that the name states: ``Q4_K_M``, ``q4f16_1``, ``IQ3_XXS``,
    ``BF16``. Unpacking fewer bits takes no less time, so that the fewest that were measured stand for those below.
    """
    same = next((one for one in measured if scheme in {one, *_SAME_KERNELS.get(one, ())}), None)
    if same is not None:
        return same
    bits = _stated_bits(scheme)
    if bits is None or not measured:
        return None
    bits = max(bits, min(_BITS[one] for one in measured))
    ratios = {one: max(_BITS[one], bits) / min(_BITS[one], bits) for one in measured}
    nearest = min(ratios, key=lambda one: (ratios[one], one))
    return nearest if ratios[nearest] <= _MOST_BITS_RATIO else None


def _stated_bits(scheme: str) -> int | None:
    """Return the bits that a scheme's name states; in ``q0f16`` the 0 says that nothing is quantized."""
    numbers = [int(number) for number in re.findall(r"[0-9]+", scheme[:40])]
    return next((number for number in numbers if 0 < number <= 32), None)


def _row(question: Question, group: Group, evidence: Evidence) -> CheckRow:
    provider, measured, threads = group
    candidate, facts, limits = question.candidate, evidence.facts, evidence.limits
    encoder = candidate.entry.kind is ModelKind.ENCODER
    setting = Setting(
        context_tokens=question.context_tokens,
        prompt_tokens=limits.encoder_tokens if encoder else limits.prompt_tokens,
        runtime=None if provider == "cpu" else _ON_GPU.get(candidate.format),
    )
    needed = requirement(candidate, setting, file_size=question.file_size)
    free = facts.memory_for(provider)
    lacking = needed.memory_bytes is not None and free is not None and needed.memory_bytes > limits.memory_share * free
    untimed = CheckRow(
        requirement=needed,
        execution_provider=provider,
        threads=threads,
        memory_free_bytes=free,
        measured_scheme=None,
        decode_tokens_per_second=None,
        prefill_tokens_per_second=None,
        time_to_first_token_seconds=None,
        latency_seconds=None,
        verdict=Verdict.DOES_NOT_FIT if lacking else None,
        reasons=needed.missing,
        basis=None,
        counts=provider not in facts.software_providers,
    )
    try:
        timed = _timed_row(needed, group, evidence)
    except EstimateError as error:
        return replace(untimed, reasons=(*untimed.reasons, str(error)))
    stands_for = f"the speed is ONNX Runtime's with {measured}, the nearest scheme that was measured"
    return replace(
        untimed,
        threads=timed.threads,
        measured_scheme=measured,
        decode_tokens_per_second=timed.decode_tokens_per_second,
        prefill_tokens_per_second=timed.prefill_tokens_per_second,
        time_to_first_token_seconds=timed.time_to_first_token_seconds,
        latency_seconds=timed.latency_seconds,
        verdict=timed.verdict,
        reasons=(*timed.reasons, *untimed.reasons, *(() if candidate.scheme == measured else (stands_for,))),
        basis=timed.basis,
    )


def _timed_row(needed: Requirement, group: Group, evidence: Evidence) -> CardRow:
    """Return the row of a card; EstimateError, whose text is for a person, where the run says nothing of the model."""
    entry, scheme, (provider, measured, threads) = needed.candidate.entry, needed.candidate.scheme, group
    if entry.shape is None:
        raise EstimateError(f"no speed: no dense transformer whose shape is published describes {entry.name}")
    if nearest_scheme(scheme, [group[1] for group in evidence.groups if group[0] == provider]) is not measured:
        raise EstimateError(f"no speed: no scheme near {scheme} was measured on {provider}")
    if needed.memory_bytes is None or needed.download_bytes is None:
        raise EstimateError("not judged without its memory")
    shape = replace(entry.shape.active_architecture, name=entry.name)
    subject = Subject(shape, provider, measured, threads)
    return timed_row(
        subject,
        model_times(subject, evidence),
        Needs(
            size_class=size_class_name(entry),
            memory_bytes=needed.memory_bytes,
            download_bytes=needed.download_bytes,
            bytes_read_per_token=bytes_read_per_token(shape, measured),
        ),
        evidence,
    )


def size_class_name(entry: ModelEntry) -> str:
    """Return the size class of a model; a model whose size is undisclosed is of those that no device runs."""
    return size_classes()[-1].name if entry.parameters is None else size_class_of(entry.parameters).name
