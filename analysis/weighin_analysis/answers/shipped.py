"""What a model's own file weighs, also one that nobody made yet: that of a reshaped model."""

from dataclasses import replace

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.models.tensors import tensors
from weighin_analysis.sizes.artefact import DownloadSize, SizeBasis
from weighin_analysis.sizes.download import counted_size, download_size
from weighin_analysis.sizes.parts import split


def shipped_size(candidate: Candidate) -> DownloadSize:
    """Return the bytes to download, adapters apart; SizeError where they cannot be told.

    Those of a reshaped model differ from their count as the published file of the whole model does from its own.
    """
    size = download_size(candidate.entry, candidate.format, candidate.scheme)
    whole = catalogue().get(candidate.entry.reshaped_from or "")
    if whole is None:
        return size
    known = download_size(whole, candidate.format, candidate.scheme)
    if known.basis is not SizeBasis.PUBLISHED:
        return size
    return reshaped_size(known, replace(candidate, entry=whole), candidate)


def reshaped_size(known: DownloadSize, before: Candidate, after: Candidate) -> DownloadSize:
    """Return what ``after`` weighs, where ``known`` is what ``before`` weighs: its count in the same proportion.

    Else what the count of a file leaves out would look like an effect of the technique. ``low`` to ``high`` reaches to
    the plain count: nobody knows whether the difference shrinks with the model. SizeError where one cannot be counted.
    """
    whole = counted_size(before.entry, before.format, before.scheme)
    left = counted_size(after.entry, after.format, after.scheme)
    share = left.bytes / whole.bytes
    size = round(known.bytes * share)
    parts = {
        name: round(count * known.parts[name] / whole.parts[name]) if whole.parts[name] else count
        for name, count in left.parts.items()
    }
    parts["other"] = size - sum(count for name, count in parts.items() if name != "other")
    difference = f"{known.bytes / whole.bytes - 1:+.1%}"
    return replace(
        left,
        bytes=size,
        low=min(round(known.low * share), left.low),
        high=max(round(known.high * share), left.high),
        basis=SizeBasis.FITTED,
        parts=parts,
        notes=(*left.notes, f"Counted, and {difference} as the file of the model that it is made from."),
    )


def with_parts(file: DownloadSize, candidate: Candidate, counted: DownloadSize | None) -> DownloadSize:
    """Return the size of a file, whose header names no parts, split as it is counted, or else by the weights.

    As it is where the model's shape is not known, or the parts are.
    """
    if candidate.entry.shape is None or file.parts["token_embedding"] or file.parts["head"]:
        return file
    shares = counted.parts if counted else split((one, one.weight_count) for one in tensors(candidate.entry.shape))
    scale = file.bytes / sum(shares.values())
    parts = {name: round(share * scale) for name, share in shares.items() if name != "other"}
    return replace(file, parts=parts | {"other": file.bytes - sum(parts.values())})
