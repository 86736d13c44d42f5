"""Plans for every weight, by the rules of its file format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgeq.formats.file_format import TensorPlan
from edgeq.formats.registry import file_format
from edgeq.models.model import DescribedModel
from edgeq.quantize.adapter import METHOD, NUMBER_FORMAT, planned_factors
from edgeq.quantize.spec import Intent


def bytes_by_number_format(tensors: Iterable[TensorPlan]) -> dict[str, int]:
    """Bytes of weights by number format."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.number_format] = sizes.get(tensor.number_format, 0) + tensor.bytes
    return sizes


def planned_tensors(
    model: DescribedModel, intent: Intent, compute: str = "float16"
) -> Iterator[TensorPlan]:
    """One plan for every weight of the model. Raises Missing if GGUF's types are not available.

    compute: the type that operators of a Core ML package compute in. Adapter factors come last,
    each pair under its weight's name.
    """
    yield from file_format(intent.format).plan_tensors(model, intent, compute)
    recover = intent.variant.recover
    for name, size in planned_factors(model.tensors, recover.rank if recover else 0).items():
        if recover:
            yield TensorPlan(
                name=f"{name}.adapter",
                shape=(recover.rank, sum(model.tensors[name])),
                number_format=NUMBER_FORMAT,
                method=METHOD,
                reason="recover",
                bytes=size,
            )
