"""What runs a model's file: each runtime its own format, and no other."""

import pytest

from weighin_analysis.answers.requirement import RUNTIMES, runtime_problem
from weighin_analysis.cli import main
from weighin_analysis.memory.runtimes import Runtime
from weighin_analysis.sizes.artefact import Format


def test_what_usually_runs_a_format_runs_it() -> None:
    assert {runtime.file_format: runtime_problem(runtime, form) for form, runtime in RUNTIMES.items()} == (
        dict.fromkeys(RUNTIMES, None)
    )


@pytest.mark.parametrize("runtime", Runtime)
def test_every_runtime_refuses_all_formats_but_one(runtime: Runtime) -> None:
    assert [form for form in Format if runtime_problem(runtime, form) is None] == [runtime.file_format]


def test_a_runtime_that_is_asked_for_decides_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["size", "Gemma-2B", "--runtime", "llama_cpp"]) == 0
    assert "gguf Q4_K_M\n" in capsys.readouterr().out


def test_a_format_that_the_runtime_does_not_run_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["size", "Gemma-2B", "--format", "onnx", "--runtime", "llama_cpp"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "weighin-analysis: llama_cpp runs gguf files and no onnx; name another --runtime or --format"
    ]
