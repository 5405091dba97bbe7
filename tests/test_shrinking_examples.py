"""Every worked example of docs/shrinking.md is computed again and compared with what the page says."""

import re
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.requirement import Setting
from weighin_analysis.answers.shrunk import WhatIfResult, apply_all
from weighin_analysis.architecture import Architecture, ArchitectureKind, FeedForward
from weighin_analysis.cli import main
from weighin_analysis.models.catalogue import entry
from weighin_analysis.models.entry import CountBasis, ModelEntry, ModelKind
from weighin_analysis.models.shape import Norm, Shape
from weighin_analysis.models.tensors import parameter_count
from weighin_analysis.shrinking.adapter import adapter
from weighin_analysis.shrinking.reshape import shape_of
from weighin_analysis.shrinking.sparse import compressed_row_bits, least_bits
from weighin_analysis.shrinking.what_if import Lora, Prune, parse_what_if
from weighin_analysis.shrinking.work import Work, matrices_passed, stored_layer_weights
from weighin_analysis.sizes.artefact import Format

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "shrinking.md").read_text()
UNITS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}

# Not to be downloaded, so not in the catalogue; the largest model that the paper on LoRA adapts
# (https://arxiv.org/abs/2005.14165, table 2.1).
GPT_3 = ModelEntry(
    name="GPT-3 175B",
    kind=ModelKind.DECODER,
    parameters=None,
    count_basis=CountBasis.UNDISCLOSED,
    source="https://arxiv.org/abs/2005.14165",
    shape=Shape(
        architecture=Architecture(
            name="GPT-3 175B",
            kind=ArchitectureKind.DECODER,
            layers=96,
            hidden=12288,
            ffn=4 * 12288,
            heads=96,
            kv_heads=96,
            head_dim=128,
            vocab=50257,
            tied_embeddings=True,
            feed_forward=FeedForward.GELU,
        ),
        norm=Norm.LAYER,
    ),
)


