"""Computes every fitted constant of data/memory_runtimes.toml again, each error leaving one model out.

python tools/fit_memory.py          prints constants, errors by runtime, and how the load rule does
python tools/fit_memory.py --check  exits with 1 where the data file says anything else
"""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from weighin_analysis.data_files import read_data
from weighin_analysis.errors import CatalogError
from weighin_analysis.memory.llama_cpp import loading_bytes, weights_bytes
from weighin_analysis.memory.load_rule import LoadRule, fit_load_rule, load_peak_bytes
from weighin_analysis.memory.runtimes import Runtime, llama_cpp_backend, memory_use
from weighin_analysis.models.catalogue import entry as catalogue_entry
from weighin_analysis.models.entry import CountBasis, KvCache, ModelEntry, ModelKind
from weighin_analysis.sizes import gguf, litert
from weighin_analysis.sizes.artefact import DownloadSize, Format, SizeBasis
from weighin_analysis.sizes.vendor_formats import download_size as vendor_size

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
MIB = 1 << 20
GIB = 1 << 30
CONTEXT_TOKENS = 2048  # of all tries to load
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
    compute_bytes: int
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
    return Counted(row=row, counted_bytes=use.total - fitted, compute_bytes=use.activations, factors=factors)


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
def peak_bytes(row: FitRow) -> int:
    """Return the peak of a row as weighin tells it, from the catalogue alone."""
    entry = catalogue_entry(row.model)
    artefact = gguf.download_size(entry, row.scheme)
    return load_peak_bytes(entry, artefact, row.runtime, context_tokens=CONTEXT_TOKENS)


@cache
def peak_with_logged_weights(row: FitRow) -> int:
    """Return the peak with the weights that were logged on a larger phone: what a better count of them would bring."""
    entry = catalogue_entry(row.model)
    return peak_bytes(row) - weights_bytes(entry, gguf.download_size(entry, row.scheme)) + row.weights_bytes


@cache
def peak_without_copy(row: FitRow) -> int:
    """Return the peak without the second copy of a tensor that OpenCL's back end makes while it loads."""
    backend = llama_cpp_backend(row.runtime)
    assert backend is not None
    entry = catalogue_entry(row.model)
    return peak_bytes(row) - loading_bytes(entry, gguf.download_size(entry, row.scheme), backend)


Feature = Callable[[FitRow], int]
FEATURES: dict[str, Feature] = {
    "total logged on a larger phone": lambda row: row.reference_total_bytes,
    "computed peak": peak_bytes,
    "computed peak, weights logged on a larger phone": peak_with_logged_weights,
    "computed peak, without OpenCL's copy": peak_without_copy,
}
CONSTANT_SHARE, SHIPPED = tuple(FEATURES.values())[:2]

Fit = Callable[[Sequence[float], Sequence[bool]], LoadRule]


def fewest_errors(peak_shares: Sequence[float], loaded: Sequence[bool]) -> LoadRule:
    """Return the share with the fewest wrong answers, the median of such: another fit than the likeliest curve."""
    shares = np.asarray(peak_shares)
    borders = (np.sort(shares)[1:] + np.sort(shares)[:-1]) / 2
    errors = ((shares <= borders[:, None]) != np.asarray(loaded)).sum(axis=1)
    return LoadRule(share_of_ram=float(np.median(borders[errors == errors.min()])), spread=0.0)


def rule_of(rows: Iterable[FitRow], feature: Feature, fit: Fit = fit_load_rule) -> LoadRule:
    """Return the rule that these rows make."""
    rows = tuple(rows)
    return fit([feature(row) / row.ram_bytes for row in rows], [row.loaded for row in rows])


def wrong(rows: Iterable[FitRow], feature: Feature, rule: LoadRule) -> list[FitRow]:
    """Return the rows of which a rule says the opposite."""
    return [row for row in rows if rule.loads(feature(row), row.ram_bytes) != row.loaded]


