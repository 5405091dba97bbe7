"""Pure parsing that several readers share; nothing here raises on any text."""

import re

_MOST_CHARACTERS = 128
_MOST_CPUS = 2**14

# What may leave the device of a text that hardware or firmware wrote. No ":" and no ",": addresses need them.
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9 ().+/_-]+")
# The same, with the "@" before a processor's clock.
_NOT_ALLOWED_IN_PROCESSORS = re.compile(r"[^A-Za-z0-9 ()@.+/_-]+")

# Firmware sometimes puts what identifies one copy of a machine where a model name belongs. No pattern asks what stands
# around: a letter glued to an address must not save it. The longest shapes go first, so that none is cut in two.
_IDENTIFYING = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}",  # a UUID
        r"(?:[0-9a-f]{2}[ :-]){5,}[0-9a-f]{2}",  # a MAC address; cleaning makes a space of its colons
        r"(?=[A-Z]*[0-9])[0-9A-Z]{14,}",  # a serial number: one long word of letters and digits
        r"[0-9a-f]{12,}",  # any long hexadecimal number
        r"(?<![\w.)])/[\w.~-]\S*|\b[a-z]:[\\/]\S*|\\\S+",  # a path; not "w/ Radeon"
        r"\S*\w@(?![\d.]+ ?[GM]Hz)\w\S*",  # an account; not "CPU @ 2.60GHz", in any spacing
    )
)


def clean_text(text: str) -> str | None:
    """Reduce free text from hardware to what may leave the device; None if nothing is left."""
    return _clean(text, _NOT_ALLOWED)


def clean_processor_name(text: str) -> str | None:
    """Reduce a processor's name as `clean_text` does, but keep the "@" before its clock."""
    return _clean(text, _NOT_ALLOWED_IN_PROCESSORS)


def _clean(text: str, not_allowed: re.Pattern[str]) -> str | None:
    # Before, while the separators are what they were; and after, on exactly what would leave.
    cleaned = " ".join(not_allowed.sub(" ", _without_marks(text)).split())
    return " ".join(_without_marks(cleaned).split())[:_MOST_CHARACTERS].strip() or None


def _without_marks(text: str) -> str:
    for pattern in _IDENTIFYING:
        text = pattern.sub(" ", text)
    return text


def parse_whole_number(text: str) -> int | None:
    """Parse a decimal number without a sign; None for anything else."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None


def parse_hexadecimal(text: str) -> int | None:
    """Parse a hexadecimal number of up to 32 bits, with or without "0x"; None for anything else."""
    digits = text.strip().lower().removeprefix("0x")
    return int(digits, 16) if 0 < len(digits) <= 8 and all(digit in "0123456789abcdef" for digit in digits) else None


def parse_cpu_list(text: str) -> frozenset[int]:
    """Parse the kernel's list of processors, for example "0-3,8"; parts that are none are left out."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        low, high = parse_whole_number(first), parse_whole_number(last if dash else first)
        if low is not None and high is not None and low <= high < _MOST_CPUS:
            cpus.update(range(low, high + 1))
    return frozenset(cpus)
