"""Pinned pseudo-random weights: one block of bytes, laid into every tensor from an offset of its own.

Nothing is downloaded, and every device runs the same bytes. Speed does not depend on the values as long as they are
ordinary numbers; three traps are closed here (docs/method.md, section 3):

* The values have mean zero. With the natural mean of -1/2 step, each layer amplifies the mean of its input, attention
  scores reach hundreds, and the probabilities of all other tokens become denormal numbers, on which x86 is many times
  slower than on any number of a real model.
* int8_dynamic weights fit seven bits: products of full-range bytes saturate the 16-bit sums of AVX2 without VNNI.
* Every tensor has memory of its own: a shared one would stay in the cache, as no real model's weights do.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Weights

# A block repeats inside a tensor, so its start must not depend on the tensor's element size.
_OFFSET_STEP_BYTES = 64
# A file is read back in pieces as small as the block: mapped into memory, it would count as memory of this process.
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies in the weight file, and what must be there.

    ``sha256`` (hexadecimal) is that of its bytes, "" for pinned weights: those are compared with the block itself, from
    the offset of ``name`` on, multiplied by ``scale`` where it is not None.
    """

    name: str
    offset: int
    byte_count: int
    scale: float | None
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What was written for a graph: the SHA-256 of its text, hexadecimal, and its tensors by rising offset."""

    graph_sha256: str
    tensors: tuple[StoredTensor, ...]


def make_block(weights: Weights) -> npt.NDArray[np.uint8]:
    """Return the pinned block; CaseError if this device does not reproduce it.

    MT19937 seeded by its reference init_genrand, raw 32-bit outputs in little-endian order: RandomState promises this
    stream for good, and a web page can make the same.
    """
    data = np.random.RandomState(weights.seed).bytes(weights.block_bytes)
    found = hashlib.sha256(data).hexdigest()
    if found != weights.block_sha256:
        text = f"the block of weights hashes to {found[:12]}, pinned is {weights.block_sha256[:12]}"
        raise CaseError(text, reason=CaseFailureReason.WEIGHTS_MISMATCH)
    return np.frombuffer(data, np.uint8)


def scheme_block(block: npt.NDArray[np.uint8], scheme: Scheme) -> npt.NDArray[np.generic]:
    """Return the block as weights of a scheme: ordinary, zero-mean values in the type that the kernel reads."""
    match scheme:
        case Scheme.INT4_BLOCK32:  # nibbles 0..15 stand for -8..7; 0 becomes 8, so that -8 becomes 0
            low = np.where(block & 0x0F == 0, block | 0x08, block)
            return np.where(low & 0xF0 == 0, low | 0x80, low).astype(np.uint8)
        case Scheme.INT8_BLOCK32:  # bytes 0..255 stand for -128..127
            return np.where(block == 0, 128, block).astype(np.uint8)
        case Scheme.INT8_DYNAMIC:  # -64..63
            half = block.view(np.int8) >> 1
            return np.where(half == -64, 0, half).astype(np.int8)
        case Scheme.FP16 | Scheme.FP32:
            values = np.where(block.view(np.int8) == -128, 0, block.view(np.int8))
            return values.astype(np.float32 if scheme is Scheme.FP32 else np.float16)


def lay(block: npt.NDArray[np.generic], key: str, byte_count: int, scale: float | None = None) -> Iterator[memoryview]:
    """Yield ``byte_count`` bytes for tensor ``key``: the block over and over, from an offset of the tensor's own.

    ``scale`` multiplies the values of a block of floating-point numbers, in single precision.
    """
    values = block if scale is None else (block.astype(np.float32) * np.float32(scale)).astype(block.dtype)
    data = np.ascontiguousarray(values).view(np.uint8).data
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "little") % (len(data) // _OFFSET_STEP_BYTES) * _OFFSET_STEP_BYTES
    while byte_count > 0:
        piece = data[start : start + byte_count]
        yield piece
        byte_count -= len(piece)
        start = 0


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest of the graph at ``path`` beside it, for ``check_data``."""
    path.with_suffix(".json").write_text(json.dumps(asdict(manifest)), encoding="ascii")


def check_data(path: Path, block: npt.NDArray[np.generic]) -> None:
    """Read the graph at ``path`` and its weights back; CaseError unless every byte is the one that was written.

    ``block`` is that of the scheme. The pinned weights are compared with it, not with a hash of what was written.
    """
    try:
        manifest = _read_manifest(path)
    except (ValueError, KeyError, TypeError) as error:
        raise _mismatch("what was written about the graph") from error
    if hashlib.sha256(path.read_bytes()).hexdigest() != manifest.graph_sha256:
        raise _mismatch("the graph")
    with path.with_suffix(".data").open("rb", buffering=0) as file:
        for tensor in manifest.tensors:
            gap = file.read(tensor.offset - file.tell())
            if any(gap) or not _holds(file, tensor, block):
                raise _mismatch(tensor.name)
        if file.read(1):
            raise _mismatch("the end of the weights")


def _read_manifest(path: Path) -> Manifest:
    data = json.loads(path.with_suffix(".json").read_text(encoding="ascii"))
    return Manifest(graph_sha256=data["graph_sha256"], tensors=tuple(StoredTensor(**row) for row in data["tensors"]))


def _holds(file: FileIO, tensor: StoredTensor, block: npt.NDArray[np.generic]) -> bool:
    """Whether the next bytes of ``file`` are the tensor's."""
    if tensor.sha256:
        return hashlib.sha256(file.read(tensor.byte_count)).hexdigest() == tensor.sha256
    buffer = np.empty(min(_READ_BYTES, tensor.byte_count), np.uint8)
    for laid in lay(block, tensor.name, tensor.byte_count, tensor.scale):
        for start in range(0, len(laid), len(buffer)):
            piece = laid[start : start + len(buffer)]
            found = buffer[: len(piece)]
            if file.readinto(found.data) != len(piece) or not np.array_equal(found, np.frombuffer(piece, np.uint8)):
                return False
    return True


def _mismatch(what: str) -> CaseError:
    return CaseError(f"{what} on disk is not what was written", reason=CaseFailureReason.WEIGHTS_MISMATCH)
