import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from graph_pins import PINS, save_case
from reference_decoder import last_hidden_state
from tiny_cases import TINY, TINY_ENCODER

from weighin_agent.bench.graph import GraphBuilder, Value
from weighin_agent.bench.models import cache_dtype, save_full_model, save_head, save_layers
from weighin_agent.bench.session import HEAVY_OPERATORS, Model
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture, FeedForward
from weighin_analysis.catalog import architecture
from weighin_analysis.scheme import Scheme
from weighin_analysis.suite import SuiteCase, load_suite

SUITE = load_suite("standard")
CASES = {f"{case.architecture.name} {case.scheme}": case for case in SUITE.cases if not case.anchor}
NATURAL_BLOCK = make_block(SUITE.weights)
MATRIX_OPERATORS = {
    Scheme.INT4_BLOCK32: "MatMulNBits",
    Scheme.INT8_DYNAMIC: "DynamicQuantizeMatMul",
    Scheme.FP16: "MatMul",
}
MAX_CONTEXT = 64
# Below this a single-precision number is denormal, and arithmetic on it is many times slower on some processors.
LEAST_NORMAL = np.finfo(np.float32).tiny

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class SavedCase:
    name: str
    case: SuiteCase
    folder: Path
    hashes: dict[str, str]

    def model(self, name: str) -> Model:
        layers = {"layers.onnx": self.case.probe_layers, "short_layers.onnx": self.case.short_probe_layers}
        return load(
            self.folder / name,
            self.case.architecture,
            layers=layers.get(name, 0),
            max_context=SUITE.lengths.max_context_tokens,
        )


def load(path: Path, shape: Architecture, *, layers: int, max_context: int = MAX_CONTEXT) -> Model:
    return Model(
        path,
        shape,
        layers=layers,
        execution_provider="cpu",
        threads=1,
        max_context=max_context,
        clock=time.perf_counter,
    )


def save(path: Path, shape: Architecture, scheme: Scheme, *, layers: int | None = None) -> str:
    block = scheme_block(NATURAL_BLOCK, scheme)
    return save_layers(path, shape, scheme, layers=layers or shape.layers, max_context=MAX_CONTEXT, block=block)


@pytest.fixture(scope="module", params=CASES)
def saved(request: pytest.FixtureRequest) -> Iterator[SavedCase]:
    """A case of the standard suite as a child writes it; gone again before the next, for it takes 200 MB."""
    with tempfile.TemporaryDirectory() as folder:
        case = CASES[request.param]
        yield SavedCase(request.param, case, Path(folder), save_case(Path(folder), SUITE, case))


# The cases of the standard suite.


def test_the_graphs_are_the_pinned_ones(saved: SavedCase) -> None:
    """Equal hashes ran equal graphs: whoever changes one raises the version of the suite and writes the pins anew."""
    assert saved.hashes == json.loads(PINS.read_text())[saved.name]


def test_the_weights_have_the_bytes_of_the_true_shapes(saved: SavedCase) -> None:
    case = saved.case
    bytes_per_weight = case.scheme.stored_bytes_per_weight
    layers = case.probe_layers * case.architecture.layer_weight_count * bytes_per_weight
    # Beside them lie a small embedding, rotary tables, norms, scales per column, and gaps up to the next page.
    assert layers < (saved.folder / "layers.data").stat().st_size < 1.03 * layers + 6_000_000
    if case.head_columns:
        head = case.head_columns * case.architecture.hidden * bytes_per_weight
        assert head < (saved.folder / "head.data").stat().st_size < 1.03 * head + 6_000_000


def test_the_runtime_runs_them_on_the_cpu_with_results_of_order_one(saved: SavedCase) -> None:
    """Loading proves by the runtime's node assignment that all heavy operators are on the CPU provider."""
    for name in saved.hashes:
        model = saved.model(name)
        model.check_finite()
        decoder = saved.case.head_columns > 0
        for result in (model.result(32), model.result(1, 900 if decoder else 0)):
            assert np.isfinite(result).all()
            assert 0.2 < result.std() < 5


