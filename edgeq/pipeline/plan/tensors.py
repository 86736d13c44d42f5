"""What a plan says of every weight, by the rules of the file format it goes into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edgeq.core.artifact import Frozen
from edgeq.core.errors import missing_extra
from edgeq.formats.coreml.decide import decide_coreml, stored_bytes_coreml
from edgeq.models.model import DescribedModel
from edgeq.quantize.adapter import GRID, METHOD, planned_factors
from edgeq.quantize.decide import Decision, decide, stored_bytes
from edgeq.quantize.spec import Intent

if TYPE_CHECKING:
    from edgeq.formats.gguf.decide import GgufDecision


class TensorPlan(Frozen):
    """What becomes of one weight; `bytes` is what its codes and scales take in the file.

    activations: the number format of what it multiplies, `float32` for any width of float.
    """

    name: str
    shape: tuple[int, ...]
    grid: str
    method: str
    reason: str
    bytes: int
    activations: str = "float32"


def bytes_by_grid(tensors: Iterable[TensorPlan]) -> dict[str, int]:
    """Bytes of weights by the name of their grid."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.grid] = sizes.get(tensor.grid, 0) + tensor.bytes
    return sizes


def planned_tensors(
    model: DescribedModel, intent: Intent, compute: str = "float16"
) -> Iterator[TensorPlan]:
    """One plan for every weight of the model. Raises Missing where GGUF's types are not here.

    compute: what operators of a Core ML package compute in. Factors of an adapter come last, each
    pair under its weight's name.
    """
    yield from _weights(model, intent, compute)
    recover = intent.variant.recover
    for name, size in planned_factors(model.tensors, recover.rank if recover else 0).items():
        if recover:
            yield TensorPlan(
                name=f"{name}.adapter",
                shape=(recover.rank, sum(model.tensors[name])),
                grid=GRID,
                method=METHOD,
                reason="recover",
                bytes=size,
            )


def _weights(model: DescribedModel, intent: Intent, compute: str) -> Iterator[TensorPlan]:
    if intent.format == "gguf":
        yield from _in_gguf(model, intent)
        return
    if intent.format == "coreml":
        yield from _in_coreml(model, intent, compute)
        return
    for name, shape in model.tensors.items():
        decision = _in_onnx(model, name, shape, intent)
        yield TensorPlan(
            name=name,
            shape=shape,
            grid=decision.grid,
            method=decision.method,
            reason=decision.reason,
            bytes=stored_bytes(decision, shape, is_table=model.is_table(name)),
            activations=decision.activations,
        )


def _in_onnx(model: DescribedModel, name: str, shape: tuple[int, ...], intent: Intent) -> Decision:
    """By name alone; where operators are known, only what they can carry out."""
    if model.weights is None:
        return decide(name, shape, intent)
    from edgeq.models.graphs.weights import settle

    return settle(model.weights[name], lambda name, shape: decide(name, shape, intent))


def coreml_decisions(model: DescribedModel, intent: Intent) -> dict[str, Decision]:
    """What becomes of every weight in a Core ML package: on a grid, or float."""
    if model.weights is None:
        return {
            name: decide_coreml(name, shape, intent, is_table=model.is_table(name))
            for name, shape in model.tensors.items()
        }
    from edgeq.formats.coreml.weights import settle_coreml

    return {
        name: settle_coreml(weight, lambda name, shape: decide(name, shape, intent))
        for name, weight in model.weights.items()
    }


def _in_coreml(model: DescribedModel, intent: Intent, compute: str) -> Iterator[TensorPlan]:
    for name, decision in coreml_decisions(model, intent).items():
        shape = model.tensors[name]
        yield TensorPlan(
            name=name,
            shape=shape,
            grid=decision.grid if decision.choice else compute,
            method=decision.method,
            reason=decision.reason,
            bytes=stored_bytes_coreml(decision, shape, compute),
            activations=decision.activations,
        )


def gguf_decisions(model: DescribedModel, intent: Intent) -> dict[str, GgufDecision]:
    """What becomes of every weight in a GGUF file. Raises Missing without the package gguf."""
    try:
        from edgeq.formats.gguf.decide import decide_gguf
    except ImportError:
        raise missing_extra("gguf", "gguf", "plan and write GGUF files") from None
    from edgeq.formats.gguf.names import gguf_names, mix_facts

    assert model.directory is not None
    names = gguf_names(model.directory.config, model.tensors)
    return decide_gguf(model.tensors, names, mix_facts(model.directory.config), intent)


def _in_gguf(model: DescribedModel, intent: Intent) -> Iterator[TensorPlan]:
    for name, decision in gguf_decisions(model, intent).items():
        yield TensorPlan(
            name=name,
            shape=model.tensors[name],
            grid=decision.grid,
            method=decision.method,
            reason=decision.reason,
            bytes=decision.bytes,
        )
