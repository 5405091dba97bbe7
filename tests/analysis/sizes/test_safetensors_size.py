import csv
from dataclasses import replace
from pathlib import Path

import pytest

from weighin_analysis.errors import SizeError
from weighin_analysis.models.catalogue import entry
from weighin_analysis.models.entry import CountBasis
from weighin_analysis.sizes.artefact import SizeBasis
from weighin_analysis.sizes.safetensors import SCHEMES, download_size

DATA = Path(__file__).parents[2] / "data"


def published() -> dict[str, tuple[str, int]]:
    with (DATA / "safetensors_files.csv").open(encoding="utf-8", newline="") as file:
        return {row["model"]: (row["scheme"], int(row["size_bytes"])) for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", [name for name in published() if name != "BERT-base-uncased"])
def test_a_published_decoder_weighs_what_is_counted_within_a_kilobyte_of_header(name: str) -> None:
    scheme, size_bytes = published()[name]
    assert abs(download_size(entry(name), scheme).bytes - size_bytes) < 1_000


def test_a_published_encoder_has_the_head_that_it_was_trained_with_beside_what_is_counted() -> None:
    scheme, size_bytes = published()["BERT-base-uncased"]
    assert 0 < 1 - download_size(entry("BERT-base-uncased"), scheme).bytes / size_bytes < 0.01


def test_a_copied_head_is_published_twice() -> None:
    size = download_size(entry("Qwen3-0.6B"), "BF16")
    assert size.parts["head"] == size.parts["token_embedding"] == 2 * 151_936 * 1_024
    assert "copy" in size.notes[0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_parts_sum_up(scheme: str) -> None:
    size = download_size(entry("Mixtral-8x7B"), scheme)
    assert sum(size.parts.values()) == size.bytes
    assert size.basis is SizeBasis.COUNTED


def test_without_a_shape_a_rounded_number_of_parameters_gives_an_interval() -> None:
    rounded = replace(entry("Llama-3.2-1B"), shape=None, parameters=1_200_000_000, count_basis=CountBasis.ROUNDED)
    size = download_size(rounded, "BF16")
    assert size.basis is SizeBasis.FITTED
    assert size.low < size.bytes == 2_400_000_000 < size.high


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SizeError, match="no scheme 'Q4_0'; it has BF16, F16, F32"):
        download_size(entry("Llama-3.2-1B"), "Q4_0")


def test_an_undisclosed_model_has_no_size() -> None:
    secret = replace(entry("Llama-3.2-1B"), name="secret", shape=None, parameters=None)
    with pytest.raises(SizeError, match="secret: nobody tells"):
        download_size(secret, "BF16")