def table(heading: str) -> list[dict[str, str]]:
    """Return the rows of all tables below a heading, cells by the names of their columns."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows: list[dict[str, str]] = []
    for block in section.split("\n\n"):
        if block.startswith("| "):
            lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            rows += [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    return rows


EXAMPLES = table("Worked examples")
SPEEDS = [row for row in table("Work and published speed") if "what-if" in row]
SHARED = [row for row in table("Work and published speed") if "what-if" not in row]


def model_of(row: dict[str, str]) -> ModelEntry:
    name, _, untied = row["model"].partition(", ")
    model = GPT_3 if name == GPT_3.name else entry(name)
    if not untied:
        return model
    assert untied == "untied"
    shape = shape_of(model)
    apart = replace(shape, architecture=replace(shape.architecture, tied_embeddings=False))
    return replace(model, shape=apart, parameters=parameter_count(apart))


def what_ifs_of(row: dict[str, str]) -> list[str]:
    return re.findall(r"`([^`]+)`", row["what-if"])


def result_of(row: dict[str, str], where: str) -> WhatIfResult:
    """The last result of a row; ``where`` is a format and a scheme, such as GGUF Q4_K_M."""
    file_format, scheme = where.split()
    candidate = Candidate(entry=model_of(row), format=Format(file_format.lower()), scheme=scheme)
    what_ifs = [parse_what_if(text) for text in what_ifs_of(row)]
    return apply_all(what_ifs, candidate, Setting(context_tokens=2048, prompt_tokens=512))[-1]


def computed(row: dict[str, str]) -> int:
    figure, _, where = row["figure"].partition(", ")
    shape, texts = model_of(row).shape, what_ifs_of(row)
    if figure.startswith("adapter"):
        what_if = parse_what_if(texts[0])
        assert isinstance(what_if, Lora)
        found = adapter(what_if, row["model"], shape_of(model_of(row)))
        return found.bytes if figure == "adapter bytes" else found.parameters
    if figure in {"compressed rows", "zeros alone"}:
        assert shape is not None
        what_if = parse_what_if(texts[0])
        assert isinstance(what_if, Prune)
        per_weight = compressed_row_bits if figure == "compressed rows" else least_bits
        bits = float(where.removesuffix("-bit layers"))
        return round(stored_layer_weights(shape) * per_weight(bits, 1 - what_if.sparsity) / 8)
    if not texts:
        assert shape is not None
        counted = {
            "parameters": model_of(row).parameters,
            "multiply-adds": sum(matrix.weight_count for matrix in matrices_passed(shape)),
        }[figure]
        assert counted is not None
        return counted
    result = result_of(row, where or "safetensors F32")
    if figure == "parameters":
        assert result.after.candidate.entry.parameters is not None
        return result.after.candidate.entry.parameters
    assert figure == "bytes"
    assert result.after.download_bytes is not None
    return result.after.download_bytes


def quantity(text: str) -> float:
    """The number of a cell, in its unit; what follows in brackets is the source."""
    match = re.match(r"([0-9.,]+) ?([A-Za-z]*)", text)
    assert match, text
    return float(match[1].replace(",", "")) * UNITS[match[2]]


def name_of(row: dict[str, str]) -> str:
    return f"{row['model']} {row['what-if']} {row.get('figure', '')}{row.get('work', '')}".strip()


@pytest.mark.parametrize("row", EXAMPLES, ids=name_of)
def test_a_worked_example_comes_out_as_the_page_says(row: dict[str, str]) -> None:
    assert f"{computed(row):,}" == row["computed"]


@pytest.mark.parametrize("row", EXAMPLES, ids=name_of)
def test_the_page_tells_how_far_a_figure_is_from_the_published_one(row: dict[str, str]) -> None:
    value = quantity(row["computed"])
    if " to " in row["published"]:
        low, high = map(quantity, row["published"].split(" to "))
        assert low <= value <= high
        assert row["off by"] == "within"
    else:
        assert row["off by"] == f"{value / quantity(row['published']) - 1:+.1%}".replace("%", " %")


@pytest.mark.parametrize("row", EXAMPLES, ids=name_of)
def test_every_example_names_a_source_that_the_page_lists(row: dict[str, str]) -> None:
    assert re.search(rf"^{re.escape(row['source'])}\. .*https://", PAGE, re.MULTILINE)


@pytest.mark.parametrize("row", SPEEDS, ids=name_of)
def test_work_comes_out_as_the_page_says_and_bounds_the_published_speed(row: dict[str, str]) -> None:
    """The work says by how much a technique speeds a model up at most; 3 % are left for the noise of a publication."""
    kind, _, where = row["work"].partition(", ")
    result = result_of(row, where or "safetensors F32")
    before, after = (amount(kind, work) for work in (result.work_before, result.work_after))
    assert (f"{before:,}", f"{after:,}") == (row["before"], row["after"])
    assert row["ratio"] == f"{before / after:.2f}"
    assert float(row["published"].partition(" ")[0]) <= before / after * 1.03


@pytest.mark.parametrize("row", SHARED, ids=lambda row: str(row["model"]))
def test_shared_layers_save_parameters_and_no_work(row: dict[str, str]) -> None:
    model = entry(row["model"])
    multiply_adds = sum(matrix.weight_count for matrix in matrices_passed(shape_of(model)))
    assert (row["parameters"], row["multiply-adds of a token"]) == (f"{model.parameters:,}", f"{multiply_adds:,}")


def test_the_command_that_the_page_shows_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    command = re.search(r"`weighin-analysis ([^`]*--what-if[^`]*)`", PAGE)
    shown = re.search(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert command
    assert shown
    assert main(command[1].split()) == 0
    assert textwrap.indent(shown[1], "  ") in capsys.readouterr().out


def amount(kind: str, work: Work | None) -> int:
    assert work is not None
    return {"bytes read": work.weight_bytes_read, "multiply-adds": work.multiply_adds}[kind]


def test_every_technique_has_a_worked_example() -> None:
    shown = {re.split(r"[=]", text)[0] for row in (*EXAMPLES, *SPEEDS) for text in what_ifs_of(row)}
    techniques = {re.split(r"[=]", text)[0] for text in re.findall(r"`([a-z]+(?:-[a-z]+)?(?:=[^`]*)?)`", first_table())}
    assert shown == techniques - {"prune-heads"}  # no model was found that was published with heads pruned alone


def first_table() -> str:
    lines = [line for line in PAGE.split("\n## ", 1)[0].splitlines() if line.startswith("| ")]
    return "\n".join(line.split("|")[2] for line in lines[1:])
