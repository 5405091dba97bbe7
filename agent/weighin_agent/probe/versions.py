"""Versions of the libraries that decide a timing, from what is installed: nothing is imported for it."""

import importlib.metadata
import platform

from weighin_agent.device import ProbeGapReason, RuntimeVersions
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import clean_text

# The same module under several names of distribution, one for each kind of accelerator.
_DISTRIBUTIONS = {
    "onnxruntime": (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-openvino",
        "onnxruntime-directml",
        "onnxruntime-qnn",
    ),
    "onnx": ("onnx",),
    "numpy": ("numpy",),
}


def read_runtime_versions(gaps: Gaps) -> RuntimeVersions:
    """Read the versions of Python, ONNX Runtime, onnx and numpy."""
    return RuntimeVersions(
        python=clean_text(f"{platform.python_implementation()} {platform.python_version()}"),
        onnxruntime=_version(gaps, "onnxruntime"),
        onnx=_version(gaps, "onnx"),
        numpy=_version(gaps, "numpy"),
    )


def _version(gaps: Gaps, library: str) -> str | None:
    for distribution in _DISTRIBUTIONS[library]:
        try:
            return clean_text(importlib.metadata.version(distribution))
        except importlib.metadata.PackageNotFoundError:
            continue
    gaps.add(f"runtime_versions.{library}", ProbeGapReason.NOT_OFFERED, f"{library} is not installed")
    return None
