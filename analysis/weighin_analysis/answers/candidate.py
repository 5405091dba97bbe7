"""What would be shipped: a model in a format and scheme, and the adapters beside it."""

from dataclasses import dataclass

from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.shrinking.adapter import Adapter
from weighin_analysis.sizes.artefact import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model as it would be shipped: in a format and scheme, with the adapters that lie beside it."""

    entry: ModelEntry
    format: Format
    scheme: str
    adapters: tuple[Adapter, ...] = ()
