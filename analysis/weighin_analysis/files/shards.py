"""The files that one model was split into, found by their names: ``NAME-00001-of-00003.gguf``."""

import re
from pathlib import Path

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files.reading import beside, shown

_SHARD = re.compile(r"(?P<head>.*?[-.])(?P<number>\d{1,6})(?P<of>-of-)(?P<count>\d{1,6})(?P<tail>.*)", re.DOTALL)
_MOST_SHARDS = 1024


def shards(path: Path) -> tuple[Path, ...]:
    """Return all files of the model that ``path`` is a part of, in order; ``path`` alone where it is the whole.

    Parts are looked for in the folder of ``path`` only. ModelFileError names the first that is missing.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return (path,)
    count, digits = int(match["count"]), len(match["number"])
    if not 1 <= int(match["number"]) <= count <= _MOST_SHARDS:
        raise ModelFileError(f"{shown(path.name)}: is not a part from 1 to {_MOST_SHARDS} of a model")
    found = []
    for number in range(1, count + 1):
        name = f"{match['head']}{number:0{digits}}{match['of']}{match['count']}{match['tail']}"
        found.append(path if name == path.name else beside(path, name))
    return tuple(found)


def first_shard(name: str) -> str:
    """Return the name of the first part of the model that a file name belongs to, the name itself where it is whole."""
    match = _SHARD.fullmatch(name)
    if match is None:
        return name
    return f"{match['head']}{1:0{len(match['number'])}}{match['of']}{match['count']}{match['tail']}"
