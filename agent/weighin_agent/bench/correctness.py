"""Whether an execution provider computes what the CPU does: a small model of a case's own shape, run on both.

Never by the likeliest token, which changes from kernel to kernel, and never by a hash. Most providers compute in half
precision or add in another order, so the numbers differ a little; how far they may, the tolerances say.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weighin_agent.errors import CaseError
from weighin_agent.run import CaseFailureReason
from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.scheme import Scheme

_LAYERS = 2
_MOST_VOCAB = 4096
_PROMPT_TOKENS = 32

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """The least correlation and the largest relative RMS that pass."""

    correlation: float
    relative_rms: float


# The spread between kernels, precisions and providers as measured on the CPU, with a margin for half precision; the
# figures behind them are in docs/execution-providers.md. int8_dynamic quantizes its activations anew in every layer.
TOLERANCES = {
    Scheme.INT4_BLOCK32: Tolerance(correlation=0.999, relative_rms=0.05),
    Scheme.INT8_BLOCK32: Tolerance(correlation=0.999, relative_rms=0.05),
    Scheme.INT8_DYNAMIC: Tolerance(correlation=0.995, relative_rms=0.10),
    Scheme.FP16: Tolerance(correlation=0.999, relative_rms=0.05),
    Scheme.FP32: Tolerance(correlation=0.999, relative_rms=0.05),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How near outputs are to the CPU's: their correlation, and the RMS of the difference over that of the CPU's."""

    correlation: float
    relative_rms: float


def save_small_model(path: Path, shape: Architecture, scheme: Scheme, *, block: npt.NDArray[np.generic]) -> str:
    """Write the model that is compared and return its graph's SHA-256: two layers of the shape, a part of the head."""
    from weighin_agent.bench.models import save_full_model  # noqa: PLC0415 - onnx, which the measuring child is without

    return save_full_model(path, small(shape), scheme, max_context=2 * _PROMPT_TOKENS, block=block)


def small(shape: Architecture) -> Architecture:
    """Return the shape with two layers and at most 4096 words."""
    return replace(shape, layers=_LAYERS, vocab=min(shape.vocab, _MOST_VOCAB))


def compare_with_cpu(
    path: Path, shape: Architecture, scheme: Scheme, *, execution_provider: str, threads: int
) -> Agreement:
    """Run the model of ``save_small_model`` on both and compare a prompt of 32 tokens and the token after it.

    CaseError where the outputs are not finite or differ by more than the scheme's tolerance, and for all that
    ``Model`` raises. Meant for child processes, as ``Model`` is.
    """
    reference = outputs_on("cpu", path, shape, threads=threads)
    found = agreement(outputs_on(execution_provider, path, shape, threads=threads), reference)
    check_agreement(found, scheme)
    return found


def check_agreement(found: Agreement, scheme: Scheme) -> None:
    """Raise CaseError with both numbers where outputs are further apart than the scheme allows."""
    allowed = TOLERANCES[scheme]
    # Written so that a number that is not one fails too.
    if not (found.correlation >= allowed.correlation and found.relative_rms <= allowed.relative_rms):
        text = (
            f"outputs differ from the CPU's: correlation {found.correlation:.5f}, relative RMS {found.relative_rms:.4f}"
            f" ({scheme} allows {allowed.correlation:g} and {allowed.relative_rms:g})"
        )
        raise CaseError(text, reason=CaseFailureReason.WRONG_OUTPUT)


def agreement(outputs: Floats, reference: Floats) -> Agreement:
    """Compare two series of outputs; CaseError if a number is not finite, or if all of one series are the same."""
    if not (np.isfinite(outputs).all() and np.isfinite(reference).all()):
        raise CaseError("the outputs are not finite numbers", reason=CaseFailureReason.WRONG_OUTPUT)
    found, true = outputs.astype(np.float64), reference.astype(np.float64)
    if found.std() == 0 or true.std() == 0:
        raise CaseError("the outputs are all the same number", reason=CaseFailureReason.WRONG_OUTPUT)
    return Agreement(
        correlation=float(np.corrcoef(found, true)[0, 1]),
        relative_rms=float(np.sqrt(np.mean((found - true) ** 2) / np.mean(true**2))),
    )


def outputs_on(execution_provider: str, path: Path, shape: Architecture, *, threads: int) -> Floats:
    """Run the model of ``save_small_model`` and return its results one after the other, flat."""
    # onnxruntime may crash at import; graphs are also made where none is run.
    from weighin_agent.bench.session import Model  # noqa: PLC0415

    model = Model(
        path,
        small(shape),
        layers=_LAYERS,
        execution_provider=execution_provider,
        threads=threads,
        max_context=2 * _PROMPT_TOKENS,
        clock=time.perf_counter,
    )
    results = [model.result(_PROMPT_TOKENS)]
    if shape.kind is ArchitectureKind.DECODER:
        results.append(model.result(1, _PROMPT_TOKENS))
    return np.concatenate([result.ravel() for result in results])
