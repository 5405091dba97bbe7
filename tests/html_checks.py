"""Reading a page as a strict reader would: is it well formed, and what does it say?"""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "hr", "img", "input"}
_BLOCKS = {"h1", "p", "figcaption"}
_ADDRESSES = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}


@dataclass
class Table:
    """A table as a reader sees it: its classes, its caption, and the text of each cell, the head's first."""

    classes: set[str]
    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)


class Page(HTMLParser):
    """A parsed page. Building it fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[Table] = []
        self.blocks: list[str] = []
        self._open: list[str] = []
        self._table: Table | None = None
        self._hidden: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> names an attribute twice"
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in _VOID:
            self._open.append(tag)
            self._hidden.append("hidden" if "name" in (found.get("class") or "").split() else "")
        if tag in _BLOCKS:
            self.blocks.append("")
        if tag == "table":
            self._table = Table(classes=set((found.get("class") or "").split()))
            self.tables.append(self._table)
        elif self._table and tag == "tr":
            self._table.rows.append([])
        elif self._table and tag in {"th", "td"}:
            self._table.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> is out of order"
        self._hidden.pop()
        if tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] in {"style", "title", "script"}:
            return
        self.texts.append(data)
        if _BLOCKS & set(self._open):
            self.blocks[-1] = _joined(self.blocks[-1], data)
        # A name that stands beside a value on a phone alone is no part of the cell.
        if self._table and "hidden" not in self._hidden:
            if "caption" in self._open:
                self._table.caption = _joined(self._table.caption, data)
            elif {"th", "td"} & set(self._open):
                self._table.rows[-1][-1] = _joined(self._table.rows[-1][-1], data)

    @property
    def text(self) -> str:
        """All text that a reader sees, with single ordinary spaces."""
        return " ".join(" ".join(self.texts).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of that name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def headings(self) -> list[int]:
        """The levels of all headings in their order."""
        return [int(name[1]) for name, _ in self.tags if len(name) == 2 and name[0] == "h" and name[1].isdigit()]

    @property
    def addresses(self) -> list[str]:
        """Everything that could be fetched or followed."""
        return [value or "" for _, found in self.tags for name, value in found.items() if name in _ADDRESSES]


def _joined(before: str, after: str) -> str:
    return " ".join((before + " " + after).split())
