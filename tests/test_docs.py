"""Every command in README is run, in its order, in a scratch folder; a command that nobody runs fails here."""

import functools
import itertools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
README_ADDRESS = "127.0.0.1:50051"
# `make demo` is run by end_to_end/test_demo.py; `make test` is what runs this test.
RUN_ELSEWHERE = {"make demo": "tools/demo.py", "make test": "pytest"}
# Shorter than README says; end_to_end/ runs the whole suite, and agent/test_verify.py what repeats.
SHORTER = {
    "weighin-agent run --no-submit": "weighin-agent run --no-submit --suite quick",
    "weighin-agent verify": "weighin-agent verify --repeats 1",
}


def commands(text: str) -> list[str]:
    """Return the lines of all shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


README = commands((ROOT / "README.md").read_text())


def free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


class Reader:
    """Somebody who types what README says, into a shell with its own home and a free port in place of README's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tests").symlink_to(ROOT / "tests")  # README is read in a checkout
        self.address = free_address()
        self.server: subprocess.Popen[str] | None = None
        self.environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "WEIGHIN_STATE_DIR": str(folder / "state"),
        }

    def type(self, line: str) -> None:
        words = shlex.split(SHORTER.get(line, line).replace(README_ADDRESS, self.address))
        if words[:2] == ["weighin-aggregator", "serve"]:
            self.serve(words)
            return
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        # `verify` answers no where the machine is too noisy to prove anything, `check` where it is too slow for the
        # model: that is an answer, not a fault. So it is where `run` says that others left it too little to measure by.
        may_say_no = words[:2] in (["weighin-agent", "verify"], ["weighin-agent", "check"])
        may_say_no |= words[:2] == ["weighin-agent", "run"] and "Disturbed: " in done.stdout
        answers = (0, 1) if may_say_no else (0,)
        assert done.returncode in answers, f"{line}\n{done.stdout}\n{done.stderr}"

    def serve(self, words: list[str]) -> None:
        """The terminal that stays open; README uses the default port, which a test must not take."""
        command = [*words, "--listen", self.address]
        self.server = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert self.server.stdout
        assert self.server.stdout.readline().strip() == f"listening on {self.address}"

    def leave(self) -> None:
        if self.server:
            with self.server:
                self.server.send_signal(signal.SIGINT)
                assert self.server.wait(timeout=30) == 0


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    someone = Reader(tmp_path)
    yield someone
    someone.leave()


def test_the_two_commands_come_first() -> None:
    assert README[:2] == ["make demo", "make test"]


def test_what_is_run_shorter_is_in_the_text() -> None:
    assert set(SHORTER) <= set(README)


@pytest.mark.parametrize("line", RUN_ELSEWHERE)
def test_a_command_that_is_run_elsewhere_really_is(line: str) -> None:
    """Asked of make itself."""
    plan = subprocess.run(["make", "-n", *line.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert RUN_ELSEWHERE[line] in plan.stdout


@pytest.mark.slow
def test_every_other_command_works_in_the_order_of_the_text(reader: Reader) -> None:
    for line in README:
        if line in RUN_ELSEWHERE or line == ". .venv/bin/activate":
            continue
        reader.type(line)
    assert (reader.folder / "report" / "index.html").is_file()


DOCUMENTS = sorted(
    [*(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/README.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
)


def mentions(text: str) -> list[str]:
    """Return every command of ours that a document mentions, in code spans and in blocks, without explanations."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [*blocks.splitlines(), *spans]
    return [re.split(r"\s{3,}|,", line)[0] for line in lines if re.match(r"weighin-(agent|aggregator|analysis) ", line)]


@functools.cache
def help_of(program: str, *verbs: str) -> tuple[int, str]:
    """Return the exit code and the text of a command's help, which many documents ask for."""
    shown = subprocess.run([BIN / program, *verbs, "--help"], capture_output=True, text=True, check=False)
    return shown.returncode, shown.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_mentions_exists_with_its_options(document: Path) -> None:
    """By the help of the installed programs."""
    for line in mentions(document.read_text()):
        program, *words = line.replace("[", " ").replace("]", " ").split()
        before_options = itertools.takewhile(lambda word: not word.startswith("-"), words)
        verbs = [word for word in before_options if re.fullmatch("[a-z]+", word)][:2]  # as `token create`
        code, shown = help_of(program, *verbs)
        assert code == 0, f"{document.name}: {line}"
        missing = [word for word in words if word.startswith("--") and word.split("=")[0] not in shown]
        assert missing == [], f"{document.name}: {line}"


def test_the_documents_do_mention_commands() -> None:
    """So that the test above cannot pass by finding none."""
    found = {line.split()[0] for document in DOCUMENTS for line in mentions(document.read_text())}
    assert found == {"weighin-agent", "weighin-aggregator", "weighin-analysis"}


def test_links_in_the_documents_lead_somewhere() -> None:
    broken = []
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        targets = re.findall(r"\]\(([^)#]+)\)", document.read_text())
        local = [target for target in targets if "://" not in target]
        broken += [f"{document.name}: {target}" for target in local if not (document.parent / target).exists()]
    assert broken == []
