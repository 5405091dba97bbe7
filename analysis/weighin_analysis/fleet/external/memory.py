"""What models take on external devices, and how much memory these are assumed to have for them.

Nobody published what was free. So it is assumed, and every assumption is told: a phone's by the load rule, which is
made for this; of a card, and of any other device, all that it has. A model that ran is proof of as much as it took.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from weighin_analysis.answers.candidate import Candidate
from weighin_analysis.answers.requirement import Setting, requirement
from weighin_analysis.fleet.external.published import ExternalDevice
from weighin_analysis.limits import Limits
from weighin_analysis.memory.load_rule import load_rule
from weighin_analysis.memory.runtimes import Pool, Runtime
from weighin_analysis.models.catalogue import catalogue

_LLAMA_CPP = ("llama.cpp", "llama.rn", "llamafile", "ollama", "lm studio")
_LITERT = ("litert", "mediapipe")
_BACKENDS = {"cpu": Runtime.LLAMA_CPP, "opencl": Runtime.LLAMA_CPP_OPENCL, "hexagon": Runtime.LLAMA_CPP_HEXAGON}
_RAN = "a model that ran there took more than that"


@dataclass(frozen=True, slots=True)
class Setup:
    """What has to be the same for one row to tell of another."""

    runtime: str
    backend: str
    quantization: str

    @property
    def known_runtime(self) -> Runtime | None:
        """The runtime whose memory and files weighin knows, None where it is another one."""
        name, backend = self.runtime.casefold(), self.backend.casefold()
        if any(one in name for one in _LLAMA_CPP):
            return next((it for start, it in _BACKENDS.items() if backend.startswith(start)), Runtime.LLAMA_CPP_GPU)
        if name.startswith("rkllm"):
            return Runtime.RKLLM
        if name.startswith("openvino"):
            return Runtime.OPENVINO
        return Runtime.LITERT if name.startswith(_LITERT) and backend.startswith("cpu") else None

    @property
    def pool(self) -> Pool:
        """The memory that its weights are taken from."""
        if self.known_runtime is not None:
            return self.known_runtime.pool
        return Pool.MAIN if self.backend.casefold().startswith("cpu") else Pool.ACCELERATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a model takes at the reference workload; None is not known, and ``notes`` say why."""

    memory_bytes: int | None
    download_bytes: int | None
    notes: tuple[str, ...] = ()


@cache
def needs(setup: Setup, model_name: str, limits: Limits) -> Needs:
    """Return what a model of the catalogue takes in a set-up."""
    runtime = setup.known_runtime
    if runtime is None:
        return Needs(memory_bytes=None, download_bytes=None, notes=("its download is not known",))
    setting = Setting(context_tokens=limits.memory_context_tokens, prompt_tokens=limits.prompt_tokens, runtime=runtime)
    candidate = Candidate(entry=catalogue()[model_name], format=runtime.file_format, scheme=setup.quantization)
    found = requirement(candidate, setting)
    return Needs(memory_bytes=found.memory_bytes, download_bytes=found.download_bytes, notes=found.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedMemory:
    """Bytes that are taken as free in a pool, None where nothing tells, and on what that rests."""

    available_bytes: int | None
    notes: tuple[str, ...] = ()


def assumed_memory(
    device: ExternalDevice, ran: Collection[tuple[Setup, str]], limits: Limits
) -> Mapping[Pool, AssumedMemory]:
    """Return what is taken as free in each pool of a device on which models, by their names, ran."""
    return {
        pool: _assumed(device, pool, [one for one in ran if _draws_on(device, one[0], pool)], limits) for pool in Pool
    }


def _draws_on(device: ExternalDevice, setup: Setup, pool: Pool) -> bool:
    return setup.pool is pool or not device.is_card


def _assumed(device: ExternalDevice, pool: Pool, ran: Iterable[tuple[Setup, str]], limits: Limits) -> AssumedMemory:
    total = None if device.is_card and pool is Pool.MAIN else device.memory_bytes
    if total is None:
        return AssumedMemory(available_bytes=None)
    if device.form_factor in {"phone", "tablet"}:
        # Such that what the limits let a model take of it is the share of RAM up to which the rule says that it loads.
        share = load_rule().share_of_ram
        free = round(share / limits.memory_share * total)
        note = f"free memory is not told: a model may take {share:.0%} of RAM, as the load rule for phones has it"
    else:
        free, note = total, "free memory is not told: all of the memory is taken as free"
    took = [needs(setup, name, limits).memory_bytes or 0 for setup, name in ran]
    shown = math.ceil(max(took, default=0) / limits.memory_share)
    if shown > free:
        return AssumedMemory(available_bytes=shown, notes=(note, _RAN))
    return AssumedMemory(available_bytes=free, notes=(note,))
