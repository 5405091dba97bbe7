"""`weighin-analysis catalogue`: check a catalogue of models, or add one from its configuration."""

import argparse
import json
from pathlib import Path
from typing import Any

from weighin_analysis.data_files import read_text
from weighin_analysis.errors import CatalogError
from weighin_analysis.models.catalogue import key
from weighin_analysis.models.catalogue_check import entry_problems, problems
from weighin_analysis.models.catalogue_file import format_entry, parse_catalogue
from weighin_analysis.models.config_json import entry_from_config
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.naming.new_name import new_name_problems

_OWN = "models.toml"
_MOST_BYTES = 2**24  # a hundred times the catalogue of this package


def add_catalogue(commands: Any) -> argparse.ArgumentParser:
    """Add the command to those of a program, and return its parser; ``options.action`` answers it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "catalogue",
        help="check the catalogue of models, or add one",
        description="Keep the catalogue of models: check its counts, names and sources, or add a model to it.",
        epilog="example: weighin-analysis catalogue check",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="count every shape and find doubled names, missing sources and impossible numbers",
        description="Count every shape and find doubled names, missing sources and impossible numbers.",
        epilog="example: weighin-analysis catalogue check --file models.toml",
    )
    check.add_argument("--file", type=Path, metavar="FILE", help="a catalogue; without it, the one that weighin uses")
    check.set_defaults(action=check_catalogue)
    add = actions.add_parser(
        "add",
        help="add a model from its config.json",
        description="Count a model from its config.json, and add it to a catalogue or print it as it would be added.",
        epilog="example: weighin-analysis catalogue add config.json --name MyModel-1B "
        "--source https://huggingface.co/me/MyModel-1B/blob/main/config.json --file models.toml",
    )
    add.add_argument("config", type=Path, metavar="CONFIG.json", help="the model's configuration, as it is published")
    add.add_argument("--name", required=True, metavar="NAME", help="what the model is called; must be new")
    add.add_argument("--source", required=True, metavar="URL", help="where the configuration is published")
    add.add_argument(
        "--file", type=Path, metavar="FILE", help="the catalogue to add it to, begun if need be; else it is printed"
    )
    add.set_defaults(action=add_model)
    for action in (check, add):
        action.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def check_catalogue(options: argparse.Namespace) -> tuple[str, int]:
    """Return what is wrong with a catalogue, and 0 if nothing is, else 1."""
    entries = _entries(options.file)
    found = problems(entries)
    shapes = sum(entry.shape is not None for entry in entries)
    if options.json:
        text = json.dumps({"models": len(entries), "shapes": shapes, "problems": found})
    else:
        summary = f"models: {len(entries)}, counted from their shapes: {shapes}, problems: {len(found)}"
        text = "\n".join([*found, summary])
    return text, 1 if found else 0


def add_model(options: argparse.Namespace) -> tuple[str, int]:
    """Return the entry of a new model, which is added to a file if there is one; CatalogError if it cannot be."""
    entry = entry_from_config(_read(options.config), options.name, options.source)
    name = entry.name if entry.name.isprintable() else ascii(entry.name)
    found = entry_problems(entry)
    if found:
        raise CatalogError(f"{name}: {found[0]}")
    begun = options.file is None or options.file.exists()
    for other in _entries(options.file) if begun else ():
        if key(entry.name) in map(key, (other.name, *other.aliases)):
            raise CatalogError(f"{entry.name}: the catalogue already has it, as {other.name}; give it another name")
    found = new_name_problems(entry.name)
    if found:
        raise CatalogError(f"{name}: {found[0]}")
    table = format_entry(entry)
    if options.file is not None:
        with options.file.open("a", encoding="utf-8") as file:
            file.write(f"\n{table}" if begun else table)
    if options.json:
        return json.dumps(_document(entry, options.file, table)), 0
    return f"{options.file}: added {entry.name}, {entry.parameters:,} parameters" if options.file else table, 0


def _document(entry: ModelEntry, file: Path | None, table: str) -> dict[str, object]:
    return {
        "model": entry.name,
        "parameters": entry.parameters,
        "active_parameters": entry.active_parameters,
        "file": None if file is None else str(file),
        "toml": table,
    }


def _entries(file: Path | None) -> tuple[ModelEntry, ...]:
    if file is None:
        return parse_catalogue(read_text(_OWN))
    try:
        return parse_catalogue(_read(file))
    except CatalogError as error:
        raise CatalogError(f"{file}: {error}") from error


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise CatalogError(f"{path}: is larger than {_MOST_BYTES} bytes, so it is neither catalogue nor configuration")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CatalogError(f"{path}: is not text in UTF-8") from error
