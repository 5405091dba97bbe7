import csv
from pathlib import Path
from statistics import median

import pytest
from download_rows import DownloadRow, download_rows

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.errors import SizeError
from weighin_analysis.models.catalogue import catalogue, entry
from weighin_analysis.models.entry import CountBasis, ModelEntry, ModelKind
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import parameter_count
from weighin_analysis.sizes.artefact import SizeBasis
from weighin_analysis.sizes.litert import SCHEMES, download_size

DATA = Path(__file__).parents[2] / "data"
SOME = [one for one in catalogue().values() if one.shape is not None][::15]  # a sample, by the alphabet
SCHEME_OF_ROW = {
    "int4 gpu (gemma-2b-it-gpu-int4.bin)": "int4",
    "int4 gpu (DevTools reading)": "int4",
    "q8 tiny_garden_q8_ekv1024.litertlm": "int8",
    "q8 mobile_actions_q8_ekv1024.litertlm": "int8",
}
ROWS = download_rows(lambda row: row.quantization in SCHEME_OF_ROW)
MORE = download_rows(lambda row: row.format == "LiteRT", "more_downloads.csv")


def error(row: DownloadRow) -> float:
    scheme = SCHEME_OF_ROW.get(row.quantization, row.quantization)
    return row.error(download_size(entry(row.model), scheme).bytes)


def name_of(row: DownloadRow) -> str:
    return f"{row.model}-{row.quantization}-{row.size_bytes}"


def test_gemma_2b_in_four_bits_comes_within_one_percent_of_1_35_gigabytes() -> None:
    rows = [row for row in ROWS if row.model == "Gemma-2B"]
    assert [row.size_bytes for row in rows] == [1_350_000_000, 1_354_000_000]
    assert all(abs(error(row)) <= 0.01 for row in rows)


@pytest.mark.parametrize("row", [row for row in ROWS if row.model == "Gemma-3-270M"], ids=name_of)
def test_gemma_3_270m_in_eight_bits_comes_within_five_percent(row: DownloadRow) -> None:
    assert abs(error(row)) <= 0.05


@pytest.mark.parametrize("row", MORE, ids=name_of)
def test_every_other_published_file_comes_within_seven_percent(row: DownloadRow) -> None:
    assert abs(error(row)) <= 0.07


def test_the_usual_error_of_other_published_files_is_below_three_percent() -> None:
    assert len(MORE) == 10
    assert median(abs(error(row)) for row in MORE) <= 0.03


def published_weights() -> list[tuple[str, int]]:
    with (DATA / "litert_weights.csv").open(encoding="utf-8", newline="") as file:
        return [(row["scheme"], round(float(row["weights_mib"]) * 2**20)) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("scheme", "weights"), published_weights())
def test_the_weights_of_gemma_3_1b_come_within_five_percent_in_every_scheme(scheme: str, weights: int) -> None:
    size = download_size(entry("Gemma-3-1B"), scheme)
    counted = size.low - size.tokenizer_bytes  # without masks
    assert abs(counted / weights - 1) <= 0.05


def small(*, kind: ArchitectureKind = ArchitectureKind.DECODER, tied: bool = True) -> ModelEntry:
    shape = Shape(
        architecture=Architecture(
            name="made up",
            kind=kind,
            layers=1,
            hidden=128,
            ffn=256,
            heads=2,
            kv_heads=2,
            head_dim=64,
            vocab=1000,
            tied_embeddings=tied,
        )
    )
    return ModelEntry(
        name="made up",
        kind=ModelKind(kind.value),
        parameters=parameter_count(shape),
        count_basis=CountBasis.COMPUTED,
        source="none",
        shape=shape,
    )


def test_four_bits_are_those_of_feed_forward_and_table_while_attention_keeps_eight() -> None:
    size = download_size(small(), "int4")
    attention = 4 * (128 * 128 + 128 * 4)
    feed_forward = 3 * 128 * 256 // 2 + (2 * 256 + 128) * 4
    assert size.parts["layers"] == attention + feed_forward + 2 * 128 * 4
    assert size.parts["token_embedding"] == 1000 * 128 // 2 + 1000 * 4
    assert size.low == size.high == size.bytes


def test_blocks_carry_a_scale_of_two_bytes_and_leave_the_table_in_eight_bits() -> None:
    size = download_size(small(), "int4_block32")
    assert size.parts["layers"] == (4 * 128 * 128 + 3 * 128 * 256) // 32 * 18 + 2 * 128 * 4
    assert size.parts["token_embedding"] == 1000 * 128 + 1000 * 4


def test_a_head_of_its_own_is_stored_beside_the_table() -> None:
    assert download_size(small(tied=False), "int8").parts["head"] == 1000 * 128 + 1000 * 4
    assert download_size(small(), "int8").parts["head"] == 0


def test_masks_of_seven_signatures_are_where_files_of_one_decoder_differ() -> None:
    decoder, encoder = (download_size(small(kind=kind), "int8") for kind in ArchitectureKind)
    assert decoder.high - decoder.low == 7 * 1280 * 1280 * 4
    assert encoder.high == encoder.low


@pytest.mark.parametrize("scheme", SCHEMES)
def test_parts_sum_to_the_bytes_which_lie_in_their_interval(scheme: str) -> None:
    for one in SOME:
        size = download_size(one, scheme)
        assert sum(size.parts.values()) == size.bytes, one.name
        assert 0 < size.low <= size.bytes <= size.high, one.name
        assert size.tokenizer_bytes <= size.parts["other"], one.name


def test_a_model_without_a_shape_is_fitted() -> None:
    assert download_size(entry("LFM2-1.2B"), "int8").basis is SizeBasis.FITTED


def test_an_unknown_scheme_is_one_line_that_names_the_known_ones() -> None:
    with pytest.raises(SizeError, match=r"^LiteRT has no scheme 'Q4_K_M'; it has fp32, fp16, int8, int4, .*block128$"):
        download_size(entry("Gemma-2B"), "Q4_K_M")
