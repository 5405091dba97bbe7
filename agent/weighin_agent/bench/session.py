"""Running a graph; the only module of the agent that uses onnxruntime. Imported in child processes alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from weighin_agent.bench.models import EMBEDDING_ROWS
from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture

# The operators that hold nearly all the work: an execution provider has run a case only if these ran on it.
HEAVY_OPERATORS = frozenset(
    {"MatMulNBits", "DynamicQuantizeMatMul", "MatMul", "GroupQueryAttention", "MultiHeadAttention"}
)
# Keys and values before anything was computed. Not zero: untouched zero pages are one page of memory, which stays in
# the cache and makes deep contexts look too fast.
_CACHE_FILL = 0.01
_RUNTIME_NAMES = {"cpu": "CPUExecutionProvider"}
Clock = Callable[[], float]


class Model:
    """A loaded graph with its KV cache; past and present of a layer are one buffer, appended in place.

    Raises CaseError if the heavy operators are not on ``execution_provider``, and for whatever the runtime refuses.
    """

    def __init__(
        self, path: Path, shape: Architecture, *, layers: int, execution_provider: str, threads: int,
        max_context: int, clock: Clock,
    ) -> None:  # fmt: skip
        self._clock = clock
        provider = _RUNTIME_NAMES[execution_provider]
        try:
            self._session = ort.InferenceSession(path, _options(threads), providers=[provider])
        except _RUNTIME_ERRORS as error:
            raise _failed("loading", error) from error
        self._prove(provider)
        self._inputs = {i.name for i in self._session.get_inputs()}
        # Encoders and head slices have no cache; their graphs declare none.
        cached = range(layers) if "last_position" in self._inputs else ()
        buffer = (1, shape.kv_heads, max_context, shape.head_dim)
        # An OrtValue on the CPU is the memory of its array: every layer's keys and values need an array of their own.
        self._cache = {
            f"{kind}{i}": ort.OrtValue.ortvalue_from_numpy(np.full(buffer, _CACHE_FILL, np.float32))
            for i in cached
            for kind in ("key", "value")
        }

    def time(self, token_count: int, context_depth: int = 0) -> float:
        """Run ``token_count`` tokens behind ``context_depth`` tokens of context and return the seconds it took."""
        binding = self._bind(token_count, context_depth)
        begin = self._clock()
        self._run(binding)
        return self._clock() - begin

    def check_finite(self) -> None:
        """Raise CaseError unless a short prompt gives finite numbers."""
        if not np.isfinite(self.result(2)).all():
            raise CaseError("the outputs are not finite numbers", reason=CaseFailureReason.WRONG_OUTPUT)

    def result(self, token_count: int, context_depth: int = 0) -> np.ndarray:
        """Run as ``time`` does and return the result: the last token's hidden state or logits, or all of an encoder."""
        binding = self._bind(token_count, context_depth)
        self._run(binding)
        return np.asarray(binding.copy_outputs_to_cpu()[-1])  # in binding order: bound last

    def _bind(self, token_count: int, context_depth: int) -> ort.IOBinding:
        """Prepare a call outside the clock: inputs are made and buffers bound before it starts."""
        binding = self._session.io_binding()
        # bind_cpu_input keeps the array alive as long as the binding, which reads the array's own memory.
        ids = (np.arange(context_depth, context_depth + token_count, dtype=np.int64) * 37 % EMBEDDING_ROWS)[None]
        binding.bind_cpu_input("ids", ids)
        if "last_position" in self._inputs:
            total = context_depth + token_count
            binding.bind_cpu_input("last_position", np.array([total - 1], np.int32))
            binding.bind_cpu_input("total_length", np.array([total], np.int32))
        for name, cache in self._cache.items():
            binding.bind_ortvalue_input(f"past_{name}", cache)
            binding.bind_ortvalue_output(name, cache)
        binding.bind_output("result", "cpu")
        return binding

    def _run(self, binding: ort.IOBinding) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except _RUNTIME_ERRORS as error:
            raise _failed("running", error) from error

    def _prove(self, provider: str) -> None:
        """Check by the runtime's own node assignment, not by what was registered, where the work is."""
        graphs = self._session.get_provider_graph_assignment_info()
        placed = [(node.op_type, graph.ep_name) for graph in graphs for node in graph.get_nodes()]
        heavy = [where for op, where in placed if op in HEAVY_OPERATORS]
        if not heavy or set(heavy) != {provider}:
            elsewhere = sorted(set(heavy) - {provider}) or ["nowhere"]
            text = f"heavy operators ran on {', '.join(elsewhere)} instead of {provider}"
            raise CaseError(text, reason=CaseFailureReason.WRONG_EXECUTION_PROVIDER)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Layers and head are two sessions in one process: an idle pool must not spin beside the busy one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _failed(doing: str, error: Exception) -> CaseError:
    """Translate an error of the runtime. Its text may hold paths: only its kind is told."""
    no_memory = "alloc" in str(error).lower()  # "bad allocation", "Failed to allocate memory", "std::bad_alloc"
    reason = CaseFailureReason.OUT_OF_MEMORY if no_memory else CaseFailureReason.RUNTIME_ERROR
    return CaseError(f"the runtime failed while {doing} the graph: {type(error).__name__}", reason=reason)


# Loading raises the runtime's own errors; a run through a binding raises Python's RuntimeError.
_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        e
        for e in vars(ort.capi.onnxruntime_pybind11_state).values()
        if isinstance(e, type) and issubclass(e, Exception)
    ),
)
