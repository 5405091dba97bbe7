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
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Weights

# A block repeats inside a tensor, so its start must not depend on the tensor's element size.
_OFFSET_STEP_BYTES = 64


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


def lay(block: npt.NDArray[np.generic], key: str, byte_count: int) -> Iterator[memoryview]:
    """Yield ``byte_count`` bytes for tensor ``key``: the block over and over, from an offset of the tensor's own."""
    data = np.ascontiguousarray(block).view(np.uint8).data
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    start = int.from_bytes(digest, "little") % (len(data) // _OFFSET_STEP_BYTES) * _OFFSET_STEP_BYTES
    while byte_count > 0:
        piece = data[start : start + byte_count]
        yield piece
        byte_count -= len(piece)
        start = 0
