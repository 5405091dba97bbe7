"""Can a device run a model? One model, judged from what a run of the device says and from what is free on it now."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.requirement import Requirement, Setting, requirement
from weighin_analysis.answers.speed import decode_depth, deepened, has_few_bits, stand_in, widened
from weighin_analysis.card import Basis, Estimate, Verdict
from weighin_analysis.catalog import size_class_of, size_classes
from weighin_analysis.errors import EstimateError
from weighin_analysis.evidence import Evidence, Group, Subject, model_times
from weighin_analysis.footprint import bytes_read_per_token
from weighin_analysis.judge import Needs, timed_row
from weighin_analysis.memory.runtimes import Pool, Runtime
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import DownloadSize, Format

# What runs a format on the processor and on a GPU. OpenVINO computes on GPUs of one maker, LiteRT's memory on a GPU is
# not known, and what runs RKLLM is an NPU.
_ON_CPU = {
    Format.ONNX: Runtime.ONNXRUNTIME,
    Format.GGUF: Runtime.LLAMA_CPP,
    Format.LITERT: Runtime.LITERT,
    Format.OPENVINO: Runtime.OPENVINO,
}
_ON_GPU = {
    Format.ONNX: Runtime.ONNXRUNTIME_GPU,
    Format.GGUF: Runtime.LLAMA_CPP_GPU,
    Format.MLC: Runtime.WEBLLM,
}
# What leads, first to last: a yes, a known no, and then None, which is no answer.
_ORDER = (Verdict.COMFORTABLE, Verdict.USABLE, Verdict.TOO_SLOW, Verdict.DOES_NOT_FIT, None)


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

    ``verdict`` is None where the memory would do and the run says nothing of the speed, and then ``basis`` is, too; and
    where the model has no context of such a length (``beyond_context``), which no device changes.
    ``measured_scheme`` is the scheme of ONNX Runtime whose speed is told, None where none is. ``memory_free_bytes`` is
    free now in the pool that the execution provider uses, None where the device does not tell. Decode is behind
    ``decode_context_depth`` tokens, None where there is no decode.
    """

    requirement: Requirement
    execution_provider: str
    threads: int
    memory_free_bytes: int | None
    measured_scheme: Scheme | None
    decode_context_depth: int | None
    decode_tokens_per_second: Estimate | None
    prefill_tokens_per_second: Estimate | None
    time_to_first_token_seconds: Estimate | None
    latency_seconds: Estimate | None
    verdict: Verdict | None
    reasons: tuple[str, ...]
    basis: Basis | None
    counts: bool
    beyond_context: bool = False

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
        rows = [_row(question, group, evidence) for group in _nearest_groups(question.candidate, groups)]
    deepest = max((row.decode_context_depth or 0 for row in rows), default=0)
    return tuple(sorted(rows, key=lambda row: _badness(row, deepest)))


def better(verdict: Verdict | None, other: Verdict | None) -> bool:
    """Return whether a verdict is a better answer than another."""
    return _ORDER.index(verdict) < _ORDER.index(other)


def _badness(row: CheckRow, deepest: int) -> tuple[bool, bool, bool, int, float]:
    """Return what sorts rows; a speed that holds behind fewer tokens than another's is a weaker answer than that."""
    decode, depth = row.decode_tokens_per_second, row.decode_context_depth
    shallow = depth is not None and depth < deepest
    return not row.counts, row.verdict is None, shallow, _ORDER.index(row.verdict), -decode.value if decode else 0.0


def _nearest_groups(candidate: Candidate, groups: Collection[Group]) -> list[Group]:
    """Return for every execution provider the group whose speed is nearest; any of its groups where none is near.

    An execution provider that runs no such file is left out, unless there is no other.
    """
    found = []
    for provider in dict.fromkeys(group[0] for group in groups):
        own = [group for group in groups if group[0] == provider]
        near = stand_in(candidate.format, candidate.scheme, [group[1] for group in own])
        found.append(next((group for group in own if near and group[1] is near.scheme), own[0]))
    return [group for group in found if runtime_on(group[0], candidate.format)] or found[:1]


def runtime_on(provider: str, form: Format) -> Runtime | None:
    """Return what runs a format on the device of an execution provider, None where nothing does."""
    return (_ON_CPU if provider == "cpu" else _ON_GPU).get(form)


