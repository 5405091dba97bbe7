"""How a measured number is shown, on the page and in the terminal."""


def number(value: float) -> str:
    """Return a positive ``value`` with three significant digits from 10 up and two below, thousands apart.

    Intervals are log-normal: their ends lie factors, not steps, from the value. Value, low and high are each shown by
    themselves; digits taken from the width of the interval would make the low end 0.
    """
    digits = 3 if value >= 10 else 2
    scientific = f"{value:.{digits - 1}e}"
    exponent = int(scientific.partition("e")[2])  # of the rounded value: 99.96 is 100
    return f"{float(scientific):,.{max(0, digits - 1 - exponent)}f}"
