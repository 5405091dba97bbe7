"""What is downloaded: a model in a file format, in one of that format's schemes."""

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """How the weights are laid into files."""

    GGUF = "gguf"  # llama.cpp, Ollama
    ONNX = "onnx"  # ONNX Runtime, Transformers.js
    LITERT = "litert"  # .litertlm, .task and .bin of LiteRT-LM and MediaPipe
    MLC = "mlc"  # WebLLM, MLC LLM
    RKLLM = "rkllm"  # Rockchip's NPUs
    OPENVINO = "openvino"  # Intel's processors, GPUs and NPUs
    SAFETENSORS = "safetensors"  # as published; read by no runtime that weighin judges


class SizeBasis(StrEnum):
    """How a number of bytes is known, from strongest to weakest."""

    FILE = "file"  # read from the file itself
    PUBLISHED = "published"  # of this very file, in the catalogue with its source
    COUNTED = "counted"  # tensor by tensor, as the format stores each
    FITTED = "fitted"  # by bits per parameter of other models in the same scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSize:
    """Bytes of a model's files, the runtime apart; ``low`` to ``high`` is where they may lie.

    GGUF and LiteRT hold the tokenizer inside: ``tokenizer_bytes`` are a part of ``bytes`` then, else a file beside
    them.

    ``parts`` split the value: token_embedding, head, layers, other. ``notes`` are sentences for a person that say what
    is stored how, where that is not what the scheme's name suggests.
    """

    format: Format
    scheme: str
    bytes: int
    low: int
    high: int
    basis: SizeBasis
    parts: dict[str, int]
    tokenizer_bytes: int
    runtime_bytes: int | None
    notes: tuple[str, ...] = ()
