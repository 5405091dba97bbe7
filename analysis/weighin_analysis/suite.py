"""Suites: versioned lists of cases with everything that decides what is run, hashed into every run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Any, Self

from weighin_analysis.architecture import Architecture, ArchitectureKind
from weighin_analysis.catalog import architecture
from weighin_analysis.data_files import read_data
from weighin_analysis.errors import CatalogError
from weighin_analysis.scheme import Scheme

# Columns of the head in the graph that shows what a call costs: the fewest that still wake the runtime's threads.
CALL_COLUMNS = 256
SUITE_NAMES = ("standard", "quick")


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
    ``long_prompt_limit_seconds`` on the layer probe that it runs on, and its activations less than
    ``long_prompt_limit_bytes``.
    """

    decode_context_depths: tuple[int, ...]
    decoder_prompt_tokens: tuple[int, ...]
    encoder_prompt_tokens: tuple[int, ...]
    max_context_tokens: int
    long_prompt_limit_seconds: float
    long_prompt_limit_bytes: int

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """Return the lengths of a table as TOML or JSON holds it, with lists where we keep tuples."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How often to measure a case, and what one round is.

    From ``least_count`` rounds on a case ends when ln(time) is known to ``target_sd`` (one standard deviation of the
    median over rounds); it ends after ``most_count`` rounds, or when no round fits into the time it has. A round takes
    ``decode_samples`` of each decode series; the long prompt runs in the first round and every
    ``long_prompt_interval``-th.
    """

    least_count: int
    most_count: int
    target_sd: float
    decode_samples: int
    long_prompt_interval: int
    pause_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSize:
    """How much of a model a layer probe runs, in bytes of stored weights."""

    layers_bytes: int
    head_bytes: int


class Processor(StrEnum):
    """On what kind of execution provider a case of a suite runs."""

    ANY = "any"
    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCase:
    """An architecture in a scheme, with the layers and head columns of its layer probes.

    ``short_probe_layers`` is 0 where one layer probe is enough. An ``anchor`` runs the full model alone, all layers and
    the whole head, beside another case that is its layer probe.
    """

    architecture: Architecture
    scheme: Scheme
    probe_layers: int
    short_probe_layers: int
    head_columns: int
    processor: Processor = Processor.ANY
    anchor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A named, versioned list of cases in the order in which they run.

    ``time_limit_seconds`` is for the cases of one execution provider: no round begins that would end later.
    """

    name: str
    version: int
    time_limit_seconds: float
    weights: Weights
    lengths: Lengths
    rounds: Rounds
    probe: ProbeSize
    cases: tuple[SuiteCase, ...]

    @property
    def sha256(self) -> bytes:
        """Hash of the canonical text of the suite, shapes included: equal hashes run equal suites."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).digest()

    def cases_on(self, processor: Processor) -> tuple[SuiteCase, ...]:
        """Return the cases that run on such an execution provider."""
        return tuple(case for case in self.cases if case.processor in (Processor.ANY, processor))


def plan_probe(shape: Architecture, scheme: Scheme, size: ProbeSize) -> tuple[int, int, int]:
    """Return (m, m1, Vs): layers of the layer probe and of the short one, and head columns.

    m is the fewest layers of at least ``layers_bytes``. Layers and head slice run in turn and together exceed the
    last-level caches of ordinary devices, so that each evicts the other and both are read from memory, as in the full
    model; beside a layer that is very large by itself the slice is half as large. Vs is a multiple of 256 columns.

    Every call has a cost of its own, which scaling m layers to L would multiply; a second probe of a third of the
    layers tells it. With one or two layers they are so large that the cost of a call is nothing beside them.
    """
    layer_bytes = shape.layer_weight_count * scheme.stored_bytes_per_weight
    probe_layers = min(shape.layers, max(1, -int(-size.layers_bytes // layer_bytes)))
    short_layers = probe_layers // 3 if probe_layers < shape.layers else 0
    if shape.kind is ArchitectureKind.ENCODER:
        return probe_layers, short_layers, 0
    # One layer twice as large as wanted: half a head slice keeps the process as small as others.
    head_bytes = size.head_bytes if layer_bytes <= 2 * size.layers_bytes else size.head_bytes // 2
    columns = int(head_bytes / (shape.hidden * scheme.stored_bytes_per_weight)) // 256 * 256
    return probe_layers, short_layers, min(shape.vocab, max(256, columns))


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
        time_limit_seconds=data["time_limit_seconds"],
        weights=Weights(**data["weights"]),
        lengths=Lengths.from_table(data["lengths"]),
        rounds=Rounds(**data["rounds"]),
        probe=probe,
        cases=tuple(_planned(row, probe) for row in data["case"]),
    )


def _planned(row: Mapping[str, Any], size: ProbeSize) -> SuiteCase:
    shape, scheme = architecture(row["architecture"]), Scheme(row["scheme"])
    case = anchor_case(shape, scheme) if row.get("anchor", False) else suite_case(shape, scheme, size)
    return replace(case, processor=Processor(row.get("processor", Processor.ANY)))


def suite_case(shape: Architecture, scheme: Scheme, size: ProbeSize) -> SuiteCase:
    """Return the case of a shape in a scheme, with its layer probes of the given size."""
    probe_layers, short_layers, head_columns = plan_probe(shape, scheme, size)
    return SuiteCase(
        architecture=shape,
        scheme=scheme,
        probe_layers=probe_layers,
        short_probe_layers=short_layers,
        head_columns=head_columns,
    )


def anchor_case(shape: Architecture, scheme: Scheme) -> SuiteCase:
    """Return the case of a full model alone."""
    head_columns = shape.vocab if shape.kind is ArchitectureKind.DECODER else 0
    return SuiteCase(
        architecture=shape,
        scheme=scheme,
        probe_layers=shape.layers,
        short_probe_layers=0,
        head_columns=head_columns,
        anchor=True,
    )
