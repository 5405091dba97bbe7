"""What leaving zeros out would take."""

import pytest

from weighin_analysis.shrinking.sparse import break_even_density, compressed_row_bits, least_bits, two_of_four_bits


@pytest.mark.parametrize("bits", [4.5, 8.0, 16.0, 32.0])
def test_compressed_rows_and_the_dense_matrix_weigh_the_same_at_the_break_even(bits: float) -> None:
    assert compressed_row_bits(bits, break_even_density(bits)) == pytest.approx(bits)


def test_the_fewer_bits_a_weight_has_the_fewer_must_be_left() -> None:
    assert break_even_density(16.0) == pytest.approx(1 / 2)
    assert break_even_density(8.0) == pytest.approx(1 / 3)
    assert break_even_density(4.0) == pytest.approx(1 / 5)


def test_two_of_four_takes_what_pytorch_documents() -> None:
    """56.25 % of 16-bit and 62.5 % of 8-bit weights: https://docs.pytorch.org/docs/stable/sparse.html."""
    assert two_of_four_bits(16) / 16 == 0.5625
    assert two_of_four_bits(8) / 8 == 0.625


def test_zeros_help_a_compression_down_to_their_positions_and_the_weights_that_are_left() -> None:
    assert least_bits(16, 0.5) == pytest.approx(1 + 8)
    assert least_bits(16, 1.0) == 16
    assert least_bits(2, 0.9) == 2  # where the zeros lie would take more than leaving them in


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.9])
def test_no_sparse_format_beats_that_bound(density: float) -> None:
    assert least_bits(8, density) <= compressed_row_bits(8, density)
