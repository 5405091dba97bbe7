"""What a shrinking technique changes of a model, and what it does not: download, memory and work, never quality."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.requirement import Requirement, Setting, requirement
from weighin_analysis.answers.shipped import reshaped_size
from weighin_analysis.errors import SizeError, WhatIfError
from weighin_analysis.models.catalogue import entry as catalogue_entry
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.numbers import gb, gib, number
from weighin_analysis.shrinking.adapter import adapter
from weighin_analysis.shrinking.reasons import Reasons, reasons
from weighin_analysis.shrinking.reshape import reshaped, shape_of
from weighin_analysis.shrinking.what_if import Distill, Lora, Prune, Quantize, WhatIf
from weighin_analysis.shrinking.work import Work, work
from weighin_analysis.sizes.artefact import DownloadSize

QUALITY = "quality is not judged here: whether the answers are still good enough, only your own task can tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfResult:
    """A candidate before and after a what-if, what both take, and why each figure changes or stays.

    The work of a token is None where the model's shape is not known in full. Both downloads are known.
    """

    what_if: WhatIf
    before: Requirement
    after: Requirement
    work_before: Work | None
    work_after: Work | None
    reasons: Reasons
    quality: str = QUALITY


def apply_all(
    what_ifs: Iterable[WhatIf], candidate: Candidate, setting: Setting, *, file_size: DownloadSize | None = None
) -> tuple[WhatIfResult, ...]:
    """Return a result for each what-if, which is applied to what the one before it left.

    ``file_size`` is that of the candidate's own files, where they are here. Raises WhatIfError where a model cannot
    undergo a technique, SizeError where a size cannot be told, CatalogError where a student is not in the catalogue.
    """
    results: list[WhatIfResult] = []
    before = requirement(candidate, setting, file_size=file_size)
    for what_if in what_ifs:
        changed = _changed(what_if, before.candidate)
        file_size = file_size and _own_size(before, changed)
        after = requirement(changed, setting, file_size=file_size)
        results.append(_result(what_if, before, after))
        before = after
    return tuple(results)


def told(result: WhatIfResult) -> tuple[str, ...]:
    """Return a result in lines for a person: each cost before and after, and why; the last on quality."""
    before, after, why = result.before, result.after, result.reasons
    work = _work_told(result.work_before, result.work_after)
    return (
        f"download {_change_told(before.download_bytes, after.download_bytes, gb)}. {why.download}",
        f"memory {_change_told(before.memory_bytes, after.memory_bytes, gib)}. {why.memory}",
        f"work of a token {work}. {why.speed}",
        f"kernel {'exists' if why.kernel_exists else 'missing'}. {why.kernel}",
        result.quality,
    )


def _work_told(before: Work | None, after: Work | None) -> str:
    if before is None or after is None:
        return "not known"
    read = _change_told(before.weight_bytes_read, after.weight_bytes_read, gb)
    return f"reads {read}; multiply-adds {_change_told(before.multiply_adds, after.multiply_adds, _amount)}"


def _amount(count: float) -> str:
    return f"{number(count / 1e9)} billion" if count >= 1e9 else f"{number(count / 1e6)} million"


def _change_told(before: int | None, after: int | None, amount: Callable[[float], str]) -> str:
    if before is None or after is None:
        return "not known"
    if before == after:
        return f"{amount(before)}, unchanged"
    if amount(before) != amount(after):
        return f"{amount(before)} -> {amount(after)}"
    # Too little to be seen in the rounded whole, as an adapter is.
    return f"{amount(before)} {'+' if after > before else '-'} {amount(abs(after - before))}"


def _result(what_if: WhatIf, before: Requirement, after: Requirement) -> WhatIfResult:
    if before.download is None or after.download is None:
        raise SizeError((before if before.download is None else after).missing[0])
    return WhatIfResult(
        what_if=what_if,
        before=before,
        after=after,
        work_before=_work(before.candidate, before.download),
        work_after=_work(after.candidate, after.download),
        reasons=reasons(what_if, before.candidate.entry, before.download),
    )


def _changed(what_if: WhatIf, candidate: Candidate) -> Candidate:
    match what_if:
        case Quantize(scheme=scheme):
            return replace(candidate, scheme=scheme)
        case Prune():
            shape_of(candidate.entry)  # whose matrices the zeros lie in
            return candidate
        case Lora():
            added = adapter(what_if, candidate.entry.name, shape_of(candidate.entry))
            return candidate if what_if.merged else replace(candidate, adapters=(*candidate.adapters, added))
    if candidate.adapters:
        raise WhatIfError("an adapter fits the shape that it was trained for: give lora after what changes the shape")
    if isinstance(what_if, Distill):
        return replace(candidate, entry=_student(what_if.student, candidate.entry))
    return replace(candidate, entry=reshaped(what_if, candidate.entry))


def _own_size(before: Requirement, changed: Candidate) -> DownloadSize | None:
    """Return what the model's own files weigh after a what-if, None where others take their place."""
    same = replace(before.candidate, adapters=changed.adapters)
    if before.download is None or changed == same:
        return before.download
    if changed.scheme != same.scheme or changed.entry.reshaped_from is None:
        return None
    return reshaped_size(before.download, same, changed)


def _student(name: str, teacher: ModelEntry) -> ModelEntry:
    student = catalogue_entry(name)
    if student.teacher not in {teacher.name, *teacher.aliases}:
        known = f"was distilled from {student.teacher}" if student.teacher else "has no teacher in the catalogue"
        raise WhatIfError(f"{student.name} is no student of {teacher.name}: it {known}")
    return student


def _work(candidate: Candidate, size: DownloadSize) -> Work | None:
    if candidate.entry.shape is None:
        return None
    base = work(candidate.entry.shape, size)
    return Work(
        multiply_adds=base.multiply_adds + sum(one.active_parameters for one in candidate.adapters),
        weight_bytes_read=base.weight_bytes_read
        + sum(one.active_parameters * one.bytes_per_weight for one in candidate.adapters),
    )
