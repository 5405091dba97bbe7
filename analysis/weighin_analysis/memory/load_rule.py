"""Whether a model loads on a phone of which only the RAM is known.

Where free memory is known, it decides (``Limits.memory_share`` of it): what others hold differs by phone and hour. So
the agent, which reads what is free on the device, does not ask this rule. `weighin-analysis import` does, of phones and
tablets of which others told no more than RAM. It rests on one phone of 8 GB; tests/analysis/memory and
tools/fit_memory.py hold it against two more (docs/memory.md). What counts is memory that the system cannot drop and
read again: weights read into buffers, KV cache, compute buffers, and at the peak the copy that a back end makes of a
tensor to lay it out anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weighin_analysis.data_files import read_data
from weighin_analysis.memory.llama_cpp import loading_bytes
from weighin_analysis.memory.runtimes import Runtime, llama_cpp_backend, memory_use
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.sizes.artefact import DownloadSize

_SHARES = np.arange(0.2, 0.9, 0.0005)
_SPREADS = np.array([0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2])  # of ln(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRule:
    """A model loads as often as not where its peak is ``share_of_ram``; ``spread`` is that of the logistic curve.

    It is the scale over the logarithm of the peak: at ``share_of_ram`` x exp(-2 spread) seven of eight load.
    """

    share_of_ram: float
    spread: float

    def loads(self, peak_bytes: int, ram_bytes: int) -> bool:
        """Return whether a model with this peak rather loads than not on a phone with so much RAM in all."""
        return peak_bytes <= self.share_of_ram * ram_bytes

    def probability(self, peak_bytes: int, ram_bytes: int) -> float:
        """Return how likely it loads, as far as one phone tells."""
        return float(1 / (1 + np.exp((np.log(peak_bytes / ram_bytes) - np.log(self.share_of_ram)) / self.spread)))


def load_rule() -> LoadRule:
    """Return the rule that ships with this version of the package."""
    return LoadRule(**read_data("memory_runtimes.toml")["load_rule"])


def load_peak_bytes(entry: ModelEntry, artefact: DownloadSize, runtime: Runtime, *, context_tokens: int) -> int:
    """Return the most that a model takes while it loads and runs; SizeError where that cannot be told."""
    use = memory_use(entry, artefact, runtime, context_tokens=context_tokens, prompt_tokens=context_tokens)
    backend = llama_cpp_backend(runtime)
    return use.total + (0 if backend is None else loading_bytes(entry, artefact, backend))


def fit_load_rule(peak_shares: Sequence[float], loaded: Sequence[bool]) -> LoadRule:
    """Return the likeliest logistic curve over the logarithm of the peak's share of RAM.

    Two numbers, by maximum likelihood on a grid: rows far from the border hardly count, those near it all do, and no
    single one moves it by much, as it does where errors are counted.
    """
    peaks = np.log(np.asarray(peak_shares))[:, None, None]
    sign = np.where(np.asarray(loaded), 1.0, -1.0)[:, None, None]
    margins = sign * (np.log(_SHARES)[None, :, None] - peaks) / _SPREADS[None, None, :]
    likelihood = -np.logaddexp(0, -margins).sum(axis=0)
    share, spread = np.unravel_index(likelihood.argmax(), likelihood.shape)
    return LoadRule(share_of_ram=round(float(_SHARES[share]), 4), spread=float(_SPREADS[spread]))
