"""Runs of a device on which every weight costs the same to read, and less to multiply: what it says of any model."""

from collections.abc import Sequence

from made_measurements import lawful_measurement, probe_case

from weighin_analysis.architecture import Architecture
from weighin_analysis.catalog import architecture
from weighin_analysis.measurement import Case, Measurement, Phase
from weighin_analysis.scheme import Scheme

MEASURED = ("SmolLM2-135M", "Qwen2.5-0.5B", "Llama-3.2-1B", "Gemma-2B")


def seconds_of_layer(shape: Architecture, tokens: int, slowness: float) -> float:
    """What one layer takes for so many tokens."""
    return slowness * shape.layer_weight_count * (7e-11 + 1e-12 * tokens)


def _measured(case: Case, slowness: float = 1.0) -> list[Measurement]:
    shape = case.architecture
    lengths = [(Phase.DECODE, 16), (Phase.DECODE, 960), (Phase.PREFILL, 32), (Phase.PREFILL, 512)]
    return [
        lawful_measurement(
            case,
            phase,
            length,
            layer_seconds=lambda tokens, _depth: seconds_of_layer(shape, tokens, slowness),
            column_seconds=slowness * shape.hidden * 7e-11,
        )
        for phase, length in lengths
    ]


def run_of(
    schemes: Sequence[Scheme] = (Scheme.INT4_BLOCK32,), names: Sequence[str] = MEASURED, *, slowness: float = 1.0
) -> list[Measurement]:
    """A run of some shapes in some schemes."""
    cases = [probe_case(architecture(name), scheme) for scheme in schemes for name in names]
    return [one for case in cases for one in _measured(case, slowness)]