def wrong_leaving_out(
    group: Callable[[FitRow], str], rows: Sequence[FitRow], feature: Feature, fit: Fit = fit_load_rule
) -> list[FitRow]:
    """Return the rows of which the rule of all other groups, back ends or models, says the opposite."""
    found = []
    for left_out in dict.fromkeys(map(group, rows)):
        rule = rule_of((row for row in rows if group(row) != left_out), feature, fit)
        found += wrong((row for row in rows if group(row) == left_out), feature, rule)
    return found


def backend(row: FitRow) -> str:
    """Return where llama.cpp computed."""
    return row.runtime


def model(row: FitRow) -> str:
    """Return what was loaded."""
    return row.model


def only_one_errs(first: Sequence[FitRow], second: Sequence[FitRow]) -> tuple[int, int, float]:
    """Return how many rows only the first and only the second gets wrong, and how likely chance parts them so far.

    The two-sided sign test of McNemar, exact.
    """
    only_first, only_second = len([r for r in first if r not in second]), len([r for r in second if r not in first])
    count, least = only_first + only_second, min(only_first, only_second)
    return only_first, only_second, min(1.0, 2 * sum(comb(count, k) for k in range(least + 1)) / 2**count)


def tried_phone(rows: Iterable[FitRow]) -> tuple[FitRow, ...]:
    """Return the rows of the one phone on which three back ends were tried, and the rule is fitted."""
    return tuple(row for row in rows if row.device.startswith("Galaxy S23"))


def print_load_rule(rows: Sequence[FitRow]) -> dict[str, float]:
    """Print how the load rule and others do, and return the constants of the one that ships."""
    phone = tried_phone(rows)
    refused = [row for row in phone if not row.loaded]
    print(f"{len(phone)} tries, {len(refused)} did not load, of {len({row.model for row in refused})} models")
    for name, feature in FEATURES.items():
        rule = rule_of(phone, feature)
        by_backend = wrong_leaving_out(backend, phone, feature)
        print(
            f"{name}: {rule}; wrong in-sample {_split(wrong(phone, feature, rule))}, leaving a back end out "
            f"{_split(by_backend)}, a model {_split(wrong_leaving_out(model, phone, feature))}; fewest errors, leaving "
            f"a back end out {_split(wrong_leaving_out(backend, phone, feature, fewest_errors))}"
        )
        for row in by_backend:
            print(f"    {row.runtime:18} {row.model} {row.scheme} loaded={row.loaded} {feature(row) / MIB:.0f} MiB")
    pair = [wrong_leaving_out(backend, phone, feature) for feature in (SHIPPED, CONSTANT_SHARE)]
    print("only the computed peak errs, only the constant share, p: {} {} {:.2f}".format(*only_one_errs(*pair)))
    rule = rule_of(phone, SHIPPED)
    others = [row for row in rows if row not in phone]
    print(
        f"other phones: {_split(wrong(others, SHIPPED, rule))} of {len(others)} wrong; "
        f"always yes {len([row for row in others if not row.loaded])}"
    )
    return {"share_of_ram": rule.share_of_ram, "spread": rule.spread}


def _split(mistakes: Sequence[FitRow]) -> str:
    """Return how many are wrong: said yes, did not load + said no, loaded."""
    return f"{len(mistakes)} ({sum(not row.loaded for row in mistakes)} + {sum(row.loaded for row in mistakes)})"


def buffer_error(rows: Iterable[Counted]) -> tuple[float, float]:
    """Return how far off llama.cpp's compute buffers alone are, which totals hide: median and 90th percentile."""
    return median_and_p90(one.compute_bytes / one.row.compute_bytes - 1 for one in rows if one.row.compute_bytes)


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
        if any(one.row.compute_bytes for one in own):
            print("{:18} compute buffer alone: median {:6.1%} p90 {:6.1%}".format("", *buffer_error(own)))
        derived[runtime] = {"error": round(p90, 2)} | {name: round(value, -3) for name, value in constants.items()}
    middle, p90 = median_and_p90(everything)
    print(f"{'all':18} n={len(everything):3} median {middle:6.1%} p90 {p90:6.1%}")
    derived["load_rule"] = print_load_rule(fit_rows())
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
