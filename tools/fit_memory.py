"""Computes every fitted constant of data/memory_runtimes.toml again, each error leaving one model out.

python tools/fit_memory.py          prints constants, errors by runtime, and how the load rule does
python tools/fit_memory.py --check  exits with 1 where the data file says anything else
"""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from weighin_analysis.data_files import read_data
from weighin_analysis.errors import CatalogError
from weighin_analysis.memory.llama_cpp import loading_bytes
from weighin_analysis.memory.load_rule import LoadRule, fit_load_rule
from weighin_analysis.memory.runtimes import Runtime, llama_cpp_backend, memory_use
from weighin_analysis.models.catalogue import entry as catalogue_entry
from weighin_analysis.models.entry import CountBasis, KvCache, ModelEntry, ModelKind
from weighin_analysis.sizes import gguf, litert
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.vendor_formats import download_size as vendor_size

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
MIB = 1 << 20
GIB = 1 << 30
PROMPT_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """Memory that somebody measured; ``kv_cache_bytes`` are logged, ``kv_cache_not_logged_bytes`` are missing there."""

    device: str
    runtime: Runtime
    backend: str
    model: str
    parameters: int
    scheme: str
    context_tokens: int
    weights_bytes: int
    kv_cache_bytes: int
    kv_cache_not_logged_bytes: int
    compute_bytes: int
    logged_total_bytes: int

    @property
    def total_bytes(self) -> int:
        """True total: what was logged, and what the log left out."""
        return self.logged_total_bytes + self.kv_cache_not_logged_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRow:
    """Whether a model loaded; ``reference_total_bytes`` is what it took on a phone where it did."""

    device: str
    ram_bytes: int
    runtime: Runtime
    model: str
    scheme: str
    weights_bytes: int
    reference_total_bytes: int
    loaded: bool


def memory_rows() -> tuple[MemoryRow, ...]:
    """Return all measurements of tests/data/memory.csv."""
    with (DATA / "memory.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            MemoryRow(
                device=row["device"],
                runtime=Runtime(row["runtime"]),
                backend=row["backend"],
                model=row["model"],
                parameters=int(row["parameters"]),
                scheme=row["scheme"],
                context_tokens=int(row["context_tokens"]),
                weights_bytes=_mib(row["weights_mib"]),
                kv_cache_bytes=_mib(row["kv_cache_mib"]),
                kv_cache_not_logged_bytes=_mib(row["kv_cache_not_logged_mib"]),
                compute_bytes=_mib(row["compute_mib"]),
                logged_total_bytes=_mib(row["total_mib"]),
            )
            for row in csv.DictReader(file)
        )


def fit_rows() -> tuple[FitRow, ...]:
    """Return all tries of tests/data/fits.csv, of three phones."""
    with (DATA / "fits.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            FitRow(
                device=row["device"],
                ram_bytes=int(row["ram_gib"]) * GIB,
                runtime=Runtime(row["runtime"]),
                model=row["model"],
                scheme=row["scheme"],
                weights_bytes=_mib(row["weights_mib"]),
                reference_total_bytes=_mib(row["total_mib_on_reference_phone"]),
                loaded=row["loaded"] == "yes",
            )
            for row in csv.DictReader(file)
        )


def _mib(text: str) -> int:
    return round(float(text or 0) * MIB)


def entry_of(row: MemoryRow) -> ModelEntry:
    """Return the model of a row; where the catalogue lacks it, one of which only the parameters are known.

    These are four models of RKLLM: 192 tokens of any of them keep less than a hundredth of its weights.
    """
    try:
        return catalogue_entry(row.model)
    except CatalogError:
        return ModelEntry(
            name=row.model,
            kind=ModelKind.DECODER,
            parameters=row.parameters,
            count_basis=CountBasis.ROUNDED,
            source="",
            kv_cache=KvCache(layers=0, kv_heads=0, head_dim=0),
        )


