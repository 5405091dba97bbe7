"""What zeros among the weights would save in a format that can leave them out, per weight of a matrix."""

import math

_COLUMN_INDEX_BITS = 16  # enough for the rows of every model of the catalogue; offsets of rows are below a thousandth
_POSITION_BITS = 2  # of each of the two weights that are kept of four


def compressed_row_bits(bits: float, density: float) -> float:
    """Return the bits per weight of compressed sparse rows: value and column of every weight that is not zero."""
    return density * (bits + _COLUMN_INDEX_BITS)


def break_even_density(bits: float) -> float:
    """Return the density below which compressed sparse rows take fewer bits than the dense matrix."""
    return bits / (bits + _COLUMN_INDEX_BITS)


def two_of_four_bits(bits: float) -> float:
    """Return the bits per weight where two of four are kept with their positions.

    https://docs.pytorch.org/docs/stable/sparse.html: 9/16 of 16-bit, 10/16 of 8-bit weights.
    """
    return (bits + _POSITION_BITS) / 2


def least_bits(bits: float, density: float) -> float:
    """Return the bits per weight that zeros anywhere let a lossless compression reach, and no further.

    That is the entropy of where they lie (Shannon 1948), and all bits of the other weights. What can be saved on those
    has nothing to do with the zeros.
    """
    where = -sum(share * math.log2(share) for share in (density, 1 - density) if share > 0)
    return min(bits, where + density * bits)
