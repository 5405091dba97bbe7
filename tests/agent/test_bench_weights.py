from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cases import TINY

from weighin_agent.bench.models import save_layers
from weighin_agent.bench.weights import check_data, lay, make_block, scheme_block
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import Weights, load_suite

Numbers = npt.NDArray[Any]
WEIGHTS = load_suite("quick").weights
BLOCK = make_block(WEIGHTS)


def nibbles(block: Numbers) -> Numbers:
    return np.concatenate([block & 0x0F, block >> 4]).astype(np.int64) - 8


def values_of(scheme: Scheme) -> Numbers:
    """The numbers that the kernel of a scheme multiplies with, in steps of the scheme."""
    block = scheme_block(BLOCK, scheme)
    match scheme:
        case Scheme.INT4_BLOCK32:
            return nibbles(block)
        case Scheme.INT8_BLOCK32:
            return block.astype(np.int64) - 128
        case _:
            return block.astype(np.float64)


def test_the_generator_is_the_mt19937_of_the_cpp_standard() -> None:
    """C++ [rand.predef]: the 10000th output of a default-constructed mt19937, seed 5489, is 4123659995."""
    stream = np.random.RandomState(5489).bytes(4 * 10_000)
    assert int.from_bytes(stream[-4:], "little") == 4_123_659_995


def test_the_block_is_the_pinned_one_again_and_again() -> None:
    assert BLOCK.nbytes == WEIGHTS.block_bytes
    assert (make_block(WEIGHTS) == BLOCK).all()


@pytest.mark.parametrize(
    "other",
    [
        replace(WEIGHTS, seed=WEIGHTS.seed + 1),
        replace(WEIGHTS, block_bytes=WEIGHTS.block_bytes - 4),
        replace(WEIGHTS, block_sha256="0" * 64),
    ],
    ids=["other seed", "other length", "other hash"],
)
def test_a_block_that_is_not_the_pinned_one_is_refused(other: Weights) -> None:
    with pytest.raises(CaseError, match="pinned is") as refused:
        make_block(other)
    assert refused.value.reason == CaseFailureReason.WEIGHTS_MISMATCH


@pytest.mark.parametrize(
    ("scheme", "least", "most", "dtype", "step_sd"),
    [
        (Scheme.INT4_BLOCK32, -7, 7, np.uint8, 4.6),
        (Scheme.INT8_BLOCK32, -127, 127, np.uint8, 74.0),
        (Scheme.INT8_DYNAMIC, -63, 63, np.int8, 37.0),  # seven bits: AVX2 without VNNI would saturate
        (Scheme.FP32, -127, 127, np.float32, 74.0),
        (Scheme.FP16, -127, 127, np.float16, 74.0),
    ],
)
def test_the_values_of_a_scheme_fill_its_range_around_zero(
    scheme: Scheme, least: int, most: int, dtype: type[np.generic], step_sd: float
) -> None:
    values = values_of(scheme)
    assert scheme_block(BLOCK, scheme).dtype == dtype
    assert (values.min(), values.max()) == (least, most)
    # Four standard errors of the mean: zero as far as a million values can tell.
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(values.size)
    assert values.std() == pytest.approx(step_sd, rel=0.1)


def test_the_natural_nibbles_would_have_a_mean() -> None:
    assert nibbles(BLOCK).mean() == pytest.approx(-0.5, abs=0.02)