def artefact_of(row: MemoryRow) -> DownloadSize:
    """Return the file of a row as weighin counts it; the published size where its mixture of bits has no scheme."""
    entry = entry_of(row)
    match row.runtime:
        case Runtime.RKLLM:
            return vendor_size(entry, Format.RKLLM, row.scheme)
        case Runtime.OPENVINO:
            return vendor_size(entry, Format.OPENVINO, row.scheme)
        case Runtime.LITERT if row.scheme in litert.SCHEMES:
            return litert.download_size(entry, row.scheme)
        case Runtime.LITERT:
            return _published(row.weights_bytes, row.scheme)
        case _:
            return gguf.download_size(entry, row.scheme)


def _published(size: int, scheme: str) -> DownloadSize:
    return DownloadSize(
        format=Format.LITERT,
        scheme=scheme,
        bytes=size,
        low=size,
        high=size,
        basis=SizeBasis.PUBLISHED,
        parts={"other": size},
        tokenizer_bytes=0,
        runtime_bytes=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What is counted of a row, what was measured, and what the fitted constants of its runtime are multiplied by."""

    row: MemoryRow
    counted_bytes: int
    factors: tuple[float, ...]

    def total(self, constants: Sequence[float]) -> float:
        """Return the bytes predicted with some constants."""
        return self.counted_bytes + float(np.dot(self.factors, constants))

    def error(self, constants: Sequence[float]) -> float:
        """Return the signed relative error with some constants."""
        return self.total(constants) / self.row.total_bytes - 1


CONSTANTS = {
    Runtime.LITERT: ("runtime_bytes",),
    Runtime.RKLLM: ("runtime_bytes",),
    Runtime.OPENVINO: ("runtime_bytes", "bytes_per_vocabulary_row"),
}


@cache
def counted(row: MemoryRow) -> Counted:
    """Return a row with what is counted of it."""
    entry = entry_of(row)
    use = memory_use(
        entry, artefact_of(row), row.runtime, context_tokens=row.context_tokens, prompt_tokens=PROMPT_TOKENS
    )
    names = CONSTANTS.get(row.runtime, ())
    fitted = use.runtime or 0 if names else 0
    factors: tuple[float, ...] = (1.0,) if names else ()
    if "bytes_per_vocabulary_row" in names:
        assert entry.shape is not None
        fitted += use.activations
        factors = (1.0, float(entry.shape.architecture.vocab))
    return Counted(row=row, counted_bytes=use.total - fitted, factors=factors)


def fit(rows: Sequence[Counted]) -> tuple[float, ...]:
    """Return the constants with the least relative squares, none below zero; only counted models make them."""
    rows = [one for one in rows if one.factors and entry_of(one.row).shape is not None]
    if not rows:
        return ()
    totals = np.array([one.row.total_bytes for one in rows], dtype=float)
    factors = np.array([one.factors for one in rows]) / totals[:, None]
    rest = 1 - np.array([one.counted_bytes for one in rows]) / totals
    solution = np.linalg.lstsq(factors, rest, rcond=None)[0]
    return tuple(float(max(value, 0)) for value in solution)


def errors_leaving_one_model_out(rows: Sequence[Counted]) -> Iterator[tuple[Counted, float]]:
    """Yield signed errors, each model by constants of the others; with no others by what is counted alone."""
    for model in dict.fromkeys(one.row.model for one in rows):
        others = [one for one in rows if one.row.model != model]
        constants = fit(others)
        for one in rows:
            if one.row.model == model:
                yield one, one.error(constants or (0.0,) * len(one.factors))


def median_and_p90(errors: Iterable[float]) -> tuple[float, float]:
    """Return median and 90th percentile of the absolute errors."""
    sizes = [abs(error) for error in errors]
    return median(sizes), quantiles(sizes, n=10, method="inclusive")[-1]


@cache
def peak_bytes(row: FitRow, *, true_weights: bool) -> int:
    """Return the peak of a row by the catalogue alone, or with the bytes of the very file that was loaded."""
    entry = catalogue_entry(row.model)
    artefact = gguf.download_size(entry, row.scheme)
    use = memory_use(entry, artefact, row.runtime, context_tokens=2048, prompt_tokens=PROMPT_TOKENS)
    backend = llama_cpp_backend(row.runtime)
    assert backend is not None
    weights = row.weights_bytes if true_weights else use.weights
    return use.total - use.weights + weights + loading_bytes(entry, artefact, backend)


Feature = Callable[[FitRow], int]
FEATURES: dict[str, Feature] = {
    "total logged on the larger phone": lambda row: row.reference_total_bytes,
    "peak, by the catalogue": lambda row: peak_bytes(row, true_weights=False),
    "peak, with the file's bytes": lambda row: peak_bytes(row, true_weights=True),
}


def rule_of(rows: Iterable[FitRow], feature: Feature) -> LoadRule:
    """Return the rule that these rows make."""
    rows = tuple(rows)
    return fit_load_rule([feature(row) / row.ram_bytes for row in rows], [row.loaded for row in rows])


def wrong(rows: Iterable[FitRow], feature: Feature, rule: LoadRule) -> list[FitRow]:
    """Return the rows of which a rule says the opposite."""
    return [row for row in rows if rule.loads(feature(row), row.ram_bytes) != row.loaded]


def wrong_leaving_one_backend_out(rows: Sequence[FitRow], feature: Feature) -> list[FitRow]:
    """Return the rows of which the rule of the other back ends says the opposite."""
    found = []
    for runtime in dict.fromkeys(row.runtime for row in rows):
        rule = rule_of((row for row in rows if row.runtime != runtime), feature)
        found += wrong((row for row in rows if row.runtime == runtime), feature, rule)
    return found


def tried_phone(rows: Iterable[FitRow]) -> tuple[FitRow, ...]:
    """Return the rows of the one phone on which three back ends were tried, and the rule is fitted."""
    return tuple(row for row in rows if row.device.startswith("Galaxy S23"))


def main() -> int:
    """Print constants, errors and the load rule; 1 where the data file differs and this is to be checked."""
    rows = [counted(row) for row in memory_rows()]
    everything = []
    derived: dict[str, dict[str, float]] = {}
    for runtime in dict.fromkeys(one.row.runtime for one in rows):
        own = [one for one in rows if one.row.runtime is runtime]
        errors = [error for _, error in errors_leaving_one_model_out(own)]
        everything += errors
        middle, p90 = median_and_p90(errors)
        constants = dict(zip(CONSTANTS.get(runtime, ()), fit(own), strict=True))
        models = len({one.row.model for one in own})
        print(f"{runtime:18} n={len(own):3} models={models:2} median {middle:6.1%} p90 {p90:6.1%} {constants}")
        derived[runtime] = {"error": round(p90, 2)} | {name: round(value, -3) for name, value in constants.items()}
    middle, p90 = median_and_p90(everything)
    print(f"{'all':18} n={len(everything):3} median {middle:6.1%} p90 {p90:6.1%}")
    phone = tried_phone(fit_rows())
    others = [row for row in fit_rows() if row not in phone]
    for name, feature in FEATURES.items():
        rule = rule_of(phone, feature)
        out = wrong_leaving_one_backend_out(phone, feature)
        print(f"{name}: {rule}; wrong in-sample {len(wrong(phone, feature, rule))}, ", end="")
        print(f"leaving one back end out {len(out)} of {len(phone)}; other phones", end=" ")
        print(", ".join(f"{row.device} {row.model} {row.scheme}" for row in wrong(others, feature, rule)))
        for row in out:
            print(f"    {row.runtime:18} {row.model} {row.scheme} loaded={row.loaded} {feature(row) / MIB:.0f} MiB")
    rule = rule_of(phone, FEATURES["peak, with the file's bytes"])
    derived["load_rule"] = {"share_of_ram": rule.share_of_ram, "spread": rule.spread}
    told = read_data("memory_runtimes.toml")
    differing = {name: values for name, values in derived.items() if not _agree(told[name], values)}
    print(f"data/memory_runtimes.toml differs: {differing}" if differing else "data/memory_runtimes.toml agrees")
    return 1 if differing and "--check" in sys.argv[1:] else 0


def _agree(told: dict[str, float], derived: dict[str, float]) -> bool:
    """Whether the constants are those derived, within a hundredth, and errors within two points."""
    return all(
        abs(told[name] - value) <= max(0.01 * value, 0.02 if name == "error" else 0) for name, value in derived.items()
    )


if __name__ == "__main__":
    sys.exit(main())
