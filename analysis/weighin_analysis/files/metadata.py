"""The key-value pairs of a GGUF header."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array: its length, and its items where they are few numbers."""

    count: int
    items: tuple[int | float | bool, ...] | None


Value = int | float | bool | str | Array | None


@dataclass(frozen=True, slots=True)
class Metadata:
    """Values by key, asked for by the type that they must have; one of another type is not there."""

    values: dict[str, Value]

    def count(self, key: str) -> int | None:
        """Return a whole number of at least 0; of an array the one number that all its items are, or None."""
        value = self.values.get(key)
        if isinstance(value, Array) and value.items:
            value = value.items[0] if len(set(value.items)) == 1 else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def counts(self, key: str) -> tuple[int, ...]:
        """Return the whole numbers of an array, none where there is no such array."""
        value = self.values.get(key)
        items = value.items if isinstance(value, Array) and value.items else ()
        return tuple(item for item in items if isinstance(item, int))

    def text(self, key: str) -> str | None:
        """Return a text."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def flag(self, key: str) -> bool | None:
        """Return what is true or false."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else None
