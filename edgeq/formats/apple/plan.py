"""What becomes of each weight in a file for Apple's runtimes, by name and shape."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.formats.apple.decide import settled, stored_bytes_apple
from edgeq.formats.file_format import TensorPlan
from edgeq.models.model import DescribedModel
from edgeq.quantize.decide import Decision, decide
from edgeq.quantize.spec import Intent


def apple_tensors(
    model: DescribedModel, intent: Intent, compute: str, scales: str | None = None
) -> Iterator[TensorPlan]:
    """The plan for every weight.

    compute: the type of operators. scales: the type of scales, if it is another.
    """
    for name, decision in apple_decisions(model, intent).items():
        shape = model.tensors[name]
        yield TensorPlan(
            name=name,
            shape=shape,
            number_format=decision.number_format if decision.choice else compute,
            method=decision.method,
            reason=decision.reason,
            bytes=stored_bytes_apple(decision, shape, compute, scales or compute),
            activations=decision.activations,
        )


def apple_decisions(model: DescribedModel, intent: Intent) -> dict[str, Decision]:
    """The decision for every weight of a model: a number format, or float."""
    if model.weights is None:
        return {
            name: decide_apple(name, shape, intent, is_table=model.is_table(name))
            for name, shape in model.tensors.items()
        }
    from edgeq.formats.apple.weights import settle_apple

    return {
        name: settle_apple(weight, lambda name, shape: decide(name, shape, intent))
        for name, weight in model.weights.items()
    }


def decide_apple(name: str, shape: tuple[int, ...], intent: Intent, *, is_table: bool) -> Decision:
    """Decide by name and shape alone. is_table: rows are looked up, and not also multiplied."""
    is_multiplied = not is_table
    return settled(
        decide(name, shape, intent),
        shape,
        is_table=is_table,
        is_multiplied=is_multiplied,
        is_seen=is_multiplied,
    )
