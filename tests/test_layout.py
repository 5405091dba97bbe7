"""The shape of the workspace: what is where, and what may be imported from where."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = {
    "proto": "weighin",
    "analysis": "weighin_analysis",
    "agent": "weighin_agent",
    "aggregator": "weighin_aggregator",
}
GENERATED = ("_pb2.py", "_pb2_grpc.py")
SOURCES = sorted(
    path
    for folder in (*(f"{member}/{package}" for member, package in MEMBERS.items()), "tests", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if not path.name.endswith(GENERATED)
)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_folder_holds_one_typed_package_and_no_init_of_its_own(member: str) -> None:
    """An __init__.py in `agent/` would make `import agent` work from the root, and hide a missing installation."""
    folder = ROOT / member
    assert not (folder / "__init__.py").exists()
    assert (folder / MEMBERS[member] / "__init__.py").exists()
    assert (folder / MEMBERS[member] / "py.typed").exists()
    assert tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"] == f"weighin-{member}"


def test_nothing_is_imported_by_a_name_that_belongs_to_others() -> None:
    """`proto` is another project's package; `agent` and `analysis` would be found in the working directory alone."""
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{path.name}: {name}" for name in names if name.split(".")[0] in MEMBERS]
    assert wrong == []


def test_importing_the_agent_reads_no_device_and_loads_no_runtime() -> None:
    """The runtime may crash at import on some processors: only a child process loads it."""
    code = (
        "import sys, pkgutil, importlib\n"
        "import weighin_agent.cli, weighin_agent.commands_device\n"
        "heavy = {'onnxruntime', 'onnx', 'cpuinfo', 'duckdb', 'pyarrow', 'altair'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_agents_requirements_hold_no_store_no_charts_and_no_server() -> None:
    """Followed through every requirement of a requirement, extras aside."""
    seen: set[str] = set()
    waiting = ["weighin-agent"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        needed = [Requirement(text) for text in requires(name) or ()]
        waiting += [r.name.lower() for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    assert not seen & {"duckdb", "pyarrow", "altair", "vl-convert-python", "jinja2", "scipy", "weighin-aggregator"}
    assert {"weighin-proto", "weighin-analysis", "onnxruntime"} <= seen


def test_committed_text_names_no_index_and_no_machine() -> None:
    """constraints.txt holds versions alone."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if "://" in line or line.startswith("-") or "==" not in line] == []
