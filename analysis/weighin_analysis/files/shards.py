"""The files that one model was split into, found by their names: ``NAME-00001-of-00003.gguf``."""

import re
from pathlib import Path

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files.reading import beside, shown

_SHARD = re.compile(r"(?P<head>.*?[-.])(?P<number>\d{1,6})-of-(?P<count>\d{1,6})(?P<tail>.*)", re.DOTALL)
_NUMBERED = re.compile(r"consolidated\.\d\d\.safetensors", re.ASCII)  # as Mistral names them: how many is not said
_MOST_SHARDS = 1024


def shards(path: Path) -> tuple[Path, ...]:
    """Return all files of the model that ``path`` is a part of, in order; ``path`` alone where it is the whole.

    Parts are looked for in the folder of ``path`` only. ModelFileError names the first that is missing.
    """
    if _NUMBERED.fullmatch(path.name):
        return _numbered(path)
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    if not 1 <= int(match["number"]) <= count <= _MOST_SHARDS:
        raise ModelFileError(f"{shown(path.name)}: is not a part from 1 to {_MOST_SHARDS} of a model")
    return tuple(_part(path, match, number) for number in range(1, count + 1))


def _numbered(path: Path) -> tuple[Path, ...]:
    """Return the parts up to the last that is there: nothing tells whether another follows."""
    names = [f"consolidated.{number:02}.safetensors" for number in range(100)]
    last = max(names.index(name) for name in names if name == path.name or (path.parent / name).is_file())
    return tuple(path if name == path.name else beside(path, name) for name in names[: last + 1])


def _part(path: Path, match: re.Match[str], number: int) -> Path:
    """Return a part; numbers are filled up with zeros by most publishers, and by some they are not."""
    if number == int(match["number"]):
        return path
    names = [
        f"{match['head']}{digits}-of-{match['count']}{match['tail']}"
        for digits in (f"{number:0{len(match['number'])}}", str(number))
    ]
    found = next((name for name in names if (path.parent / name).is_file()), names[0])
    return beside(path, found)


def model_of_part(name: str) -> str:
    """Return what the names of all parts of a model have in common, the name itself where it is the whole."""
    numbered, match = _NUMBERED.fullmatch(name), _SHARD.fullmatch(name)
    if numbered:
        return "consolidated.*.safetensors"
    return name if match is None else f"{match['head']}*-of-{match['count']}{match['tail']}"
