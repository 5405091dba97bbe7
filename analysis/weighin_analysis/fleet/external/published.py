"""Devices, runs and measurements of throughput that others published: rows of a snapshot whose source is ``external``.

A device is what the file calls one, and it has one run: everything that the file says of it. Only facts are taken over.
A nominal bandwidth is none, so the device has no read bandwidth; and where rows disagree on its memory, the least is
taken. docs/external.md tells what is assumed.
"""

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from weighin_analysis.fleet.judging.gates import GateAccelerator, GateFacts, gates
from weighin_analysis.public.rows import PublicPhase, PublicRow

SOURCE = "external"
# Version 5 identifiers below this one: the same name is the same device in every import, on every computer.
_NAMESPACE = uuid.UUID("8f0d6a52-6c0b-5f5e-9f4e-3b6f0a4f7c11")

Row = Mapping[str, object]  # a row of a view, by its columns; those that are not there are NULL

# What the file calls a device, as a form factor; a Mac may be several.
FORM_FACTORS: Mapping[str, str | None] = {
    "phone": "phone",
    "tablet": "tablet",
    "tablet-pc": "tablet",
    "laptop": "laptop",
    "laptop-gpu": "laptop",
    "desktop": "desktop",
    "desktop-gpu": "desktop",
    "mini-pc": "desktop",
    "workstation": "desktop",
    "workstation-gpu": "desktop",
    "server-gpu": "server",
    "sbc": "single_board",
    "mac": None,
}
_CARD = "-gpu"  # how the class of a card ends, whose memory is its own


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalDevice:
    """A device of the file with all of its rows.

    ``memory_bytes`` is that of the card where it ``is_card``, else main memory; None where nobody told.
    """

    device_id: str
    run_id: str
    run_number: int
    name: str
    form_factor: str | None
    is_card: bool
    memory_bytes: int | None
    accelerator_kind: str | None
    rows: tuple[PublicRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did.

    ``row_count`` rows are measurements now; ``left_out`` counts those of them that say nothing of other models, by
    reason. ``estimated_device_count`` devices have an estimate, ``disputed_memory_count`` rows that disagree on their
    memory. ``unknown_classes`` counts devices by their class where no form factor is known for it.
    ``replaced_device_count`` were in the snapshot before, ``kept_device_count`` are others of it.
    """

    row_count: int
    device_count: int
    estimate_count: int
    estimated_device_count: int
    disputed_memory_count: int
    unknown_classes: Mapping[str, int]
    left_out: Mapping[str, int]
    replaced_device_count: int
    kept_device_count: int


def devices_of(rows: Iterable[PublicRow]) -> tuple[ExternalDevice, ...]:
    """Return the devices of a file in the order in which they come, their runs numbered from 1."""
    by_name: defaultdict[str, list[PublicRow]] = defaultdict(list)
    for row in rows:
        by_name[row.device].append(row)
    numbered = enumerate(by_name.items(), start=1)
    return tuple(_device(name, tuple(own), number) for number, (name, own) in numbered)


def _device(name: str, rows: tuple[PublicRow, ...], run_number: int) -> ExternalDevice:
    device_id = uuid.uuid5(_NAMESPACE, name)
    is_card = rows[0].device_class.endswith(_CARD)
    return ExternalDevice(
        device_id=str(device_id),
        run_id=str(uuid.uuid5(device_id, "run")),
        run_number=run_number,
        name=name,
        form_factor=FORM_FACTORS.get(rows[0].device_class),
        is_card=is_card,
        memory_bytes=min((row.memory_bytes for row in rows if row.memory_bytes is not None), default=None),
        accelerator_kind=_accelerator_kind({row.compute_unit for row in rows}, is_card=is_card),
        rows=rows,
    )


def _accelerator_kind(compute_units: set[str], *, is_card: bool) -> str | None:
    """Return the kind of the largest accelerator that was computed on; None where all ran on the processor."""
    if "gpu" in compute_units:
        return "gpu" if is_card else "integrated_gpu"
    return "npu" if "npu" in compute_units else None


def memory_is_disputed(device: ExternalDevice) -> bool:
    """Return whether rows tell different sizes of a device's memory."""
    return len({row.memory_bytes for row in device.rows} - {None}) > 1


def device_row(device: ExternalDevice, import_time: datetime) -> Row:
    """Return the row of ``devices``."""
    main_bytes, card_bytes = (None, device.memory_bytes) if device.is_card else (device.memory_bytes, None)
    return {
        "device_id": device.device_id,
        "source": SOURCE,
        "run_id": device.run_id,
        "run_number": device.run_number,
        "run_count": 1,
        "last_receive_time": import_time,
        "name": device.name,
        "form_factor": device.form_factor,
        "memory_total_bytes": main_bytes,
        "accelerator_kind": device.accelerator_kind,
        "accelerator_model": device.name if device.is_card else None,
        "accelerator_memory_bytes": card_bytes,
        **_gate_columns(device, main_bytes, card_bytes),
    }


def _gate_columns(device: ExternalDevice, main_bytes: int | None, card_bytes: int | None) -> Row:
    card = GateAccelerator(kind="gpu", memory_total_bytes=card_bytes, shares_main_memory=False)
    found = gates(
        GateFacts(
            form_factor=device.form_factor,
            os_family=None,
            os_version=None,
            cpu_model=None,
            logical_core_count=None,
            memory_total_bytes=main_bytes,
            storage_free_bytes=None,
            accelerators=[card] if device.is_card else [],
            accelerators_complete=False,
        )
    )
    return {
        "chrome_built_in_ai": found.chrome_built_in_ai,
        "copilot_plus_pc": found.copilot_plus_pc,
        "android_performance_class": found.android_performance_class,
        "gate_gaps": list(found.gaps),
        "gates_version": found.version,
    }


def run_row(device: ExternalDevice, import_time: datetime, file_sha256: str) -> Row:
    """Return the row of ``runs``: the hash is that of the file that told of it."""
    return {
        "run_id": device.run_id,
        "run_number": device.run_number,
        "device_id": device.device_id,
        "sequence": 1,
        "receive_time": import_time,
        "source": SOURCE,
        "run_sha256": file_sha256,
    }


def measurement_rows(device: ExternalDevice) -> list[Row]:
    """Return the rows of ``measurements``: one per row of the file, as it stands, believed or not."""
    return [_measurement_row(device, number, row) for number, row in enumerate(device.rows)]


def _measurement_row(device: ExternalDevice, number: int, row: PublicRow) -> Row:
    rate = row.tokens_per_second
    tokens = 1 if row.phase is PublicPhase.DECODE else prompt_tokens(row)
    return {
        "run_id": device.run_id,
        "run_number": device.run_number,
        "device_id": device.device_id,
        "source": SOURCE,
        "ord": number,
        "model": row.model,
        "kind": "external",
        "scheme": row.quantization,
        "runtime": row.runtime,
        "execution_provider": row.backend,
        "threads": threads(row),
        # A model that did not load was to decode as little as to take a prompt.
        "phase": None if row.phase is PublicPhase.OUT_OF_MEMORY else str(row.phase),
        "token_count": tokens,
        "median_seconds": tokens / rate if tokens and rate else None,
        "tokens_per_second": rate,
    }


def prompt_tokens(row: PublicRow) -> int | None:
    """Return the tokens of the prompt that a test's name states first, as in ``pp512``; None where it states none."""
    found = re.match(r"(?:pp)?([0-9]{1,6})(?: in\b| tokens\b|$)", row.test)
    return int(found[1]) if found else None


def threads(row: PublicRow) -> int | None:
    """Return how many threads the notes of a row state, None where they state none."""
    found = re.search(r"\b([0-9]{1,4}) threads\b", row.notes)
    return int(found[1]) if found else None
