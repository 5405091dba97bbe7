"""LoRA adapters: two thin matrices beside each one that they adapt (https://arxiv.org/abs/2106.09685)."""

from dataclasses import dataclass

from weighin_analysis.errors import WhatIfError
from weighin_analysis.models.shape import Shape
from weighin_analysis.models.tensors import Tensor, tensors
from weighin_analysis.shrinking.what_if import Lora
from weighin_analysis.shrinking.work import active


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter that is kept apart from its model; a token passes ``active_parameters``."""

    parameters: int
    active_parameters: int
    bytes_per_weight: int

    @property
    def bytes(self) -> int:
        """Bytes of the adapter's weights, in its file and in memory."""
        return self.parameters * self.bytes_per_weight


def adapter(what_if: Lora, name: str, shape: Shape) -> Adapter:
    """Return the adapter of a rank for the matrices of a shape: rank x (inputs + outputs) for each.

    WhatIfError where a target is not in the model, or the rank is not below that of the matrix.
    """
    targets = [tensor for tensor in tensors(shape) if tensor.role in what_if.targets]
    missing = set(what_if.targets) - {tensor.role for tensor in targets}
    if missing:
        raise WhatIfError(f"{name} has no {' and no '.join(sorted(missing))} matrices to adapt")
    lowest = min(min(tensor.rows, tensor.columns) for tensor in targets)
    if what_if.rank >= lowest:
        raise WhatIfError(
            f"{name}: rank {what_if.rank} is no lower than that of a matrix with {lowest} rows or columns"
        )
    # A layer whose weights are used again has its adapter used again, too.
    uses = shape.architecture.layers / (shape.distinct_layers or shape.architecture.layers)
    passed = sum(_parameters(active(shape, tensor), what_if.rank) for tensor in targets)
    return Adapter(
        parameters=sum(_parameters(tensor, what_if.rank) for tensor in targets),
        active_parameters=round(passed * uses),
        bytes_per_weight=what_if.bytes_per_weight,
    )


def _parameters(tensor: Tensor, rank: int) -> int:
    return tensor.copies * rank * (tensor.rows + tensor.columns)
