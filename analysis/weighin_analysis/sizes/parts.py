"""How the bytes of an artefact are split into the parts that people ask for."""

from collections.abc import Iterable

from weighin_analysis.models.tensors import Role, Tensor

_PARTS = {Role.TOKEN_EMBEDDING: "token_embedding", Role.HEAD: "head"}


def split(stored: Iterable[tuple[Tensor, int]]) -> dict[str, int]:
    """Return the bytes of tensors by part: the vocabulary's table, the head, the layers, and what is none of these."""
    parts = {"token_embedding": 0, "head": 0, "layers": 0, "other": 0}
    for tensor, tensor_bytes in stored:
        parts[_PARTS.get(tensor.role, "other" if tensor.layer is None else "layers")] += tensor_bytes
    return parts
