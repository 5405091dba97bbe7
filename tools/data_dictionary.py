"""Write docs/data-dictionary.md from the comments of the contract: every field that leaves a device.

python tools/data_dictionary.py           write it
python tools/data_dictionary.py --check   exit 1 where it is not current, or a field has no comment
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "data-dictionary.md"

# What an agent sends, and when.
SENT: Mapping[str, str] = {
    "SubmitRunsRequest": "when runs are delivered",
    "EnrollRequest": "once, at `weighin-agent enroll`, and after a certificate has expired",
    "RenewCredentialRequest": "before a certificate expires",
    "DeleteDeviceDataRequest": "at `weighin-agent forget`",
}
# Bytes that are a message of their own, so that their hash can travel with them.
_WITHIN = {("RunEnvelope", "run"): "Run"}
_UNITS: Mapping[str, str] = {
    "_bytes_per_second": "bytes/s",
    "_bytes": "bytes",
    "_hertz": "Hz",
    "_celsius": "°C",
    "_seconds": "s",
    "_share": "0 to 1",
    "_flops": "operations/s",
    "_count": "count",
    "_time": "UTC",
    "elapsed": "s",
}
# Numbers of the fields in google/protobuf/descriptor.proto, of which the path of a comment is made.
_MESSAGES, _FIELDS = 4, 2
_INTRODUCTION = """# Data dictionary

Every field of every message that an agent sends, written by `tools/data_dictionary.py` from the comments of
`proto/weighin/v1/`; a field without a comment does not pass `make check`. `weighin-agent preview` prints your own
device's message. What is never read or sent, who sees it and how it is deleted: [privacy.md](privacy.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """A message of the contract: what is said of it, and of each of its fields; empty where nothing is."""

    name: str
    about: str
    fields: Sequence[tuple[FieldDescriptorProto, str]]


def dictionary(contract: Sequence[FileDescriptorProto]) -> str:
    """Return the document; SystemExit names the fields that leave a device without a comment."""
    known = {one.name: one for file in contract for one in _messages(file)}
    enums = {f".{file.package}.{enum.name}": _words(enum) for file in contract for enum in file.enum_type}
    written: list[_Message] = []
    lines = [_INTRODUCTION]
    for root, when in SENT.items():
        lines += [f"## {root}", "", f"Sent {when}.", ""]
        for message in _reached(known[root], known):
            if message not in written:
                lines += [*([] if message.name == root else [f"### {message.name}", ""]), *_section(message, enums)]
                written.append(message)
    if missing := [f"{one.name}.{field.name}" for one in written for field, comment in one.fields if not comment]:
        sys.exit(f"data dictionary: the contract does not say what these fields are: {', '.join(missing)}")
    return "\n".join(lines).rstrip("\n") + "\n"


def _messages(file: FileDescriptorProto) -> Iterator[_Message]:
    located = file.source_code_info.location
    comments = {tuple(one.path): " ".join(one.leading_comments.split()) for one in located}
    for number, message in enumerate(file.message_type):
        yield _Message(
            name=message.name,
            about=comments.get((_MESSAGES, number), ""),
            fields=[
                (field, comments.get((_MESSAGES, number, _FIELDS, place), ""))
                for place, field in enumerate(message.field)
            ],
        )


def _reached(message: _Message, known: Mapping[str, _Message]) -> Iterator[_Message]:
    """Yield a message and all that it holds."""
    yield message
    for field, _ in message.fields:
        inner = _WITHIN.get((message.name, field.name)) or _name_of(field)
        if inner in known:
            yield from _reached(known[inner], known)


def _section(message: _Message, enums: Mapping[str, str]) -> Iterator[str]:
    if message.about:
        yield from (message.about, "")
    yield from ("| field | type | unit | meaning and purpose |", "|---|---|---|---|")
    for field, comment in message.fields:
        yield _row(field, comment, enums)
    yield ""


def _row(field: FieldDescriptorProto, comment: str, enums: Mapping[str, str]) -> str:
    kind = _name_of(field) or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    many = "list of " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    optional = ", may be absent" if field.proto3_optional else ""
    unit = next((unit for end, unit in _UNITS.items() if field.name.endswith(end) and kind != "bytes"), "")
    words = enums.get(field.type_name, "")
    meaning = f"{comment} One of: {words}." if words else comment
    return f"| `{field.name}` | {many}{kind}{optional} | {unit} | {meaning.replace('|', '/')} |"


def _name_of(field: FieldDescriptorProto) -> str:
    """Return the name of a message or enum, empty for a plain type."""
    return field.type_name.rpartition(".")[2]


def _words(enum: EnumDescriptorProto) -> str:
    """Return the values of an enum as words, without the first, which is unspecified."""
    prefix = enum.value[0].name.removesuffix("UNSPECIFIED")
    return ", ".join(one.name.removeprefix(prefix).lower() for one in enum.value[1:])


def contract() -> Sequence[FileDescriptorProto]:
    """Return the files of the contract with their comments."""
    proto = ROOT / "proto"
    sources = sorted(str(path) for path in proto.glob("weighin/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract"
        include = [f"-I{proto}", f"-I{files('grpc_tools') / '_proto'}"]
        if protoc.main(["protoc", *include, "--include_source_info", f"--descriptor_set_out={out}", *sources]) != 0:
            sys.exit("data dictionary: protoc failed, see above")
        return FileDescriptorSet.FromString(out.read_bytes()).file


def main() -> int:
    """Write the document, or check it."""
    parser = argparse.ArgumentParser(description="Write docs/data-dictionary.md from the contract.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where it is not current")
    options = parser.parse_args()
    wanted = dictionary(contract())
    if not options.check:
        DOCUMENT.write_text(wanted, encoding="utf-8")
        return 0
    is_current = DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == wanted
    if not is_current:
        print("docs/data-dictionary.md is not current: run tools/data_dictionary.py", file=sys.stderr)
    return int(not is_current)


if __name__ == "__main__":
    sys.exit(main())
