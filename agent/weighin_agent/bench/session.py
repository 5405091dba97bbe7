"""Running a graph on an execution provider. Uses onnxruntime: imported in child processes alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from weighin_agent.bench.models import EMBEDDING_ROWS
from weighin_agent.bench.providers import Provider, open_provider
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
_ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# What onnxruntime 1.31 and the plugin 0.4 say where no adapter was found, and where nodes were left to the CPU: for
# neither is there a kind of error of its own.
_NO_ADAPTER = "Failed to get a WebGPU adapter"
_CPU_REFUSED = "fallback to CPU EP has been explicitly disabled"
Clock = Callable[[], float]


class Model:
    """A loaded graph with its KV cache; past and present of a layer are one buffer, appended in place.

    The cache lives in the memory of the provider's device and never leaves it. Raises CaseError if the provider has no
    device, if the heavy operators are not on it, and for whatever the runtime refuses.
    """

    def __init__(
        self, path: Path, shape: Architecture, *, layers: int, execution_provider: str, threads: int,
        max_context: int, clock: Clock,
    ) -> None:  # fmt: skip
        self._clock = clock
        provider = open_provider(execution_provider)
        buffer = (1, shape.kv_heads, max_context, shape.head_dim)
        try:
            self._session = _load(path, provider, threads)
            self._prove(provider.runtime_name)
            self._inputs = {i.name: _ELEMENT_TYPES.get(i.type) for i in self._session.get_inputs()}
            # Encoders and head slices have no cache; their graphs declare none.
            cached = range(layers) if "last_position" in self._inputs else ()
            # On the CPU an OrtValue is the memory of its array: keys and values of each layer need one of their own.
            self._cache = {
                name: provider.tensor(np.full(buffer, _CACHE_FILL, self._inputs[f"past_{name}"]))
                for i in cached
                for name in (f"key{i}", f"value{i}")
            }
        except _RUNTIME_ERRORS as error:
            raise _failed("loading", error) from error

    def time(self, token_count: int, context_depth: int = 0) -> float:
        """Run ``token_count`` tokens behind ``context_depth`` tokens of context and return the seconds it took.

        They end with the result in main memory: a call whose outputs all stay on a GPU returns before the work is done.
        """
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
        return np.asarray(binding.get_outputs()[-1].numpy())  # in binding order: bound last

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


def _load(path: Path, provider: Provider, threads: int) -> ort.InferenceSession:
    options = _options(threads)
    if provider.runtime_name != "CPUExecutionProvider":
        # Nodes left over make loading fail: the CPU must not take them, and what it takes crosses the bus twice.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if provider.device is not None:
        options.add_provider_for_devices([provider.device], {})
    # A provider that fails would be replaced by the CPU, with a line on standard output, which may be a channel.
    return ort.InferenceSession(
        path, options, providers=None if provider.device else [provider.runtime_name], enable_fallback=0
    )


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
    if _NO_ADAPTER in str(error):
        return CaseError("no adapter that the plugin can use", reason=CaseFailureReason.NO_DEVICE)
    if _CPU_REFUSED in str(error):
        text = "some operators of the graph have no kernel on the execution provider and were left to the CPU"
        return CaseError(text, reason=CaseFailureReason.WRONG_EXECUTION_PROVIDER)
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
