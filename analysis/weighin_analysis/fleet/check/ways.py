"""The ways in which the devices of a fleet could run a model: by what was measured there, and what each way takes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.check import runtime_on
from weighin_analysis.answers.requirement import Setting, requirement
from weighin_analysis.answers.speed import stand_in
from weighin_analysis.errors import SizeError
from weighin_analysis.fleet.external.memory import Setup
from weighin_analysis.memory.runtimes import Runtime
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.scheme import Scheme
from weighin_analysis.sizes.artefact import Format
from weighin_analysis.sizes.download import scheme_of

NATIVE_RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Estimates that tell of one another: those of one runtime, execution provider and scheme.

    ``bytes_read`` are the weights that a token reads of each reference decoder that has an estimate, by its name.
    """

    runtime: str
    execution_provider: str
    scheme: str
    bytes_read: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A model in a format and scheme, with the speed that a group tells of.

    ``format`` is None where nobody knows the files of the group's runtime, ``memory_bytes`` and ``download_bytes``
    where they cannot be told; ``missing`` says why. ``log_sd`` widens ln(time) where the group ran another kernel.
    """

    group: Group
    format: Format | None
    scheme: str
    memory_bytes: int | None
    download_bytes: int | None
    log_sd: float
    missing: tuple[str, ...]


def ways(
    model: ModelEntry, candidate: Candidate | None, groups: Sequence[Group], *, context_tokens: int, prompt_tokens: int
) -> tuple[Way, ...]:
    """Return a way for every group that says something of a model; without a candidate in the group's own scheme."""
    setting = Setting(context_tokens=context_tokens, prompt_tokens=prompt_tokens)
    found: list[Way] = []
    for group in groups:
        if group.runtime == NATIVE_RUNTIME:
            beside = [Scheme(one.scheme) for one in groups if _same_provider(one, group)]
            found += _native(model, candidate, group, beside, setting)
        else:
            found += _external(model, candidate, group, setting)
    return tuple(found)


def _same_provider(one: Group, other: Group) -> bool:
    return (one.runtime, one.execution_provider) == (other.runtime, other.execution_provider)


def _native(
    model: ModelEntry, candidate: Candidate | None, group: Group, measured: Collection[Scheme], setting: Setting
) -> Iterable[Way]:
    """Yield the way of a group that the agent measured, where its scheme is the nearest to what is asked for."""
    if candidate is None:
        candidate = Candidate(entry=model, format=Format.ONNX, scheme=group.scheme)
    near = stand_in(candidate.format, candidate.scheme, measured)
    runtime = runtime_on(group.execution_provider, candidate.format)
    if near is not None and near.scheme == group.scheme and runtime is not None:
        yield _way(candidate, group, replace(setting, runtime=runtime), near.sd)


def _external(model: ModelEntry, candidate: Candidate | None, group: Group, setting: Setting) -> Iterable[Way]:
    """Yield the way of a group that somebody published, where it is of the very scheme that is asked for."""
    runtime = Setup(group.runtime, group.execution_provider, group.scheme).known_runtime
    if runtime is None and candidate is None:
        yield Way(
            group=group,
            format=None,
            scheme=group.scheme,
            memory_bytes=None,
            download_bytes=None,
            log_sd=0.0,
            missing=("what a model takes in this runtime is not known: its weights and KV cache were counted",),
        )
    elif runtime is not None and (candidate is None or _is_scheme(candidate, runtime, group.scheme)):
        own = Candidate(entry=model, format=runtime.file_format, scheme=group.scheme)
        yield _way(own, group, replace(setting, runtime=runtime), 0.0)


def _is_scheme(candidate: Candidate, runtime: Runtime, scheme: str) -> bool:
    if candidate.format is not runtime.file_format:
        return False
    try:
        return scheme_of(candidate.format, scheme) == candidate.scheme
    except SizeError:
        return False


def _way(candidate: Candidate, group: Group, setting: Setting, log_sd: float) -> Way:
    needed = requirement(candidate, setting)
    return Way(
        group=group,
        format=candidate.format,
        scheme=candidate.scheme,
        memory_bytes=needed.memory_bytes,
        download_bytes=needed.download_bytes,
        log_sd=log_sd,
        missing=needed.missing,
    )
