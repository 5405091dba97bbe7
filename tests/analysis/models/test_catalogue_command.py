import json
import subprocess
import sys
from pathlib import Path

import pytest

from weighin_analysis.models.catalogue import catalogue, entry
from weighin_analysis.models.catalogue_file import format_entry, parse_catalogue

COMMAND = str(Path(sys.executable).with_name("weighin-analysis"))
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 100,
}
NEW = ("--name", "Mine-95K", "--source", "https://example.org/config.json")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "catalogue", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(format_entry(entry("GPT-2")).rstrip("\n"), encoding="utf-8")
    return path


def test_the_catalogue_of_the_package_has_no_fault() -> None:
    done = run("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"models: {len(catalogue())}, ")
    assert done.stdout.endswith("problems: 0\n")


def test_a_check_as_json_is_one_document(own: Path) -> None:
    done = run("check", "--file", own, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"models": 1, "shapes": 1, "problems": []}


def test_a_file_with_a_wrong_count_fails_and_says_which(own: Path) -> None:
    own.write_text(own.read_text(encoding="utf-8").replace("124_439_808", "124_439_809"), encoding="utf-8")
    done = run("check", "--file", own)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0] == "GPT-2: parameters: 124,439,809, but its shape has 124,439,808"
    assert json.loads(run("check", "--file", own, "--json").stdout)["problems"] == done.stdout.splitlines()[:1]


def test_a_model_without_a_file_is_printed_as_it_would_be_added(config: Path) -> None:
    done = run("add", config, *NEW)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = parse_catalogue(done.stdout)
    assert (found.name, found.parameters, found.context_tokens) == ("Mine-95K", 95_040, 512)


def test_a_model_is_added_behind_those_that_are_there(config: Path, own: Path) -> None:
    done = run("add", config, *NEW, "--file", own)
    assert (done.returncode, done.stdout) == (0, f"{own}: added Mine-95K, 95,040 parameters\n")
    assert [one.name for one in parse_catalogue(own.read_text(encoding="utf-8"))] == ["GPT-2", "Mine-95K"]
    assert run("check", "--file", own).returncode == 0


def test_a_file_that_is_not_there_is_begun(config: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    assert run("add", config, *NEW, "--file", new).returncode == 0
    assert [one.name for one in parse_catalogue(new.read_text(encoding="utf-8"))] == ["Mine-95K"]


@pytest.mark.parametrize("name", ["Q4_K_M", "7B", "Llama", "Mine-GGUF", "Mi\x1bne", "Mine\n"])
def test_a_name_by_which_nobody_would_find_the_model_is_refused(config: Path, own: Path, name: str) -> None:
    before = own.read_bytes()
    done = run("add", config, "--name", name, "--source", "https://example.org", "--file", own)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "name: " in done.stderr
    assert own.read_bytes() == before


def test_experts_of_a_kind_without_any_are_not_counted_as_dense(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG | {"num_local_experts": 8}), encoding="utf-8")
    done = run("add", path, *NEW)
    assert (done.returncode, done.stdout) == (1, "")
    assert "num_local_experts" in done.stderr


def test_an_addition_as_json_is_one_document(config: Path, own: Path) -> None:
    document = json.loads(run("add", config, *NEW, "--file", own, "--json").stdout)
    assert document["toml"] in own.read_text(encoding="utf-8")
    assert {key: document[key] for key in ("model", "parameters", "active_parameters", "file")} == {
        "model": "Mine-95K",
        "parameters": 95_040,
        "active_parameters": None,
        "file": str(own),
    }


@pytest.mark.parametrize("name", ["gpt 2", "GPT-2-small"])
def test_a_name_that_exists_is_refused_and_the_file_stays_as_it_is(config: Path, own: Path, name: str) -> None:
    before = own.read_bytes()
    for file in ((), ("--file", own)):
        done = run("add", config, "--name", name, "--source", "https://example.org", *file)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"weighin-analysis: {name}: the catalogue already has it, as GPT-2")
    assert own.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "source", "complaint"),
    [
        (b'{"model_type": "mamba"}', "https://a", "Mine: config.json: model_type: 'mamba' is none of"),
        (b"{", "https://a", "Mine: the configuration is not JSON"),
        (b"\xff\xfe", "https://a", "is not text in UTF-8"),
        (b" " * (2**24 + 1), "https://a", "is larger than 16777216 bytes"),
        (json.dumps(CONFIG).encode(), "config.json", "Mine: source: must be a public address"),
    ],
)
def test_what_cannot_be_added_is_refused_in_one_line(
    tmp_path: Path, own: Path, content: bytes, source: str, complaint: str
) -> None:
    before = own.read_bytes()
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    done = run("add", path, "--name", "Mine", "--source", source, "--file", own)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert complaint in done.stderr
    assert own.read_bytes() == before


def test_a_file_that_is_not_there_or_no_catalogue_is_refused_in_one_line(tmp_path: Path, config: Path) -> None:
    missing = tmp_path / "none.toml"
    for arguments in (("check", "--file", missing), ("check", "--file", config), ("add", missing, *NEW)):
        done = run(*arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


@pytest.mark.parametrize("arguments", [(), ("check",), ("add",)])
def test_help_shows_an_example(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--help")
    assert done.returncode == 0
    assert "example: weighin-analysis catalogue" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("add",), ("check", "more"), ("remove",)])
def test_a_wrong_call_ends_with_two(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2