@given(key=st.text(max_size=20), byte_count=st.integers(0, 5000))
def test_a_tensor_gets_exactly_its_bytes_of_the_repeated_block(key: str, byte_count: int) -> None:
    block = BLOCK[:1024]
    laid = b"".join(lay(block, key, byte_count))
    assert len(laid) == byte_count
    tiled = block.tobytes() * (byte_count // block.nbytes + 3)
    assert any(tiled[start : start + byte_count] == laid for start in range(0, block.nbytes, 64))


def start_of(key: str) -> int:
    return BLOCK.tobytes().find(b"".join(lay(BLOCK, key, 64)))


def test_the_same_tensor_always_gets_the_same_bytes() -> None:
    assert b"".join(lay(BLOCK, "layer3.gate", 100)) == b"".join(lay(BLOCK, "layer3.gate", 100))


def test_tensors_begin_at_offsets_of_their_own() -> None:
    keys = [f"layer{i}.{part}" for i in range(32) for part in ("qkv", "output", "gate", "up", "down")]
    starts = [start_of(key) for key in keys]
    assert all(start >= 0 for start in starts)
    assert len(set(starts)) >= len(keys) - 3  # 160 of 16384 offsets: chance makes fewer than one pair


@pytest.mark.parametrize("scheme", Scheme)
def test_a_tensor_begins_on_a_whole_value(scheme: Scheme) -> None:
    block = scheme_block(BLOCK, scheme)
    laid = np.frombuffer(b"".join(lay(block, "any", 4 * 999)), block.dtype)
    assert np.isin(laid, block).all()


# Files read back.


@pytest.fixture(scope="module", params=[Scheme.INT4_BLOCK32, Scheme.INT8_DYNAMIC, Scheme.FP16])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Numbers]:
    """A tiny decoder on disk, and the block that it was made of."""
    path = tmp_path_factory.mktemp("saved") / "layers.onnx"
    block = scheme_block(BLOCK, request.param)
    save_layers(path, TINY, request.param, layers=2, max_context=64, block=block)
    return path, block


@contextmanager
def changed(path: Path, place: int, bits: int) -> Iterator[None]:
    """Bits of one byte of a file flipped for a while."""
    with path.open("r+b") as file:
        file.seek(place)
        before = file.read(1)
        file.seek(place)
        file.write(bytes([before[0] ^ bits]))
        file.flush()
        try:
            yield
        finally:
            file.seek(place)
            file.write(before)


def assert_refused(path: Path, block: Numbers, what: str) -> None:
    with pytest.raises(CaseError, match=what) as refused:
        check_data(path, block)
    assert refused.value.reason == CaseFailureReason.WEIGHTS_MISMATCH
    assert str(path.parent) not in str(refused.value)


def test_files_as_they_were_written_are_accepted(saved: tuple[Path, Numbers]) -> None:
    check_data(*saved)


@settings(deadline=None)
@given(data=st.data(), bits=st.integers(1, 255))
def test_one_changed_byte_anywhere_is_refused(saved: tuple[Path, Numbers], data: st.DataObject, bits: int) -> None:
    """In a weight, in a scale, in a gap between two tensors, in the graph."""
    path, block = saved
    file = data.draw(st.sampled_from([path, path.with_suffix(".data")]))
    place = data.draw(st.integers(0, file.stat().st_size - 1))
    with changed(file, place, bits):
        assert_refused(path, block, "on disk is not what was written")
    check_data(path, block)


@pytest.mark.parametrize("byte_count", [-1, 1])
def test_a_longer_or_shorter_file_is_refused(saved: tuple[Path, Numbers], byte_count: int) -> None:
    path, block = saved
    data = path.with_suffix(".data")
    before = data.read_bytes()
    data.write_bytes(before[:byte_count] if byte_count < 0 else before + bytes(byte_count))
    try:
        assert_refused(path, block, "on disk")
    finally:
        data.write_bytes(before)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff", b'{"graph_sha256": "", "tensors": [{"name": "head"}]}'])
def test_a_damaged_manifest_is_refused(saved: tuple[Path, Numbers], damage: bytes) -> None:
    path, block = saved
    manifest = path.with_suffix(".json")
    before = manifest.read_bytes()
    manifest.write_bytes(damage)
    try:
        assert_refused(path, block, "what was written about the graph")
    finally:
        manifest.write_bytes(before)


def test_another_block_is_refused(saved: tuple[Path, Numbers]) -> None:
    path, block = saved
    assert_refused(path, np.roll(block, 1), "layer0.qkv on disk")
