"""What is wrong with entries of a catalogue, as lines for whoever keeps it."""

from collections.abc import Iterator, Sequence

from weighin_analysis.models.catalogue import key
from weighin_analysis.models.entry import CountBasis, ModelEntry
from weighin_analysis.models.shape import Experts, Shape
from weighin_analysis.models.tensors import active_parameter_count, parameter_count

_MOST_LAYERS = 2**12  # some thirty times the deepest model: a count walks every layer
_MOST_NORMS = 8  # twice those of a sandwich
_MOST_PARAMETERS = 10**15  # a thousand times the largest model
_TOLERANCE = 0.005  # between a shape and a count that the shape does not reach exactly
_ARCHITECTURE_COUNTS = ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab")


def problems(entries: Sequence[ModelEntry]) -> list[str]:
    """Return what is wrong with a catalogue: in each entry, and with names that two of them share."""
    found = [f"{one.name}: {problem}" for one in entries for problem in entry_problems(one)]
    names = {one.name for one in entries}
    found += [
        f"{one.name}: teacher: there is no model {one.teacher!r}"
        for one in entries
        if one.teacher is not None and one.teacher not in names
    ]
    first: dict[str, int] = {}
    for place, one in enumerate(entries):
        for name in (one.name, *one.aliases):
            other = first.setdefault(key(name), place)
            if other != place:
                found.append(f"{one.name}: the name {name!r} already belongs to {entries[other].name}")
    return found


def entry_problems(entry: ModelEntry) -> list[str]:
    """Return what is wrong with one entry by itself; nothing where every count agrees with its shape and sources."""
    shape_faults = shape_problems(entry.shape) if entry.shape else []
    counts = [] if shape_faults else _count_problems(entry)
    return [*_text_problems(entry), *_number_problems(entry), *shape_faults, *counts]


def shape_problems(shape: Shape) -> list[str]:
    """Return why no transformer can have this shape, so that no count of it means anything."""
    arch = shape.architecture
    found = [f"{name}: must be at least 1" for name in _ARCHITECTURE_COUNTS if getattr(arch, name) < 1]
    if arch.layers > _MOST_LAYERS:
        found.append(f"layers: must be at most {_MOST_LAYERS}")
    if shape.norms_per_layer > _MOST_NORMS:
        found.append(f"norms_per_layer: must be at most {_MOST_NORMS}")
    if arch.kv_heads > 0 and arch.heads % arch.kv_heads:
        found.append(f"kv_heads: {arch.heads} heads cannot share {arch.kv_heads}")
    if arch.sliding_window == 0 or arch.global_layer_interval == 0:
        found.append("sliding_window and global_layer_interval: must be at least 1, or left out")
    if shape.embedding_width == 0:
        found.append("embedding_width: must be at least 1, or left out")
    if shape.distinct_layers is not None and not 1 <= shape.distinct_layers <= arch.layers:
        found.append(f"distinct_layers: must be from 1 to {arch.layers}")
    if shape.experts is not None:
        found += _experts_problems(shape.experts, arch.layers)
    return found


def _experts_problems(experts: Experts, layers: int) -> Iterator[str]:
    if not 1 <= experts.active <= experts.count:
        yield f"experts: of {experts.count} experts, from 1 to all are active, not {experts.active}"
    if experts.dense_layers > layers:
        yield f"experts: only {layers} layers can be dense"
    if (experts.dense_layers > 0) != (experts.dense_ffn > 0):
        yield "experts: dense_layers and dense_ffn are told together"


def _text_problems(entry: ModelEntry) -> Iterator[str]:
    for name in (entry.name, *entry.aliases):
        if not key(name) or not name.isprintable():
            yield f"name: {name!a} cannot be read"
    for source in (entry.source, *([entry.published.source] if entry.published else [])):
        if not source.startswith("https://") or not source.isprintable():
            yield f"source: must be a public address that begins with https://, not {source!a}"
    if entry.teacher == entry.name:
        yield "teacher: nothing is distilled from itself"


def _number_problems(entry: ModelEntry) -> Iterator[str]:
    if entry.disclosed != (entry.parameters is not None):
        yield "parameters: must be told, unless count_basis is undisclosed"
    for field in ("parameters", "active_parameters", "context_tokens", "vocab", "hidden"):
        value = getattr(entry, field)
        if value is not None and not 1 <= value <= _MOST_PARAMETERS:
            yield f"{field}: must be from 1 to {_MOST_PARAMETERS:,}"
    if entry.parameters is not None and (entry.active_parameters or 0) > entry.parameters:
        yield "active_parameters: must be at most all parameters"
    if entry.shape is not None and (entry.kv_cache or entry.vocab or entry.hidden):
        yield "kv_cache, vocab and hidden: follow from the shape, and are told only where there is none"


def _count_problems(entry: ModelEntry) -> Iterator[str]:
    if entry.shape is None:
        if entry.count_basis is CountBasis.COMPUTED:
            yield "shape: must be told where the parameters are computed from it"
    elif entry.parameters is not None:
        counted, active = parameter_count(entry.shape), active_parameter_count(entry.shape)
        exact = entry.count_basis is CountBasis.COMPUTED
        if counted != entry.parameters and (exact or not _agree(counted, entry.parameters)):
            yield f"parameters: {entry.parameters:,}, but its shape has {counted:,}"
        if entry.shape.experts and (entry.active_parameters is None or not _agree(active, entry.active_parameters)):
            yield f"active_parameters: {entry.active_parameters}, but its shape passes {active:,}"
    if entry.published and entry.parameters and not _agree(entry.parameters, entry.published.parameters):
        yield f"published: {entry.published.parameters:,} parameters are not the {entry.parameters:,} of this entry"


def _agree(counted: int, told: int) -> bool:
    """Return whether a count is what somebody told, within half a percent or the last digit that was told."""
    digits = str(told)
    unit = 10 ** (len(digits) - len(digits.rstrip("0")))
    return abs(counted - told) <= max(_TOLERANCE * told, unit / 2 if unit > 1 else 0)