def _row(question: Question, group: Group, evidence: Evidence) -> CheckRow:
    provider, _, threads = group
    candidate, facts, limits = question.candidate, evidence.facts, evidence.limits
    encoder = candidate.entry.kind is ModelKind.ENCODER
    runtime = runtime_on(provider, candidate.format)
    setting = Setting(
        context_tokens=question.context_tokens,
        prompt_tokens=limits.encoder_tokens if encoder else limits.prompt_tokens,
        runtime=runtime,
    )
    needed = requirement(candidate, setting, file_size=question.file_size)
    if runtime:
        free = facts.memory_for(provider)
    else:  # a runtime that was not measured here: the memory that it would take
        free = facts.memory_in(needed.runtime.pool if needed.runtime else Pool.MAIN)
    too_long = _beyond_context(candidate.entry, question.context_tokens)
    lacking = needed.memory_bytes is not None and free is not None and needed.memory_bytes > limits.memory_share * free
    untimed = CheckRow(
        requirement=needed,
        execution_provider=provider,
        threads=threads,
        memory_free_bytes=free,
        measured_scheme=None,
        decode_context_depth=None,
        decode_tokens_per_second=None,
        prefill_tokens_per_second=None,
        time_to_first_token_seconds=None,
        latency_seconds=None,
        verdict=Verdict.DOES_NOT_FIT if lacking and not too_long else None,
        reasons=(*too_long, *needed.missing),
        basis=None,
        counts=provider not in facts.software_providers,
        beyond_context=bool(too_long),
    )
    if too_long:
        return untimed
    try:
        return _timed(untimed, question, group, evidence)
    except EstimateError as error:
        return replace(untimed, reasons=(*untimed.reasons, str(error)))


def _beyond_context(entry: ModelEntry, context_tokens: int) -> tuple[str, ...]:
    """Return why a model cannot have so many tokens of context, and what to do; empty where it can."""
    most = entry.context_tokens
    if most is None or context_tokens <= most:
        return ()
    return (f"made for a context of at most {most:,} tokens: ask for --context {most} or less",)


def _timed(untimed: CheckRow, question: Question, group: Group, evidence: Evidence) -> CheckRow:
    """Return a row with its speed; EstimateError, whose text is for a person, where the run says nothing of it."""
    needed, limits, (provider, measured, threads) = untimed.requirement, evidence.limits, group
    candidate, entry = needed.candidate, needed.candidate.entry
    if runtime_on(provider, candidate.format) is None:
        raise EstimateError(_not_run_here(candidate.format, provider))
    if entry.shape is None:
        raise EstimateError(f"no speed: no dense transformer whose shape is published describes {entry.name}")
    near = stand_in(candidate.format, candidate.scheme, [one[1] for one in evidence.groups if one[0] == provider])
    if near is None or near.scheme is not measured:
        why = f"no scheme near {candidate.scheme} was measured on {provider}"
        few = f"{candidate.scheme} takes longer to unpack than its size says, and was not measured; ask for 4 bits"
        raise EstimateError(f"no speed: {few if has_few_bits(candidate.scheme) else why}")
    if needed.memory_bytes is None or needed.download_bytes is None:
        raise EstimateError("not judged without its memory")
    shape = replace(entry.shape.active_architecture, name=entry.name)
    subject = Subject(shape, provider, measured, threads)
    times = model_times(subject, evidence)
    depth, reference = decode_depth(question.context_tokens, limits), limits.decode_context_depth
    deep = deepened(times, subject, depth, evidence)
    timed = timed_row(
        subject,
        widened(deep or times, near.sd),
        Needs(
            size_class=size_class_name(entry),
            memory_bytes=needed.memory_bytes,
            download_bytes=needed.download_bytes,
            bytes_read_per_token=bytes_read_per_token(shape, measured),
        ),
        evidence,
    )
    notes = []
    if times.decode and depth != reference:
        holds = f"decode behind {depth:,} tokens is extrapolated" if deep else f"decode holds behind {reference} tokens"
        notes.append(f"{holds}; the first token is that of a prompt of {limits.prompt_tokens}")
    if near.sd:
        runtime = "" if candidate.format is Format.ONNX else f" {needed.runtime} may be faster or slower"
        notes.append(f"the speed is ONNX Runtime's with {measured}, the nearest scheme that was measured;{runtime}")
    return replace(
        untimed,
        threads=timed.threads,
        measured_scheme=measured,
        decode_context_depth=None if times.decode is None else depth if deep else reference,
        decode_tokens_per_second=timed.decode_tokens_per_second,
        prefill_tokens_per_second=timed.prefill_tokens_per_second,
        time_to_first_token_seconds=timed.time_to_first_token_seconds,
        latency_seconds=timed.latency_seconds,
        verdict=timed.verdict,
        reasons=(*untimed.reasons, *timed.reasons, *notes),
        basis=timed.basis,
    )


def _not_run_here(form: Format, provider: str) -> str:
    """Return why a run on an execution provider says nothing of a file's speed."""
    if form in _ON_GPU:
        return f"no speed: {form} runs on a GPU, and the run measured none; run `weighin-agent run --ep all`"
    if form in _ON_CPU:
        return f"no speed: {form} is judged on the processor alone, not on {provider}; ask for --ep cpu"
    return f"no speed: nothing that weighin measures runs {form}; ask for another --format"


def size_class_name(entry: ModelEntry) -> str:
    """Return the size class of a model; a model whose size is undisclosed is of those that no device runs."""
    return size_classes()[-1].name if entry.parameters is None else size_class_of(entry.parameters).name
