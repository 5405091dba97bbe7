"""Write the tables of docs/views.md from fleet/snapshot/views.py; --check only tells whether they differ."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from weighin_analysis.fleet.snapshot.views import VIEWS, VIEWS_VERSION

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "views.md"
MARK = "<!-- From here on written by `tools/views_doc.py` from `weighin_analysis/fleet/snapshot/views.py`. -->\n"


def text_with_tables(text: str) -> str:
    """Return the document with the tables of today behind its mark."""
    written, mark, _ = text.partition(MARK)
    if not mark:
        sys.exit(f"{DOCUMENT.name} has lost its mark: {MARK}")
    return written + mark + "".join(f"{line}\n" for line in _tables())


def _tables() -> Iterator[str]:
    yield ""
    yield f"## The views, version {VIEWS_VERSION}"
    for view in VIEWS:
        yield from ("", f"### {view.name}", "", f"One row is {view.one_row}.", "")
        yield from ("| column | type | meaning |", "|---|---|---|")
        for column in view.columns:
            yield f"| `{column.name}` | {column.type} | {column.meaning} |"


def main() -> int:
    """Write the document, or check it."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/views.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where it is not current")
    options = parser.parse_args()
    text = DOCUMENT.read_text(encoding="utf-8")
    wanted = text_with_tables(text)
    if options.check:
        if text != wanted:
            print("docs/views.md is not current: run tools/views_doc.py", file=sys.stderr)
        return int(text != wanted)
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
