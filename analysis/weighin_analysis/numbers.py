"""How a number is shown, on the page and in the terminal."""


def number(value: float) -> str:
    """Return a positive ``value`` with three significant digits from 10 up and two below, thousands apart.

    Intervals are log-normal: their ends lie factors, not steps, from the value. Value, low and high are each shown by
    themselves; digits taken from the width of the interval would make the low end 0.
    """
    digits = 3 if value >= 10 else 2
    scientific = f"{value:.{digits - 1}e}"
    exponent = int(scientific.partition("e")[2])  # of the rounded value: 99.96 is 100
    return f"{float(scientific):,.{max(0, digits - 1 - exponent)}f}"


def gb(count: float) -> str:
    """Return bytes as people know downloads, in powers of ten: GB, or MB below one GB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else _small(count / 1e6, "MB")


def gib(count: float) -> str:
    """Return bytes as people know memory, in powers of two: GiB, or MiB below one GiB."""
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else _small(count / 2**20, "MiB")


def _small(value: float, unit: str) -> str:
    return f"{value:,.{0 if value >= 100 else 1}f} {unit}"
