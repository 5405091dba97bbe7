"""What may be printed of a text from a snapshot: nothing that a terminal would obey."""


def printable(line: str) -> str:
    """Return a line with a replacement character for every one that is not printable."""
    return line if line.isprintable() else "".join(one if one.isprintable() else "�" for one in line)
