"""What a model takes as it would be shipped: bytes to download, disk, memory; what is not known, and why."""

from dataclasses import dataclass

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.shipped import shipped_size, with_parts
from weighin_analysis.errors import SizeError
from weighin_analysis.memory.runtimes import MemoryUse, Runtime, memory_use
from weighin_analysis.sizes.artefact import DownloadSize, Format
from weighin_analysis.sizes.download import disk_bytes

# What runs a file of a format unless another runtime is asked for; no runtime that is told of runs safetensors.
RUNTIMES: dict[Format, Runtime] = {
    Format.ONNX: Runtime.ONNXRUNTIME,
    Format.GGUF: Runtime.LLAMA_CPP,
    Format.LITERT: Runtime.LITERT,
    Format.MLC: Runtime.WEBLLM,
    Format.RKLLM: Runtime.RKLLM,
    Format.OPENVINO: Runtime.OPENVINO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a model runs, which decides its memory; ``runtime`` None is the one that usually runs its format."""

    context_tokens: int
    prompt_tokens: int
    runtime: Runtime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a candidate takes; a figure that is not known is None, and ``missing`` says why.

    ``download_bytes`` are those of the weights and of adapters beside them, ``disk_bytes`` are needed while it comes;
    ``memory_bytes`` counts the adapters, too.
    """

    candidate: Candidate
    runtime: Runtime | None
    download: DownloadSize | None
    download_bytes: int | None
    disk_bytes: int | None
    memory: MemoryUse | None
    memory_bytes: int | None
    missing: tuple[str, ...] = ()


def requirement(candidate: Candidate, setting: Setting, *, file_size: DownloadSize | None = None) -> Requirement:
    """Return what a candidate takes. ``file_size`` is that of its own files, where they are here: exact, and no guess.

    What is in memory follows from the parts of the size as it is counted, also for a file, whose header names none. A
    runtime that does not run the format has no memory.
    """
    adapter_bytes = sum(one.bytes for one in candidate.adapters)
    runtime = setting.runtime or RUNTIMES.get(candidate.format)
    missing: list[str] = []
    counted, memory = None, None
    try:
        counted = shipped_size(candidate)
    except SizeError as error:
        missing += [] if file_size else [str(error)]
    size = with_parts(file_size, candidate, counted) if file_size else counted
    held = counted or size
    problem = runtime_problem(runtime, candidate.format)
    if held and problem:
        missing.append(problem)
    elif held and runtime:
        try:
            memory = memory_use(
                candidate.entry,
                held,
                runtime,
                context_tokens=setting.context_tokens,
                prompt_tokens=setting.prompt_tokens,
            )
        except SizeError as error:
            missing.append(f"{error}{_shape_hint(candidate) if file_size else ''}")
    return Requirement(
        candidate=candidate,
        runtime=runtime,
        download=size,
        download_bytes=size.bytes + adapter_bytes if size else None,
        disk_bytes=disk_bytes(size) + adapter_bytes if size else None,
        memory=memory,
        memory_bytes=memory.total + adapter_bytes if memory else None,
        missing=tuple(missing),
    )


def runtime_problem(runtime: Runtime | None, file_format: Format) -> str | None:
    """Return a sentence that says why a runtime does not run a format, None where it does."""
    if runtime is None:
        return f"no runtime that weighin knows runs {file_format}"
    if runtime.file_format is file_format:
        return None
    return f"{runtime} runs {runtime.file_format} files and no {file_format}; name another --runtime or --format"


def _shape_hint(candidate: Candidate) -> str:
    """Return what would tell the shape of a model whose files are here: GGUF alone holds it."""
    beside = candidate.entry.shape is None and candidate.format in {Format.ONNX, Format.SAFETENSORS}
    return "; put the model's config.json beside the file" if beside else ""
