"""What commands print."""

import argparse
import json
from datetime import datetime
from typing import Any


def answer(options: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    """Print what the command was run for: the document with --json, else the text."""
    print(json.dumps(document) if options.json else text, flush=True)  # noqa: T201 - what the command is run for


def utc_text(moment: datetime | None) -> str | None:
    """Write a time of the store (UTC without a zone)."""
    return None if moment is None else moment.isoformat() + "Z"
