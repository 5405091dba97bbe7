"""The limits that turn numbers into verdicts, with their version; the numbers are in data/limits.toml alone."""

from dataclasses import dataclass
from functools import cache

from weighin_analysis.data_files import read_data


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLimit:
    """What a decoder must reach at the reference workload."""

    decode_tokens_per_second: float
    time_to_first_token_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLimit:
    """What an encoder must reach on one input of ``encoder_tokens``."""

    latency_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Reference workload and limits of one version. ``memory_share`` is of the available memory."""

    version: str
    prompt_tokens: int
    decode_context_depth: int
    memory_context_tokens: int
    encoder_tokens: int
    decoder_comfortable: DecoderLimit
    decoder_usable: DecoderLimit
    encoder_comfortable: EncoderLimit
    encoder_usable: EncoderLimit
    memory_share: float
    interval_probability: float


@cache
def current_limits() -> Limits:
    """Return the limits that ship with this version of the package."""
    data = read_data("limits.toml")
    return Limits(
        version=data["version"],
        **data["reference"],
        decoder_comfortable=DecoderLimit(**data["decoder"]["comfortable"]),
        decoder_usable=DecoderLimit(**data["decoder"]["usable"]),
        encoder_comfortable=EncoderLimit(**data["encoder"]["comfortable"]),
        encoder_usable=EncoderLimit(**data["encoder"]["usable"]),
        memory_share=data["memory"]["share_of_available"],
        interval_probability=data["estimate"]["interval_probability"],
    )
