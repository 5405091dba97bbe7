"""Which file of a folder is meant, and of which format a file is: judged by what it holds."""

import os
from pathlib import Path

import onnx
import pytest
from made_model_files import llama_tensors, small_onnx, write_gguf, write_safetensors

from weighin_analysis.errors import ModelFileError
from weighin_analysis.files import inspect
from weighin_analysis.sizes.artefact import Format


def gguf_at(path: Path) -> Path:
    return write_gguf(path, {"a.weight": (8, 256)}, metadata={})


def safetensors_at(path: Path) -> Path:
    return write_safetensors(path, {"a": ("F32", (8, 8))})


def onnx_at(path: Path) -> Path:
    onnx.save(small_onnx(), path, format="protobuf")
    return path


WRITERS = {Format.GGUF: gguf_at, Format.SAFETENSORS: safetensors_at, Format.ONNX: onnx_at}


@pytest.mark.parametrize("suffix", [".gguf", ".onnx", ".safetensors", ".bin", ""])
@pytest.mark.parametrize("form", WRITERS)
def test_a_renamed_file_is_what_it_holds(tmp_path: Path, form: Format, suffix: str) -> None:
    assert inspect(WRITERS[form](tmp_path / f"model{suffix}")).format is form


@pytest.mark.parametrize("form", WRITERS)
def test_a_folder_with_one_model_is_that_model(tmp_path: Path, form: Format) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    path = WRITERS[form](tmp_path / f"weights.{form}")
    assert inspect(tmp_path).files == (path,)


def test_the_onnx_folder_of_a_model_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    path = onnx_at(tmp_path / "onnx" / "model.onnx")
    assert inspect(tmp_path).files == (path,)


def test_of_a_folder_with_several_models_one_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    for name in ("model.onnx", "model_q4.onnx"):
        onnx_at(tmp_path / "onnx" / name)
    safetensors_at(tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError) as caught:
        inspect(tmp_path)
    names = [str(Path("onnx") / "model.onnx"), str(Path("onnx") / "model_q4.onnx"), "model.safetensors"]
    assert all(name in str(caught.value) for name in names)
    assert "name one" in str(caught.value)


def test_numbered_parts_without_their_count_are_one_model(tmp_path: Path) -> None:
    paths = [tmp_path / f"consolidated.{number:02}.safetensors" for number in range(3)]
    for path in paths:
        write_safetensors(path, {path.stem: ("F32", (8, 8))})
    assert inspect(tmp_path).parameters == inspect(paths[1]).parameters == 3 * 64
    paths[1].unlink()
    with pytest.raises(ModelFileError, match=r"consolidated\.01\.safetensors: No such file"):
        inspect(tmp_path)


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"holds no \.gguf, \.onnx or \.safetensors file"):
        inspect(tmp_path)


def test_the_current_folder_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=r"^\.: holds no"):
        inspect(Path())


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "is empty"),
        (b"GG", "too few for a model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"PK\x03\x04" + bytes(40), "ZIP archive"),
        (b"\x80\x02}q\x00" + bytes(40), "pickle"),
        (bytes(4) + b"TFL3" + bytes(40), "LiteRT"),
        (b"tjgg" + bytes(40), "before GGUF"),
        (b"Once upon a time there was no model.", "none of the files"),
        (bytes(64), "none of the files"),
    ],
)
def test_what_is_no_model_is_told_by_its_first_bytes(tmp_path: Path, head: bytes, reason: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(head)
    with pytest.raises(ModelFileError, match=reason):
        inspect(path)


def test_a_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"missing\.gguf: No such file"):
        inspect(tmp_path / "missing.gguf")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_name_that_no_file_can_have_is_an_error_like_any_other(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError):
        inspect(tmp_path / name)


def test_neither_pipe_nor_device_nor_loop_of_links_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    for path in (tmp_path / "pipe.gguf", tmp_path / "loop.gguf", Path("/dev/zero")):
        with pytest.raises(ModelFileError):
            inspect(path)


def test_a_cache_of_downloads_keeps_its_files_behind_links(tmp_path: Path) -> None:
    """Names in one folder lead to contents in another, as download caches lay them."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    written = tmp_path / "model.onnx"
    onnx.save(small_onnx(), written, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    for name in ("model.onnx", "model.onnx_data"):
        (tmp_path / name).rename(blobs / f"hash of {name}")
        (snapshot / name).symlink_to(blobs / f"hash of {name}")
    found = inspect(snapshot / "model.onnx")
    assert found.file_bytes == sum(path.stat().st_size for path in blobs.iterdir())


def test_a_name_from_a_file_is_shown_without_its_control_characters(tmp_path: Path) -> None:
    general = {"general.name": "red \x1b[31m\n alert" + "!" * 200}
    found = inspect(write_gguf(tmp_path / "m.gguf", llama_tensors(), general=general))
    assert found.entry.name.isprintable()
    assert len(found.entry.name) < 100
