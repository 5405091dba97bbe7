"""What docs/tiers.md shows runs, in its order."""

import os
import re
import subprocess
import sys
from pathlib import Path

from made_fleet import make_fleet

DOC = (Path(__file__).resolve().parents[2] / "docs" / "tiers.md").read_text(encoding="utf-8")
BIN = str(Path(sys.executable).parent)


def test_commands_and_program_of_the_page_run(tmp_path: Path) -> None:
    make_fleet(tmp_path / "snapshot", devices=20, seed=1, measurements_per_run=0)
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", DOC, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == ["sh", "sh", "python"]
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    answers = []
    for kind, text in blocks:
        command = ["sh", "-e", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), text
        answers.append(done.stdout)
    assert "Limits our-app-1" in answers[1]
    assert answers[2].count("\n") >= 2, "a line per tier"
