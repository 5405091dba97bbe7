"""What the cards of many devices say together: best verdicts, the tier table and the headline."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from weighin_analysis.architecture import ArchitectureKind
from weighin_analysis.card import Card, CardRow, Verdict, best_decoders
from weighin_analysis.catalog import class_rank, size_class_of, size_classes
from weighin_analysis.evidence import DeviceFacts, accelerator_memory_bytes
from weighin_analysis.judge import judge
from weighin_analysis.snapshot import CaseFailure, DeviceRecord

# From best to worst: the order of columns.
VERDICTS = tuple(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResult:
    """A device with the card of its newest run."""

    device: DeviceRecord
    card: Card


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRow:
    """How many devices stand where in one size class, by the best row of each; every device is counted once.

    ``computed_counts`` are those of the ``counts`` on which nothing of the class was run, ``failed_count`` those of the
    ``not_measured_count`` that tried a decoder of the class, in vain.
    """

    size_class: str
    counts: Mapping[Verdict, int]
    computed_counts: Mapping[Verdict, int]
    not_measured_count: int
    failed_count: int


def device_facts(device: DeviceRecord) -> DeviceFacts:
    """Return what the analysis core needs to know of a device."""
    run, hardware = device.run, device.hardware
    # The run states the free memory of the accelerators in the order in which the hardware lists them.
    listed = zip(hardware.accelerators, run.accelerator_memory_available_bytes, strict=False)
    return DeviceFacts(
        memory_available_bytes=run.memory_available_bytes,
        read_bandwidth_bytes_per_second=run.read_bandwidth_bytes_per_second,
        core_count=hardware.physical_core_count,
        accelerator_memory_bytes=accelerator_memory_bytes(
            (one.shares_main_memory, free, one.memory_total_bytes) for one, free in listed
        ),
        software_providers=frozenset(ep.name for ep in hardware.execution_providers if ep.is_software),
    )


def judge_device(device: DeviceRecord) -> DeviceResult:
    """Return a device with the card of its newest run."""
    run = device.run
    card = judge(
        run.measurements,
        device_facts(device),
        conditions=[state for state in (run.before, run.after) if state],
        gated_cases=[failure.case for failure in run.failures if failure.reason == "memory_gate"],
        failed_cases=[failure.case for failure in run.failures],
    )
    return DeviceResult(device=device, card=card)


def failed_cases(device: DeviceRecord) -> tuple[CaseFailure, ...]:
    """Return the failures that the card has no row for; what the memory gate stopped has one."""
    return tuple(failure for failure in device.run.failures if failure.reason != "memory_gate")


def failed_classes(device: DeviceRecord) -> set[str]:
    """Return the size classes in which a decoder failed."""
    shapes = [failure.case.architecture for failure in failed_cases(device)]
    return {size_class_of(one.parameter_count).name for one in shapes if one.kind is ArchitectureKind.DECODER}


def best_rows(card: Card) -> dict[str, CardRow]:
    """Return {size class: its best decoder row}, of those that count."""
    return {name: row for name, row in best_decoders(card.rows).items() if row.counts}


def tier_table(results: Sequence[DeviceResult]) -> tuple[TierRow, ...]:
    """Return a row for every class that has a reference shape or that some device has a verdict on, smallest first."""
    best = [best_rows(result.card) for result in results]
    failed = Counter(
        name
        for result, rows_of_device in zip(results, best, strict=True)
        for name in failed_classes(result.device) - rows_of_device.keys()
    )
    rows = []
    for size_class in size_classes():
        found = [rows_of_device[size_class.name] for rows_of_device in best if size_class.name in rows_of_device]
        if found or failed[size_class.name] or size_class.reference:
            counts = Counter(row.verdict for row in found)
            computed = Counter(row.verdict for row in found if row.computed)
            rows.append(
                TierRow(
                    size_class=size_class.name,
                    counts={verdict: counts[verdict] for verdict in VERDICTS},
                    computed_counts={verdict: computed[verdict] for verdict in VERDICTS},
                    not_measured_count=len(results) - len(found),
                    failed_count=failed[size_class.name],
                )
            )
    return tuple(rows)


def tier_counts(results: Sequence[DeviceResult]) -> list[tuple[str, int]]:
    """Return (tier, devices of that tier or a larger one) for every tier that occurs, the largest first."""
    tiers = [result.card.tier for result in results if result.card.tier]
    found = sorted(set(tiers), key=class_rank, reverse=True)
    return [(tier, sum(class_rank(other) >= class_rank(tier) for other in tiers)) for tier in found]


def fleet_headline(results: Sequence[DeviceResult]) -> str:
    """Return the decision in one sentence: the card's own for one device, shares of devices by tier for several."""
    if not results:
        return "No runs yet."
    if len(results) == 1:
        return results[0].card.headline
    total = len(results)
    parts = [
        f"{count} ({round(100 * count / total)} %){' comfortably run models of' if place == 0 else ''} {tier} or larger"
        for place, (tier, count) in enumerate(tier_counts(results))
    ]
    without = sum(1 for result in results if not result.card.tier)
    if not parts:
        return f"None of {total} devices runs a measured class comfortably."
    tail = f"; {without} run no measured class comfortably" if without else ""
    return f"Of {total} devices, {', '.join(parts)}{tail}."


def share_interval(count: int, total: int, probability: float) -> tuple[float, float]:
    """Return the Wilson score interval of a share: where it lies if the devices are a random sample of all devices.

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209. Holds its probability also for few devices and for shares near 0 and 1.
    """
    z = NormalDist().inv_cdf(0.5 + probability / 2)
    share, scale = count / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)
