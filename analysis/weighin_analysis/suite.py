"""Suites: versioned lists of cases with everything that decides what is run, hashed into every run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Self

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.catalog import architecture, read_data
from weighin_analysis.errors import CatalogError
from weighin_analysis.scheme import Scheme

SUITE_NAMES = ("quick",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The pinned block of pseudo-random bytes that all weights are laid from; ``block_sha256`` is hexadecimal."""

    seed: int
    block_bytes: int
    block_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Prompt lengths and context depths to measure, in tokens.

    A prompt longer than the first two is run only where it is expected to take less than
    ``long_prompt_limit_seconds`` on the layer probe.
    """

    decode_context_depths: tuple[int, ...]
    decoder_prompt_tokens: tuple[int, ...]
    encoder_prompt_tokens: tuple[int, ...]
    max_context_tokens: int
    long_prompt_limit_seconds: float

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Return the lengths of a table as TOML or JSON holds it, with lists where we keep tuples."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How often to measure: rounds, samples of each decode series in a round, pause between rounds.

    ``count`` rounds that other programs left alone are wanted, and up to ``most_count`` are run for it. A slow device
    ends a case after ``budget_seconds``, but not before ``least_count`` rounds.
    """

    count: int
    most_count: int
    least_count: int
    budget_seconds: float
    decode_samples: int
    pause_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSize:
    """How much of a model a layer probe runs, in bytes of stored weights."""

    layers_bytes: int
    head_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCase:
    """An architecture in a scheme, with the layers and head columns of its layer probe."""

    architecture: Architecture
    scheme: Scheme
    probe_layers: int
    head_columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A named, versioned list of cases in the order in which they run."""

    name: str
    version: int
    weights: Weights
    lengths: Lengths
    rounds: Rounds
    probe: ProbeSize
    cases: tuple[SuiteCase, ...]

    @property
    def sha256(self) -> bytes:
        """Hash of the canonical text of the suite, shapes included: equal hashes run equal suites."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).digest()


def plan_probe(shape: Architecture, scheme: Scheme, size: ProbeSize) -> tuple[int, int]:
    """Return (m, Vs): the fewest layers of at least ``layers_bytes``, and head columns of at most ``head_bytes``.

    Layers and head slice run in turn and together exceed the last-level caches of ordinary devices, so that each
    evicts the other and both are read from memory, as in the full model. Vs is a multiple of 256 columns.
    """
    layer_bytes = shape.layer_weight_count * scheme.stored_bytes_per_weight
    probe_layers = min(shape.layers, max(1, -int(-size.layers_bytes // layer_bytes)))
    if shape.kind is ArchitectureKind.ENCODER:
        return probe_layers, 0
    columns = int(size.head_bytes / (shape.hidden * scheme.stored_bytes_per_weight)) // 256 * 256
    return probe_layers, min(shape.vocab, max(256, columns))


@cache
def load_suite(name: str) -> Suite:
    """Return a suite by name; CatalogError names the known ones."""
    if name not in SUITE_NAMES:
        raise CatalogError(f"unknown suite {name!r}; known are {', '.join(SUITE_NAMES)}")
    data = read_data(f"suite_{name}.toml")
    probe = ProbeSize(**data["probe"])
    return Suite(
        name=data["name"],
        version=data["version"],
        weights=Weights(**data["weights"]),
        lengths=Lengths.from_table(data["lengths"]),
        rounds=Rounds(**data["rounds"]),
        probe=probe,
        cases=tuple(
            suite_case(architecture(row["architecture"]), Scheme(row["scheme"]), probe) for row in data["case"]
        ),
    )


def suite_case(shape: Architecture, scheme: Scheme, size: ProbeSize) -> SuiteCase:
    """Return the case of a shape in a scheme, with its layer probe of the given size."""
    probe_layers, head_columns = plan_probe(shape, scheme, size)
    return SuiteCase(architecture=shape, scheme=scheme, probe_layers=probe_layers, head_columns=head_columns)
