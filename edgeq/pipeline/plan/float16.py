"""Notes on an .onnx file for Apple's units: numbers beyond float16, and small weights."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Sequence

from edgeq.models.model import DescribedModel
from edgeq.quantize.decide import SMALLEST_WEIGHT
from edgeq.recipe.schema import Compute

_GROWING = {
    "Exp": "above 11",
    "Pow": "of squares above 255",
    "ReduceL2": "of squares above 65504 in all",
    "ReduceSumSquare": "of squares above 65504 in all",
    "ReduceProd": "of products",
}
"""Operators whose results leave float16 for ordinary values. Softplus, Mish, LogSoftmax and
ReduceLogSumExp do so on the Neural Engine as they are; edgeq writes them in forms that do not."""
_SHOWN = 4


def float16_notes(
    model: DescribedModel, compute: Compute, section: str, float32: Sequence[str] | None
) -> Iterator[str]:
    """Notes for a model whose graph is known.

    float32: patterns of operators in float32; None for a format without them.
    """
    if model.graph is None:
        return
    from edgeq.formats.apple.constants import identifier

    graph = model.graph
    names = [
        (node.op_type, node.name or f"{node.op_type}_{index}")
        for index, node in enumerate(graph)
        if node.op_type in _GROWING
    ]
    risky = [
        (kind, identifier(name))
        for kind, name in names
        if not any(
            fnmatch.fnmatchcase(n, p) for p in float32 or () for n in (name, identifier(name))
        )
    ]
    if risky and compute == "float16":
        kinds = sorted({kind for kind, _ in risky})
        said = ", ".join(f"{kind} {_GROWING[kind]}" for kind in kinds)
        patterns = ", ".join(f'"{name}"' for _, name in risky[:_SHOWN])
        line = f"{section}: {{float32: [{patterns}]}}"
        if len(risky) > _SHOWN or float32 is None:
            line = f"{section}: {{compute: float32}}"
        yield f"float16 cannot hold results {said}; if the Neural Engine's answers differ, {line}"
    small = [
        value
        for value in graph.initializers.values()
        if value.const_value is not None
        and value.dtype is not None
        and value.dtype.is_floating_point()
        and len(value.const_value.shape) > 1
        and math.prod(value.const_value.shape.numpy()) < SMALLEST_WEIGHT
    ]
    if small:
        shown = ", ".join(value.name or "" for value in small[:_SHOWN])
        more = f" and {len(small) - _SHOWN} more" if len(small) > _SHOWN else ""
        values = sum(value.const_value.size for value in small if value.const_value is not None)
        plural = "weights" if len(small) > 1 else "weight"
        yield (
            f"{len(small)} {plural} of fewer than {SMALLEST_WEIGHT} values stay float, "
            f"{values} values in all: {shown}{more}"
        )
