"""Generate the Python code of the contract from proto/weighin/v1/*.proto.

python tools/generate.py           write it beside the .proto files
python tools/generate.py --check   exit 1 if the committed code differs from what would be written
"""

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent.parent / "proto"


def generate(target: Path) -> None:
    """Write the generated code below ``target``; service stubs only for services.proto."""
    sources = sorted(str(path) for path in PROTO.glob("weighin/v1/*.proto"))
    services = [path for path in sources if path.endswith("services.proto")]
    include = [f"-I{PROTO}", f"-I{files('grpc_tools') / '_proto'}"]
    messages = [f"--python_out={target}", f"--mypy_out={target}"]
    stubs = [f"--grpc_python_out={target}", f"--mypy_grpc_out={target}"]
    for flags, inputs in ((messages, sources), (stubs, services)):
        if protoc.main(["protoc", *include, *flags, *inputs]) != 0:
            sys.exit("generate: protoc failed, see above")


def stale(committed: Path, fresh: Path) -> list[str]:
    """Return the generated files that are missing, left over or different in ``committed``."""
    names = {p.relative_to(root).as_posix() for root in (committed, fresh) for p in root.glob("weighin/v1/*_pb2*.py*")}
    return sorted(name for name in names if _content(committed / name) != _content(fresh / name))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main() -> None:
    """Generate, or check that the committed code is current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the committed code is not current")
    if not parser.parse_args().check:
        return generate(PROTO)
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        if differing := stale(PROTO, Path(folder)):
            sys.exit("generated code is not current, run `make generate`: " + ", ".join(differing))
    return None


if __name__ == "__main__":
    main()
