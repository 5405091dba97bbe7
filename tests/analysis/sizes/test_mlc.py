import csv
from dataclasses import replace
from pathlib import Path

import pytest

from weighin_analysis.errors import SizeError
from weighin_analysis.models.catalogue import entry
from weighin_analysis.sizes.mlc import SCHEMES, download_size

DATA = Path(__file__).parents[2] / "data"


def test_published_weights_weigh_what_is_counted_to_the_byte() -> None:
    with (DATA / "mlc_weights.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        size = download_size(entry(row["model"]), row["scheme"])
        assert size.bytes == int(row["size_bytes"]), row["model"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_parts_sum_up(scheme: str) -> None:
    size = download_size(entry("Qwen3-30B-A3B"), scheme)
    assert sum(size.parts.values()) == size.bytes


def test_thirty_two_bits_are_stored_in_sixteen() -> None:
    model = entry("SmolLM2-360M")
    assert download_size(model, "q4f32_1").bytes == download_size(model, "q4f16_1").bytes
    assert download_size(model, "q0f32").bytes == download_size(model, "q0f16").bytes == 2 * 361_821_120
    assert "twice as much in memory" in download_size(model, "q0f32").notes[0]


def test_a_scheme_for_layers_alone_leaves_table_and_head_in_sixteen_bits() -> None:
    model = entry("Llama-3.1-8B")
    parts = download_size(model, "q4f16_2").parts
    assert parts["token_embedding"] == parts["head"] == 2 * 128_256 * 4_096
    assert parts["layers"] == download_size(model, "q4f16_1").parts["layers"]


def test_a_group_that_a_row_does_not_fill_is_stored_in_full() -> None:
    model = entry("Qwen2.5-0.5B")  # rows of 896: 22 groups of 40 and 16 weights more
    assert download_size(model, "q3f16_1").parts["token_embedding"] == 151_936 * 23 * 18


def test_a_shared_table_is_stored_once_even_where_its_copy_is_published() -> None:
    assert download_size(entry("Qwen3-1.7B"), "q4f16_1").parts["head"] == 0


def test_the_tokenizer_is_apart() -> None:
    size = download_size(entry("Qwen2.5-0.5B"), "q4f16_1")
    assert abs(size.tokenizer_bytes / 7_031_645 - 1) < 1 / 3


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SizeError, match="no scheme 'q5f16_1'; it has q0f16"):
        download_size(entry("Llama-3.2-1B"), "q5f16_1")


def test_a_model_without_a_shape_cannot_be_counted() -> None:
    with pytest.raises(SizeError, match="not in the catalogue"):
        download_size(replace(entry("Llama-3.2-1B"), shape=None), "q4f16_1")
