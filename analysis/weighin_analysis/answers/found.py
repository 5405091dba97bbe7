"""What a person means by a model: one of the catalogue, one that nobody knows, or files on this device."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.requirement import Setting
from weighin_analysis.answers.shrunk import WhatIfResult, apply_all
from weighin_analysis.errors import CatalogError, QuestionError, SizeError
from weighin_analysis.files import inspect
from weighin_analysis.files.model_file import ModelFile
from weighin_analysis.limits import current_limits
from weighin_analysis.memory.runtimes import Runtime
from weighin_analysis.models.catalogue import catalogue
from weighin_analysis.models.entry import ModelEntry, ModelKind
from weighin_analysis.naming.identify import identify
from weighin_analysis.scheme import Scheme
from weighin_analysis.shrinking.what_if import parse_what_if
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.download import scheme_of

# The order in which a scheme's name is looked for where no format is named: names of GGUF, MLC and ONNX differ.
_FORMATS = (
    Format.ONNX,
    Format.GGUF,
    Format.MLC,
    Format.LITERT,
    Format.RKLLM,
    Format.OPENVINO,
    Format.SAFETENSORS,
)
# What publishers offer most, of decoders and of encoders.
_USUAL = {
    Format.ONNX: ("q4", "int8"),
    Format.GGUF: ("Q4_K_M", "Q8_0"),
    Format.MLC: ("q4f16_1", "q0f16"),
    Format.LITERT: ("int4", "int8"),
    Format.RKLLM: ("w4a16", "w8a8"),
    Format.OPENVINO: ("INT4-MIXED", "INT8-CW"),
    Format.SAFETENSORS: ("BF16", "F32"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model as it was asked for. ``reason`` is a sentence that says how it is known, or why it is not.

    ``entry`` is None when it is not known; then ``parameters`` are what the name states, if anything. ``published``:
    whether its weights can be had. ``format`` and ``scheme`` are those of the files, or as the name states them;
    ``unknown_scheme`` is what the name states where weighin does not know such a scheme, and ``scheme`` None then.
    """

    name: str
    reason: str
    entry: ModelEntry | None
    published: bool
    disclosed: bool
    parameters: int | None
    active_parameters: int | None
    size_class: str | None
    format: Format | None = None
    scheme: str | None = None
    unknown_scheme: str | None = None
    candidates: tuple[str, ...] = ()
    file: ModelFile | None = None

    @property
    def known(self) -> bool:
        """Whether one model is meant, be its size disclosed or not."""
        return self.entry is not None

    @property
    def scheme_problem(self) -> str | None:
        """A sentence that says why the scheme of the name tells no size, None where it does or there is none."""
        if self.unknown_scheme is None:
            return None
        where = f"{self.format} files" if self.format else "any format"
        return f"weighin does not know the scheme {self.unknown_scheme} of {where}, so its size cannot be told"

    @property
    def file_size(self) -> DownloadSize | None:
        """What the files weigh, None where there are none."""
        if self.file is None:
            return None
        rest = self.file.file_bytes - self.file.tensor_bytes
        return DownloadSize(
            format=self.file.format,
            scheme=self.file.scheme,
            bytes=self.file.file_bytes,
            low=self.file.file_bytes,
            high=self.file.file_bytes,
            basis=SizeBasis.FILE,
            parts={"token_embedding": 0, "head": 0, "layers": self.file.tensor_bytes, "other": rest},
            tokenizer_bytes=0,
            runtime_bytes=None,
        )


def find_model(text: str) -> FoundModel:
    """Return what a name or a path means. Files and folders that exist are read, all else is a name.

    ModelFileError where a file cannot be read as a model, QuestionError where what can only be a path leads nowhere.
    """
    if os.path.exists(text):  # noqa: PTH110 - takes any text, also one that no path can be
        return _of_file(inspect(Path(text)))
    if text.startswith(("/", "./", "../", "~", ".\\", "..\\")):
        raise QuestionError(f"{text!a}: there is no such file; check the path, or give a model's name")
    if not text.strip():
        raise QuestionError("no model is named; give a model's name or its file")
    found = identify(text)
    known_scheme = found.scheme is None or bool(_candidate_schemes(found.format, found.scheme)[0])
    return FoundModel(
        name=found.entry.name if found.entry else text,
        reason=found.reason,
        entry=found.entry,
        published=found.entry is not None and found.entry.name in catalogue(),
        disclosed=found.disclosed,
        parameters=found.parameters,
        active_parameters=found.active_parameters,
        size_class=found.size_class,
        format=found.format,
        scheme=found.scheme if known_scheme else None,
        unknown_scheme=None if known_scheme else found.scheme,
        candidates=found.candidates,
    )


