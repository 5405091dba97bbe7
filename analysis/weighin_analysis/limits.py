"""The limits that turn estimates into verdicts, with their version: those of data/limits/, or of anybody's own file."""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from weighin_analysis.data_files import data_names, read_text
from weighin_analysis.errors import LimitsError

CURRENT_VERSION = "2026.1"
_FOLDER = "limits"
_MOST_BYTES = 2**16  # fifty times what limits take
_MOST_TOKENS, _MOST = 2**31, 1e300  # what a store can hold


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
    """Return the limits by which this version of the package judges."""
    return _shipped(CURRENT_VERSION)


def shipped_versions() -> tuple[str, ...]:
    """Return the versions of the limits that this package ships, the oldest first."""
    return tuple(sorted(name.removesuffix(".toml") for name in data_names(_FOLDER)))


def shipped_text(version: str) -> str:
    """Return shipped limits as the TOML that their file holds; LimitsError where there is no such version."""
    if version not in shipped_versions():
        raise LimitsError(
            f"there are no limits {version!r}, known are {', '.join(shipped_versions())}; for limits of your own name "
            "a TOML file, which `weighin-analysis limits` begins"
        )
    return read_text(f"{_FOLDER}/{version}.toml")


def load_limits(name: str) -> Limits:
    """Return the limits of a shipped version, or of a TOML file of the same form.

    LimitsError, in one line, where there is neither, or where a file cannot be limits.
    """
    path = Path(name)
    if not name or name in shipped_versions() or not (path.suffix == ".toml" or path.exists()):
        return _shipped(name)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise LimitsError(f"{name}: the limits cannot be read: {error.strerror}") from error
    try:
        return _own_limits(content)
    except LimitsError as error:
        raise LimitsError(f"{name}: {error}") from error


def load_several_limits(names: Sequence[str]) -> tuple[Limits, ...]:
    """Return the limits of several names, each once; LimitsError where two with other numbers share a version."""
    found: dict[str, Limits] = {}
    for one in map(load_limits, names):
        if found.setdefault(one.version, one) != one:
            raise LimitsError(f"two limits with other numbers are both called {one.version!r}; give one a version")
    return tuple(found.values())


@cache
def _shipped(version: str) -> Limits:
    return parse_limits(shipped_text(version))


def _own_limits(content: bytes) -> Limits:
    if len(content) > _MOST_BYTES:
        raise LimitsError(f"is larger than {_MOST_BYTES} bytes, so it holds no limits")
    try:
        limits = parse_limits(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise LimitsError("is not text in UTF-8") from error
    if limits.version in shipped_versions() and limits != _shipped(limits.version):
        raise LimitsError(f"version {limits.version!r} is that of shipped limits with other numbers; choose another")
    return limits


def parse_limits(text: str) -> Limits:
    """Return the limits that a TOML text describes, in the form of data/limits/; LimitsError says what is wrong."""
    try:
        values = dict(_flat(tomllib.loads(text)))
    except (ValueError, RecursionError) as error:
        raise LimitsError(f"is not TOML: {error}") from error
    for key, (is_possible, words) in _KEYS.items():
        if key not in values:
            raise LimitsError(f"{key} is missing; it is {words}")
        if not is_possible(values[key]):
            raise LimitsError(f"{key} is {values[key]!r:.40}; it must be {words}")
    for key in values:
        if key not in _KEYS:
            raise LimitsError(f"{key!r:.60} is nothing that limits have; remove it")
    limits = _limits(values)
    _require_order(limits)
    return limits


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of tables within tables, with their names joined by dots."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _is_version(value: object) -> bool:
    return isinstance(value, str) and value.strip() == value != "" and len(value) <= 40 and value.isprintable()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < _MOST_TOKENS


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST


def _is_share(value: object) -> bool:
    return _is_number(value) and isinstance(value, int | float) and value <= 1


def _is_probability(value: object) -> bool:
    return _is_share(value) and value != 1


# Every key of a file, whether a value can stand there, and in words what can.
_KEYS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "version": (_is_version, "a text of 1 to 40 characters"),
    **{
        f"reference.{name}": (_is_count, f"a whole number of tokens from 1 to {_MOST_TOKENS - 1}")
        for name in ("prompt_tokens", "decode_context_depth", "memory_context_tokens", "encoder_tokens")
    },
    **{
        name: (_is_number, f"a number of {unit} above 0 and below {_MOST:g}")
        for level in ("comfortable", "usable")
        for name, unit in (
            (f"decoder.{level}.decode_tokens_per_second", "tokens per second"),
            (f"decoder.{level}.time_to_first_token_seconds", "seconds"),
            (f"encoder.{level}.latency_seconds", "seconds"),
        )
    },
    "memory.share_of_available": (_is_share, "a number above 0, at most 1"),
    "estimate.interval_probability": (_is_probability, "a number between 0 and 1"),
}


def _limits(values: Mapping[str, Any]) -> Limits:
    def decoder(level: str) -> DecoderLimit:
        return DecoderLimit(
            decode_tokens_per_second=float(values[f"decoder.{level}.decode_tokens_per_second"]),
            time_to_first_token_seconds=float(values[f"decoder.{level}.time_to_first_token_seconds"]),
        )

    return Limits(
        version=values["version"],
        prompt_tokens=values["reference.prompt_tokens"],
        decode_context_depth=values["reference.decode_context_depth"],
        memory_context_tokens=values["reference.memory_context_tokens"],
        encoder_tokens=values["reference.encoder_tokens"],
        decoder_comfortable=decoder("comfortable"),
        decoder_usable=decoder("usable"),
        encoder_comfortable=EncoderLimit(latency_seconds=float(values["encoder.comfortable.latency_seconds"])),
        encoder_usable=EncoderLimit(latency_seconds=float(values["encoder.usable.latency_seconds"])),
        memory_share=float(values["memory.share_of_available"]),
        interval_probability=float(values["estimate.interval_probability"]),
    )


def _require_order(limits: Limits) -> None:
    """Pass only limits under which what is comfortable is usable too."""
    comfortable, usable = limits.decoder_comfortable, limits.decoder_usable
    easier = {
        "decoder.comfortable.decode_tokens_per_second": (
            comfortable.decode_tokens_per_second < usable.decode_tokens_per_second
        ),
        "decoder.comfortable.time_to_first_token_seconds": (
            comfortable.time_to_first_token_seconds > usable.time_to_first_token_seconds
        ),
        "encoder.comfortable.latency_seconds": (
            limits.encoder_comfortable.latency_seconds > limits.encoder_usable.latency_seconds
        ),
    }
    for key, is_easier in easier.items():
        if is_easier:
            raise LimitsError(f"{key} is easier to reach than what {key.replace('comfortable', 'usable')} asks for")
