"""What the runtime on this device offers, measured or not."""

from weighin_agent.device import ExecutionProvider, ProbeGapReason
from weighin_agent.probe.child import ask_child
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import clean_text

# A cold import takes seconds on a slow card.
_TIMEOUT_SECONDS = 30.0

_SUFFIX = "ExecutionProvider"
_NOT_YET = "this version measures the CPU only"

# The runtime's names without their common ending: our short name, and why it is not measured ("" if it is).
_KNOWN = {
    "CPU": ("cpu", ""),
    "CUDA": ("cuda", _NOT_YET),
    "Tensorrt": ("tensorrt", _NOT_YET),
    "NvTensorRTRTX": ("tensorrt_rtx", _NOT_YET),
    "ROCM": ("rocm", _NOT_YET),
    "MIGraphX": ("migraphx", _NOT_YET),
    "OpenVINO": ("openvino", _NOT_YET),
    "Dml": ("directml", _NOT_YET),
    "CoreML": ("coreml", _NOT_YET),
    "WebGpu": ("webgpu", _NOT_YET),
    "QNN": ("qnn", _NOT_YET),
    "Nnapi": ("nnapi", _NOT_YET),
    "Xnnpack": ("xnnpack", _NOT_YET),
    "Dnnl": ("dnnl", _NOT_YET),
    "ACL": ("acl", _NOT_YET),
    "VitisAI": ("vitis_ai", _NOT_YET),
    "Azure": ("azure", "it calls a remote service; nothing runs on this device"),
}


def name_execution_provider(runtime_name: str) -> ExecutionProvider | None:
    """Return our name and whether the suite measures it; the runtime's own name where we have none."""
    name = clean_text(runtime_name)
    if name is None:
        return None
    short_name, reason = _KNOWN.get(name.removesuffix(_SUFFIX), (name, "unknown to this version"))
    return ExecutionProvider(name=short_name, measured=not reason, reason=reason)


def parse_execution_providers(names: object) -> tuple[ExecutionProvider, ...]:
    """Name what the runtime listed, each once, measured ones first; nothing if that is no list of names."""
    listed = names if isinstance(names, list) else []
    found = {name_execution_provider(name): None for name in listed if isinstance(name, str)}
    return tuple(sorted((provider for provider in found if provider), key=lambda provider: not provider.measured))


def read_execution_providers(
    gaps: Gaps, module: str = "weighin_agent.probe.onnxruntime_child"
) -> tuple[ExecutionProvider, ...]:
    """Ask the runtime, in a child process with a time limit: importing it can crash."""
    answer = ask_child(module, _TIMEOUT_SECONDS)
    providers = parse_execution_providers(answer.facts.get("execution_providers"))
    if not providers:
        reason = answer.reason or ProbeGapReason.READ_FAILED
        gaps.add("execution_providers", reason, answer.detail or "ONNX Runtime lists none")
    return providers