def _of_file(file: ModelFile) -> FoundModel:
    return FoundModel(
        name=file.entry.name,
        reason=f"read from the headers of {len(file.files)} file{'s' * (len(file.files) > 1)}",
        entry=file.entry,
        published=True,
        disclosed=True,
        parameters=file.parameters,
        active_parameters=file.entry.active_parameters,
        size_class=file.size_class,
        format=file.format,
        scheme=file.scheme,
        file=file,
    )


def check_question(form: Format | None, scheme: str | None, what_ifs: Iterable[str]) -> None:
    """Refuse what makes no sense of any model: QuestionError for a scheme that does not exist, WhatIfError."""
    if scheme is not None:
        _spelled(form, scheme)
    for text in what_ifs:
        parse_what_if(text)


def candidate_of(found: FoundModel, form: Format | None, scheme: str | None) -> Candidate:
    """Return a known model in the format and scheme that are asked for, else that its name states, else the usual ones.

    A scheme by one of weighin's own names keeps it. QuestionError where no format has such a scheme.
    """
    assert found.entry is not None
    wanted = scheme or (found.scheme if form in {None, found.format} else None)
    form = form or (None if scheme else found.format)
    if wanted is None:
        form = form or Format.ONNX
        return Candidate(entry=found.entry, format=form, scheme=_USUAL[form][found.entry.kind is ModelKind.ENCODER])
    if found.file and scheme is None:  # whatever its files hold, that is what is meant
        return Candidate(entry=found.entry, format=found.file.format, scheme=wanted)
    one, spelled = _spelled(form, wanted)
    return Candidate(entry=found.entry, format=one, scheme=wanted if wanted in set(Scheme) else spelled)


def _spelled(form: Format | None, scheme: str) -> tuple[Format, str]:
    """Return the format that has a scheme, and how it spells it; QuestionError where none has."""
    found, refusals = _candidate_schemes(form, scheme)
    if found:
        return found[0]
    raise QuestionError(
        refusals[0] if form else f"no format has a scheme {scheme[:40]!a}; name the --format to see what it has"
    )


def _candidate_schemes(form: Format | None, scheme: str) -> tuple[list[tuple[Format, str]], list[str]]:
    """Return the formats that have a scheme, each with its spelling, and what the others say."""
    found, refusals = [], []
    for one in (form,) if form else _FORMATS:
        try:
            found.append((one, scheme_of(one, scheme)))
        except SizeError as error:
            refusals.append(str(error))
    return found, refusals


def setting_of(entry: ModelEntry, context_tokens: int | None, runtime: Runtime | None = None) -> Setting:
    """Return how a model is taken to run: at the context that is asked for, else at the usual one or all that it has.

    An encoder keeps nothing of a context: its input is what counts.
    """
    limits = current_limits()
    encoder = entry.kind is ModelKind.ENCODER
    usual = limits.encoder_tokens if encoder else limits.memory_context_tokens
    return Setting(
        context_tokens=context_tokens or min(usual, entry.context_tokens or usual),
        prompt_tokens=limits.encoder_tokens if encoder else limits.prompt_tokens,
        runtime=runtime,
    )


def what_if_results(
    texts: Iterable[str], candidate: Candidate, setting: Setting, *, file_size: DownloadSize | None
) -> tuple[WhatIfResult, ...]:
    """Return what the techniques change, in their order; QuestionError or WhatIfError for what makes no sense."""
    try:
        return apply_all(map(parse_what_if, texts), candidate, setting, file_size=file_size)
    except (CatalogError, SizeError) as error:
        raise QuestionError(f"what-if: {error}") from error