def test_the_graph_has_the_operators_of_a_real_model_in_their_true_number(saved: SavedCase) -> None:
    graph = onnx.load(saved.folder / "layers.onnx", load_external_data=False).graph
    found = [node.op_type for node in graph.node]
    layers, decoder = saved.case.probe_layers, saved.case.head_columns > 0
    assert found.count(MATRIX_OPERATORS[saved.case.scheme]) == (5 if decoder else 6) * layers
    assert found.count("GroupQueryAttention" if decoder else "MultiHeadAttention") == layers
    assert {op for op in found if "MatMul" in op or "Attention" in op} <= HEAVY_OPERATORS


# Denormal numbers: the trap that the zero mean of the weights closes.


def intermediate_tensors(folder: Path, shape: Architecture, layers: int, tokens: int) -> dict[str, Floats]:
    """Run a prefill of the layers in ``folder`` and return every tensor of it by name."""
    model = onnx.load(folder / "layers.onnx", load_external_data=False)
    names = [name for node in model.graph.node for name in node.output if name]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    onnx.save(model, folder / "all.onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(folder / "all.onnx", options)
    empty = np.zeros((1, shape.kv_heads, 0, shape.head_dim), np.float32)
    inputs: dict[str, npt.NDArray[Any]] = {f"past_{kind}{i}": empty for kind in ("key", "value") for i in range(layers)}
    inputs["ids"] = (np.arange(tokens, dtype=np.int64) * 37 % 256)[None]
    inputs["last_position"] = np.array([tokens - 1], np.int32)
    inputs["total_length"] = np.array([tokens], np.int32)
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


def attention_of_the_last_token(found: dict[str, Floats], shape: Architecture, layer: int) -> Floats:
    """The probabilities with which the last token looks at all tokens, per head, in double precision."""
    keys = np.repeat(found[f"key{layer}"][0].astype(np.float64), shape.heads // shape.kv_heads, axis=0)
    last, half = keys.shape[1] - 1, shape.head_dim // 2
    queries = f"layer{layer}.query.normed" if shape.query_key_norm else f"layer{layer}.qkv.out"
    query = found[queries][0, -1, : shape.heads * shape.head_dim].astype(np.float64)
    first, second = np.split(query.reshape(shape.heads, shape.head_dim), 2, axis=1)
    angles = last / 10_000 ** (np.arange(half) / half)  # keys in the cache are rotated already, the query is not
    rotated = np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=1
    )
    scores = np.einsum("hd,htd->ht", rotated, keys) / shape.head_dim**0.5
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def save_probe(folder: Path, case: SuiteCase, block: npt.NDArray[np.generic]) -> None:
    path, context = folder / "layers.onnx", SUITE.lengths.max_context_tokens
    save_layers(path, case.architecture, case.scheme, layers=case.probe_layers, max_context=context, block=block)


FOUR_BIT = [case for case in SUITE.cases if case.scheme is Scheme.INT4_BLOCK32]


@pytest.mark.parametrize("case", FOUR_BIT, ids=lambda case: case.architecture.name)
def test_no_number_of_a_layer_probe_is_denormal(case: SuiteCase) -> None:
    shape, layers = case.architecture, min(4, case.probe_layers)
    with tempfile.TemporaryDirectory() as folder:
        save_probe(Path(folder), replace(case, probe_layers=layers), scheme_block(NATURAL_BLOCK, case.scheme))
        found = intermediate_tensors(Path(folder), shape, layers, tokens=256)
        for name, tensor in found.items():
            assert np.isfinite(tensor).all(), name
            sizes = np.abs(tensor[tensor != 0])
            assert sizes.min() > LEAST_NORMAL, name
            assert sizes.max() < 1000, name
        least = min(attention_of_the_last_token(found, shape, i).min() for i in range(layers))
        assert least > 1e-12  # no token is looked at with a probability anywhere near 1e-38


def test_the_natural_mean_of_the_nibbles_would_make_attention_denormal() -> None:
    """The opposite of the test above, so that both show what they tell apart."""
    case = CASES["Qwen2.5-0.5B int4_block32"]
    with tempfile.TemporaryDirectory() as folder:
        save_probe(Path(folder), case, NATURAL_BLOCK)
        found = intermediate_tensors(Path(folder), case.architecture, case.probe_layers, tokens=256)
        shares = [attention_of_the_last_token(found, case.architecture, i) for i in range(case.probe_layers)]
        assert min(share.min() for share in shares) < LEAST_NORMAL


# Any shape.


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("shape", [TINY, TINY_ENCODER], ids=["decoder", "encoder"])
def test_every_scheme_gives_finite_results_of_order_one(shape: Architecture, scheme: Scheme, tmp_path: Path) -> None:
    save(tmp_path / "layers.onnx", shape, scheme)
    result = load(tmp_path / "layers.onnx", shape, layers=shape.layers).result(8)
    assert np.isfinite(result).all()
    assert 0.2 < result.std() < 5


def test_a_graph_is_the_same_bytes_again(tmp_path: Path) -> None:
    (tmp_path / "other folder").mkdir()
    first = save(tmp_path / "layers.onnx", TINY, Scheme.INT4_BLOCK32)
    second = save(tmp_path / "other folder" / "layers.onnx", TINY, Scheme.INT4_BLOCK32)
    assert first == second
    data = [folder / "layers.data" for folder in (tmp_path, tmp_path / "other folder")]
    assert data[0].read_bytes() == data[1].read_bytes()


def test_a_layer_more_or_another_scheme_is_another_graph(tmp_path: Path) -> None:
    graphs = [(scheme, layers) for scheme in Scheme for layers in (1, 2)]
    hashes = {save(tmp_path / "layers.onnx", TINY, scheme, layers=layers) for scheme, layers in graphs}
    assert len(hashes) == len(graphs)


def test_the_full_model_is_its_layers_and_then_its_head(tmp_path: Path) -> None:
    """With all columns in the slice, the head on the layers' result gives the full model's logits."""
    block = scheme_block(NATURAL_BLOCK, Scheme.FP32)
    save_full_model(tmp_path / "full.onnx", TINY, Scheme.FP32, max_context=MAX_CONTEXT, block=block)
    save(tmp_path / "layers.onnx", TINY, Scheme.FP32)
    hidden = load(tmp_path / "layers.onnx", TINY, layers=2).result(5)
    logits = load(tmp_path / "full.onnx", TINY, layers=2).result(5)
    assert (hidden.shape, logits.shape) == ((1, 1, TINY.hidden), (1, 1, TINY.vocab))
    head = np.frombuffer(_tensor(tmp_path / "full.onnx", "head"), np.float32).reshape(TINY.hidden, TINY.vocab)
    assert logits == pytest.approx(hidden @ head, rel=1e-3, abs=1e-4)


def _tensor(path: Path, name: str) -> bytes:
    """The bytes of a tensor in the weight file of a graph."""
    declared = next(t for t in onnx.load(path, load_external_data=False).graph.initializer if t.name == name)
    place = {entry.key: entry.value for entry in declared.external_data}
    assert int(place["offset"]) % 4096 == 0
    with path.with_name(place["location"]).open("rb") as file:
        file.seek(int(place["offset"]))
        return file.read(int(place["length"]))


def test_a_decode_step_continues_the_prompt_before_it(tmp_path: Path) -> None:
    """Keys and values are appended in place: eight tokens at once, or seven and then one, are the same."""
    save(tmp_path / "layers.onnx", TINY, Scheme.FP32)
    at_once = load(tmp_path / "layers.onnx", TINY, layers=2).result(8)
    in_steps = load(tmp_path / "layers.onnx", TINY, layers=2)
    in_steps.time(7)
    assert in_steps.result(1, 7) == pytest.approx(at_once, rel=1e-3, abs=1e-4)


def test_a_context_is_really_read(tmp_path: Path) -> None:
    save(tmp_path / "layers.onnx", TINY, Scheme.FP32)
    model = load(tmp_path / "layers.onnx", TINY, layers=2)
    alone = model.result(1, 0)
    model.time(40)
    assert not np.allclose(model.result(1, 40), alone, atol=1e-3)


# Published architectures.

LLAMA_LIKE = replace(TINY, name="Llama-like", heads=4, kv_heads=2, head_dim=16, layers=3)
PUBLISHED = [
    LLAMA_LIKE,
    replace(LLAMA_LIKE, name="Qwen3-like", head_dim=32, query_key_norm=True),
    replace(
        LLAMA_LIKE,
        name="Gemma-3-like",
        kv_heads=1,
        feed_forward=FeedForward.GEGLU,
        query_key_norm=True,
        sandwich_norm=True,
        sliding_window=6,
        global_layer_interval=3,
    ),
    replace(LLAMA_LIKE, name="Phi-3-like", kv_heads=4, sliding_window=5),
    replace(LLAMA_LIKE, name="plain", feed_forward=FeedForward.GELU),
]


def token_ids(count: int) -> npt.NDArray[np.int64]:
    """The tokens that ``Model`` runs from depth 0 on."""
    return np.arange(count, dtype=np.int64) * 37 % 256


@pytest.mark.parametrize("shape", PUBLISHED, ids=lambda shape: shape.name)
def test_a_prompt_gives_what_the_published_architecture_gives(shape: Architecture, tmp_path: Path) -> None:
    path = tmp_path / "layers.onnx"
    save(path, shape, Scheme.FP32)
    found = load(path, shape, layers=shape.layers).result(20)[0, -1]
    assert found == pytest.approx(last_hidden_state(path, shape, token_ids(20)), abs=1e-4)


@pytest.mark.parametrize("shape", PUBLISHED, ids=lambda shape: shape.name)
def test_decode_behind_a_context_gives_what_the_published_architecture_gives(
    shape: Architecture, tmp_path: Path
) -> None:
    path = tmp_path / "layers.onnx"
    save(path, shape, Scheme.FP32)
    model = load(path, shape, layers=shape.layers)
    model.time(17)
    model.time(1, 17)
    assert model.result(1, 18)[0, -1] == pytest.approx(last_hidden_state(path, shape, token_ids(19)), abs=1e-4)


def test_each_part_of_an_architecture_changes_the_result(tmp_path: Path) -> None:
    """The references differ, so agreeing with each of them tells something."""
    save(tmp_path / "layers.onnx", LLAMA_LIKE, Scheme.FP32)
    plain = last_hidden_state(tmp_path / "layers.onnx", LLAMA_LIKE, token_ids(20))
    for other in (
        replace(LLAMA_LIKE, query_key_norm=True),
        replace(LLAMA_LIKE, sandwich_norm=True),
        replace(LLAMA_LIKE, sliding_window=6),
        replace(LLAMA_LIKE, feed_forward=FeedForward.GEGLU),
    ):
        assert np.abs(last_hidden_state(tmp_path / "layers.onnx", other, token_ids(20)) - plain).max() > 0.01


def test_local_and_global_layers_come_in_the_order_of_the_model(tmp_path: Path) -> None:
    gemma = architecture("Gemma-3-270M")
    save(tmp_path / "layers.onnx", gemma, Scheme.INT4_BLOCK32, layers=7)
    nodes = onnx.load(tmp_path / "layers.onnx", load_external_data=False).graph.node
    attributes = [{a.name: a.i for a in node.attribute} for node in nodes if node.op_type == "GroupQueryAttention"]
    assert [found["local_window_size"] for found in attributes] == [512, 512, 512, 512, 512, -1, 512]


@pytest.mark.parametrize("shape", PUBLISHED, ids=lambda shape: shape.name)
def test_half_precision_gives_what_the_published_architecture_gives(shape: Architecture, tmp_path: Path) -> None:
    """fp16 graphs are for GPUs; the CPU runs them too, so that there is something to compare a GPU with."""
    path = tmp_path / "layers.onnx"
    save(path, shape, Scheme.FP16)
    found = run_prompt(path, shape, cache_dtype(Scheme.FP16))[0, -1]
    assert found.dtype == np.float32
    expected = last_hidden_state(path, shape, token_ids(16))
    assert found == pytest.approx(expected, abs=0.03)
    assert np.abs(found - expected).max() > 1e-4  # it really was computed in half precision


def run_prompt(path: Path, shape: Architecture, element: type[np.generic]) -> Floats:
    """The result of a prefill of 16 tokens with a cache of ``element``."""
    empty = np.zeros((1, shape.kv_heads, 0, shape.head_dim), element)
    inputs: dict[str, npt.NDArray[Any]] = {
        f"past_{kind}{i}": empty for kind in ("key", "value") for i in range(shape.layers)
    }
    inputs |= {
        "ids": token_ids(16)[None],
        "last_position": np.array([15], np.int32),
        "total_length": np.array([16], np.int32),
    }
    return np.asarray(ort.InferenceSession(path).run(["result"], inputs)[0])


# Refusals.


def test_a_graph_without_heavy_operators_has_proven_nothing(tmp_path: Path) -> None:
    graph = GraphBuilder(Scheme.FP32)
    graph.node("Identity", ["ids"], "result")
    path = tmp_path / "idle.onnx"
    graph.save(path, [Value("ids", np.int64, [1, "tokens"])], [Value("result", np.int64, None)], NATURAL_BLOCK)
    with pytest.raises(CaseError, match="nowhere instead of CPUExecutionProvider") as refused:
        load(path, TINY, layers=0)
    assert refused.value.reason == CaseFailureReason.WRONG_EXECUTION_PROVIDER


def test_results_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    rubbish = np.full(1 << 12, np.nan, np.float32)
    save_head(tmp_path / "head.onnx", TINY, Scheme.FP32, columns=64, block=rubbish)
    with pytest.raises(CaseError, match="not finite") as refused:
        load(tmp_path / "head.onnx", TINY, layers=0).check_finite()
    assert refused.value.reason == CaseFailureReason.WRONG_OUTPUT


@pytest.mark.parametrize("damage", [b"", b"not a graph"])
def test_a_damaged_graph_is_an_error_of_the_runtime_without_a_path(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "layers.onnx"
    save(path, TINY, Scheme.INT4_BLOCK32)
    path.write_bytes(damage)
    with pytest.raises(CaseError, match="while loading") as refused:
        load(path, TINY, layers=2)
    assert refused.value.reason == CaseFailureReason.RUNTIME_ERROR
    assert str(tmp_path) not in str(refused.value)


def test_missing_weights_are_an_error_of_the_runtime(tmp_path: Path) -> None:
    save(tmp_path / "layers.onnx", TINY, Scheme.INT4_BLOCK32)
    (tmp_path / "layers.data").unlink()
    with pytest.raises(CaseError, match="while loading"):
        load(tmp_path / "layers.onnx", TINY, layers=2)


def test_a_shape_that_no_kernel_takes_is_an_error_of_the_runtime(tmp_path: Path) -> None:
    odd = replace(TINY, head_dim=31)
    save(tmp_path / "layers.onnx", odd, Scheme.INT4_BLOCK32)
    with pytest.raises(CaseError, match="while running") as refused:
        load(tmp_path / "layers.onnx", odd, layers=2).check_finite()
    assert refused.value.reason == CaseFailureReason.RUNTIME_ERROR
