"""Which rows are predicted, and from which runs."""

from made_rows import THROUGHPUT, row_of

from weighin_analysis.measurement import Phase
from weighin_analysis.public.cells import Cell, cells, from_one, from_two, other_runs
from weighin_analysis.public.rows import PublicRow, read_rows

SIZES = {"a": 1, "b": 2, "c": 4}


def made(*names: str, **changes: str) -> list[PublicRow]:
    """Rows of unknown models a, b and c, of 1, 2 and 4 GB."""
    return [
        row_of(model=f"unheard-of {name}", model_size_bytes=f"{SIZES[name]}000000000", parameters="1", **changes)
        for name in names
    ]


def found(rows: list[PublicRow], *, hard: bool = False) -> tuple[Cell, ...]:
    return cells(rows, Phase.DECODE, hard=hard)[0]


def test_a_row_is_predicted_from_the_nearest_two_other_models() -> None:
    (question, *_) = from_two(other_runs(found(made("a", "b", "c"))))
    assert question.far is not None
    assert [question.cell.work, question.near.work, question.far.work] == [1e9, 2e9, 4e9]


def test_neither_itself_nor_another_source_of_the_same_model_predicts_a_row() -> None:
    runs = other_runs(found([*made("a"), *made("a", source="https://example.org/other"), *made("b")]))
    assert [len(others) for others in runs.values()] == [1, 1, 2]


def test_runs_on_another_device_backend_runtime_or_quantization_tell_nothing() -> None:
    others = [{"device": "tablet"}, {"backend": "GPU"}, {"runtime": "MNN"}, {"quantization": "Q8_0"}]
    rows = [*made("a"), *(row for other in others for row in made("b", **other))]
    assert from_two(other_runs(found(rows))) == from_one(other_runs(found(rows))) == ()


def test_through_two_runs_of_one_size_there_is_no_line() -> None:
    rows = [*made("a", "b"), row_of(model="unheard-of twin of b", model_size_bytes="2000000000", parameters="1")]
    assert [question.cell.model for question in from_two(other_runs(found(rows)))] == [
        "unheard-of b",
        "unheard-of twin of b",
    ]


def test_from_one_run_every_cell_counts_once_in_all() -> None:
    questions = from_one(other_runs(found(made("a", "b", "c"))))
    assert len(questions) == 6
    assert sum(question.weight for question in questions) == 3


def test_rows_that_are_left_out_are_counted_with_the_reason() -> None:
    rows = [
        row_of(is_moe="1"),
        row_of(confidence="low"),
        row_of(notes="2 threads; 2-thread tg: not bandwidth-saturated"),
        row_of(model="Qwen3.5-2B", parameters="2274069824"),
        row_of(quantization="IQ2_M (labelled iq1_s)"),
        row_of(model="unheard-of", model_size_bytes=""),
        row_of(),
    ]
    easy, reasons = cells(rows, Phase.DECODE, hard=False)
    assert len(easy) == 1
    assert set(reasons.values()) == {1}
    assert len(reasons) == 6
    assert len(found(rows, hard=True)) == 3


def test_the_easy_subset_of_the_public_file_is_about_that_of_its_recipe() -> None:
    """The recipe counts 934 and 613 rows of 83 devices "on nearly these rows"."""
    rows = read_rows(THROUGHPUT)
    assert len(cells(rows, Phase.DECODE, hard=True)[0]) == 902
    easy = cells(rows, Phase.DECODE, hard=False)[0]
    assert (len(easy), len({cell.row.device for cell in easy})) == (602, 82)
