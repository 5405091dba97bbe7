"""Inject every fault, keep its figures under .bench/faults/, and write docs/reliability.md from them.

What was injected at this size before is not injected again, unless it is named with --only: Ctrl-C loses one fault.
"""

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil

from faults.catalogue import FAULTS, Fault, Size
from faults.full_disk import NoSmallDiskError
from faults.fuzzer import NoFuzzerError
from faults.page import Record, page, surroundings

FIGURES = Path(".bench/faults")
PAGE = Path("docs/reliability.md")
_INTERRUPTED = 130
# The devices of a fault are threads beside the one that reads the clock, and each may keep the interpreter so long.
_SWITCH_INTERVAL_SECONDS = 0.0005


def main() -> int:
    """Inject what is asked for; 1 where a bound was not held."""
    parser = argparse.ArgumentParser(prog="faults", description="Inject faults and hold what is stored against it.")
    parser.add_argument(
        "--size", type=Size, choices=list(Size), default=Size.LONG, help="how much; default %(default)s"
    )
    parser.add_argument("--only", choices=[fault.name for fault in FAULTS], action="append", help="this fault only")
    parser.add_argument("--seed", type=int, help="draw the same moments again")
    options = parser.parse_args()
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    missed = []
    for fault in FAULTS:
        if (options.only and fault.name not in options.only) or options.size not in fault.sizes:
            continue
        record = None if options.only else _known(fault, options.size)
        if record:
            print(f"{fault.name}: known from {record.date}; --only {fault.name} injects it again", file=sys.stderr)
        else:
            record = _injected(fault, options.size, options.seed)
        missed += [f"{fault.name}: {text}" for text in record.missed] if record else []
    PAGE.write_text(page([record for fault in FAULTS if (record := largest(fault))]), encoding="utf-8")
    print("\n".join(missed) or "every bound was held", file=sys.stderr)
    return 1 if missed else 0


def _injected(fault: Fault, size: Size, seed: int | None) -> Record | None:
    count = fault.sizes[size]
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"{fault.name}: {count:,} {fault.unit}, seed {seed} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="weighin-faults-") as folder, _telling(fault.name):
        try:
            figures = fault.inject(Path(folder), count, random.Random(seed))  # noqa: S311 - no secret
        except (NoSmallDiskError, NoFuzzerError) as error:
            print(f"{fault.name}: left out: {error}", file=sys.stderr)
            return None
    record = Record(
        fault=fault.name,
        size=size,
        count=count,
        date=datetime.now(UTC).date().isoformat(),
        seconds=time.monotonic() - start,
        seed=seed,
        surroundings=surroundings(),
        load_average=psutil.getloadavg()[1],
        missed=figures.missed,
        figures=asdict(figures),  # type: ignore[call-overload]
    )
    path = _path(fault, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(asdict(record), indent=1))
    fresh.replace(path)
    print(f"{fault.name}: {record.seconds:.0f} s, {'held' if not record.missed else record.missed}", file=sys.stderr)
    return record


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """Say every minute that the fault goes on."""
    is_over, minutes = threading.Event(), itertools.count(1)

    def tell() -> None:
        while not is_over.wait(60.0):
            print(f"{name}: {next(minutes)} min ...", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _path(fault: Fault, size: Size) -> Path:
    return FIGURES / size / f"{fault.name}.json"


def _known(fault: Fault, size: Size) -> Record | None:
    """Return the figures of an earlier day, if they are of this size."""
    try:
        record = Record(**json.loads(_path(fault, size).read_text()))
    except (FileNotFoundError, TypeError):  # none, or of another version of this program
        return None
    return record if record.count == fault.sizes.get(size) else None


def largest(fault: Fault) -> Record | None:
    """Return the figures of the largest size at which a fault was injected here, None where it never was."""
    known = (_known(fault, size) for size in reversed(Size))
    return next((record for record in known if record), None)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("faults: stopped by Ctrl-C; what was finished is kept", file=sys.stderr)
        # Threads of devices may still wait for a server that is gone.
        os._exit(_INTERRUPTED)
