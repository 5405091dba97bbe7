"""What the runtime on this device offers, measured or not."""

import importlib.metadata
from collections.abc import Iterable
from dataclasses import replace

from weighin_agent.device import ExecutionProvider, ProbeGapReason
from weighin_agent.probe.child import ask_child
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import clean_text

# A cold import takes seconds on a slow card; a driver may compile its own shaders first.
_TIMEOUT_SECONDS = 30.0

SOFTWARE_ADAPTER = "software adapter; use --ep webgpu --allow-software-adapter"
_SUFFIX = "ExecutionProvider"
_NO_KERNELS = "it lacks MatMulNBits and GroupQueryAttention, the operators of a quantized decoder"
_OWN_GRAPHS = "it compiles graphs of another kind ahead of time; those of the suite would not be what it runs"
_CUDA_INSTEAD = "the same GPU is measured through CUDA"
_WEBGPU_INSTEAD = "the same GPU is measured through WebGPU (onnxruntime-ep-webgpu)"

# The runtime's names without their common ending: our short name, and why it is not measured ("" if it is).
# Which operators each has: https://onnxruntime.ai/docs/execution-providers/ (read in November 2026).
_KNOWN = {
    "CPU": ("cpu", ""),
    "CUDA": ("cuda", ""),
    "WebGpu": ("webgpu", ""),
    "Tensorrt": ("tensorrt", _CUDA_INSTEAD),
    "NvTensorRTRTX": ("tensorrt_rtx", _CUDA_INSTEAD),
    "ROCM": ("rocm", _WEBGPU_INSTEAD),
    "MIGraphX": ("migraphx", _WEBGPU_INSTEAD),
    "OpenVINO": ("openvino", _OWN_GRAPHS),
    "Dml": ("directml", f"its development has ended; {_WEBGPU_INSTEAD}"),
    "CoreML": ("coreml", _NO_KERNELS),
    "QNN": ("qnn", _OWN_GRAPHS),
    "Nnapi": ("nnapi", _NO_KERNELS),
    "Xnnpack": ("xnnpack", _NO_KERNELS),
    "Dnnl": ("dnnl", _NO_KERNELS),
    "ACL": ("acl", _NO_KERNELS),
    "VitisAI": ("vitis_ai", _OWN_GRAPHS),
    "Azure": ("azure", "it calls a remote service; nothing runs on this device"),
}
# Plugins are installed beside the runtime, which does not list them before they are registered.
_PLUGINS = {
    "onnxruntime-ep-webgpu": "WebGpuExecutionProvider",
    "onnxruntime-ep-openvino": "OpenVINOExecutionProvider",
    "onnxruntime-qnn": "QNNExecutionProvider",
}
# Those whose device is opened, each in a child of its own: a driver may crash or hang.
_OPENED_BY = {"cuda": "weighin_agent.probe.cuda_child", "webgpu": "weighin_agent.probe.webgpu_child"}


def name_execution_provider(runtime_name: str) -> ExecutionProvider | None:
    """Return our name and whether the suite measures it; the runtime's own name where we have none."""
    name = clean_text(runtime_name)
    if name is None:
        return None
    short_name, reason = _KNOWN.get(name.removesuffix(_SUFFIX), (name, "unknown to this version"))
    return ExecutionProvider(name=short_name, measured=not reason, reason=reason)


def parse_execution_providers(names: object) -> tuple[ExecutionProvider, ...]:
    """Name what the runtime listed, each once; nothing if that is no list of names."""
    listed = names if isinstance(names, list) else []
    found = {name_execution_provider(name): None for name in listed if isinstance(name, str)}
    return _measured_first(provider for provider in found if provider)


def measurable(
    providers: Iterable[ExecutionProvider], *, allow_software_adapter: bool
) -> tuple[ExecutionProvider, ...]:
    """Return the providers with software adapters among the measured ones, if they are allowed."""
    allowed = [
        replace(provider, measured=True, reason="")
        if allow_software_adapter and provider.reason == SOFTWARE_ADAPTER
        else provider
        for provider in providers
    ]
    return _measured_first(allowed)


def read_execution_providers(
    gaps: Gaps, module: str = "weighin_agent.probe.onnxruntime_child"
) -> tuple[ExecutionProvider, ...]:
    """Ask the runtime, in a child process with a time limit: importing it can crash. Then ask each device in another.

    A provider that is offered without a device that opens is not measured, and says why.
    """
    answer = ask_child(module, _TIMEOUT_SECONDS)
    names = answer.facts.get("execution_providers")
    providers = parse_execution_providers([*names, *_installed_plugins()] if isinstance(names, list) else names)
    if not providers:
        reason = answer.reason or ProbeGapReason.READ_FAILED
        gaps.add("execution_providers", reason, answer.detail or "ONNX Runtime lists none")
    return _measured_first(
        open_device(provider, _OPENED_BY[provider.name]) if provider.name in _OPENED_BY else provider
        for provider in providers
    )


def open_device(provider: ExecutionProvider, module: str) -> ExecutionProvider:
    """Ask the provider's child ``module`` for its device; the reason where it has none, or only a software adapter."""
    answer = ask_child(module, _TIMEOUT_SECONDS)
    problem = answer.detail if answer.reason else answer.facts.get("problem")
    if problem:
        return replace(provider, measured=False, reason=f"no device: {problem}")
    adapter, is_software = answer.facts.get("adapter"), answer.facts.get("is_software") is True
    return replace(
        provider,
        adapter=clean_text(adapter) if isinstance(adapter, str) else None,
        is_software=is_software,
        measured=not is_software,
        reason=SOFTWARE_ADAPTER if is_software else "",
    )


def _installed_plugins() -> list[str]:
    installed = []
    for distribution, name in _PLUGINS.items():
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        installed.append(name)
    return installed


def _measured_first(providers: Iterable[ExecutionProvider]) -> tuple[ExecutionProvider, ...]:
    return tuple(sorted(providers, key=lambda provider: not provider.measured))
