"""The decision in one sentence: what to ship to how many devices, and what is left to a server."""

from weighin_analysis.catalog import class_rank
from weighin_analysis.fleet.coverage.values import Coverage, ShipRow
from weighin_analysis.report.cards import CardLine, DeviceDetail
from weighin_analysis.report.numbers import counted, people, percent, share_interval

# The class that is named first is the largest that this share of the devices runs comfortably.
MAJORITY = 0.5
# The class for the others is the largest that reaches this part of what the smallest one reaches.
NEARLY_ALL = 0.95


def main_choice(coverage: Coverage) -> ShipRow | None:
    """Return the largest class that most devices run comfortably; where none is, that with the largest reach."""
    choices = _choices(coverage)
    wide = [row for row in choices if row.reach.value >= MAJORITY]
    return _largest(wide) or max(choices, key=lambda row: row.reach.value, default=None)


def fallback_choice(coverage: Coverage) -> ShipRow | None:
    """Return the largest class that reaches nearly all of the devices that any class reaches."""
    choices = _choices(coverage)
    most = max((row.reach.value for row in choices), default=0.0)
    return _largest([row for row in choices if row.reach.value >= NEARLY_ALL * most])


def fleet_headline(coverage: Coverage) -> str:
    """Return the decision about several devices in one sentence, by the first limits."""
    sample = coverage.sample
    devices = _devices(coverage)
    if sample.unjudged_device_count == sample.device_count:
        return f"Nothing can be said of {devices}: no run gave a measurement that a class can be judged by."
    main, fallback = main_choice(coverage), fallback_choice(coverage)
    if main is None or fallback is None:
        return f"Leave all to a server: none of {devices} runs a measured class comfortably."
    low, high = share_interval(main.reach)
    reach = f"the {percent(main.reach.value)} ({low} to {high}) of {devices} that run it comfortably"
    more = fallback.reach.value - main.reach.value
    smaller = f"{fallback.size_class} to {percent(more)} more" if fallback is not main and more > 0 else ""
    rest = (fallback if smaller else main).server.value
    server = f"leave {percent(rest)} to a server" if rest > 0 else ""
    return f"Ship {main.size_class} to {_listed([reach, smaller, server])}."


def device_headline(detail: DeviceDetail) -> str:
    """Return what one device runs, in one sentence."""
    line = detail.line
    decoders = [row for row in detail.rows if row.architecture_kind == "decoder" and row.counts and row.verdict]
    tier = line.tiers[0]
    if tier:
        at_least = "at least " if tier == _largest_class(decoders) else ""
        return f"This device comfortably runs {at_least}{tier} models{_bits(decoders, tier)}."
    if line.usable_tier:
        words = f"This device runs {line.usable_tier} models{_bits(decoders, line.usable_tier)} at reading speed"
        return f"{words}, but no measured class comfortably."
    if decoders:
        return "This device runs none of the measured classes fast enough to be useful."
    return "No generating model was measured on this device."


def _choices(coverage: Coverage) -> list[ShipRow]:
    first = coverage.limits_versions[0]
    return [row for row in coverage.ship if row.limits_version == first and row.size_class and row.reach.value > 0]


def _largest(rows: list[ShipRow]) -> ShipRow | None:
    return max(rows, key=lambda row: class_rank(row.size_class or ""), default=None)


def _devices(coverage: Coverage) -> str:
    """Return how many devices a share counts, and of which sources they are."""
    sample = coverage.sample
    judged = sample.device_count - (sample.unjudged_device_count or 0)
    some = f"{judged} judged of " if sample.unjudged_device_count and judged else ""
    devices = f"{some}{counted(sample.device_count, 'device')}{_sources(coverage)}"
    return people(sample.covered_population_share, devices) if sample.weighted else devices


def _sources(coverage: Coverage) -> str:
    """Return how many devices are of which source, where they are not all weighed in by the agent."""
    sources = {name: count for name, count in coverage.sample.sources.items() if count}
    if set(sources) <= {"native"}:
        return ""
    if len(sources) == 1:
        return f" {SOURCE_WORDS.get(next(iter(sources)), next(iter(sources)))}"
    return f" ({_listed([f'{count} {SOURCE_WORDS.get(name, name)}' for name, count in sources.items()])})"


# How the page calls the sources of devices.
SOURCE_WORDS = {"native": "weighed in", "browser": "measured in a browser", "external": "from published figures"}


def _listed(parts: list[str]) -> str:
    """Return the parts that are there as “a”, “a and b” or “a, b, and c”."""
    found = [part for part in parts if part]
    if len(found) < 3:
        return " and ".join(found)
    return f"{', '.join(found[:-1])}, and {found[-1]}"


def _largest_class(rows: list[CardLine]) -> str | None:
    return max((row.size_class for row in rows), key=class_rank, default=None)


def _bits(rows: list[CardLine], size_class: str) -> str:
    """Return with how many bits a class is run best, as people say it: int4 for int4_block32."""
    best = next((row for row in rows if row.size_class == size_class and row.is_best), None)
    return f" at {best.scheme.split('_', maxsplit=1)[0]}" if best else ""
