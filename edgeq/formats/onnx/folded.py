"""An equivalent float graph: weight columns scaled, the inverse folded into what precedes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.core.artifact import MODEL_FILE
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.rewriting import save_model
from edgeq.models.graphs.statistics import open_watched
from edgeq.models.graphs.weights import Weight, find_weights
from edgeq.quantize.methods import RoundingMethod
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats import Floats, NumberFormat
from edgeq.quantize.statistics import Feed, collect

_NORMS = ("SimplifiedLayerNormalization", "LayerNormalization")
Foldable = Callable[[Weight], "tuple[RoundingMethod, NumberFormat] | None"]


@dataclass(frozen=True)
class Fold:
    """The result of folding at one place: weights by name, and the constant that takes the inverse.

    taker: a gain, which was divided by the factors, or a weight, whose rows were. factors: float32
    `(columns,)`.
    """

    weights: tuple[str, ...]
    taker: str
    factors: Floats


def fold_graph(
    float_directory: Path, destination: Path, foldable: Foldable, feeds: Sequence[Feed]
) -> list[Fold]:
    """Write `model.onnx` to `destination` with a method's factors folded in, wherever they help.

    foldable: the method and number format of a weight that uses factors, None for others. Inputs of
    products are scaled if a norm with a gain makes them, or a product of two tensors, one of them a
    weight's own output, and only weights that will be rounded read them.
    """
    model = load_graph(float_directory)
    groups: dict[str, list[Weight]] = {}
    for weight in find_weights(model):
        if weight.role == "linear" and weight.product is not None and len(weight.uses) == 1:
            groups.setdefault(weight.product.activation.name or "", []).append(weight)
    takers = {name: _takers(group) for name, group in groups.items()}
    wanted = {
        name: group
        for name, group in groups.items()
        if takers[name] and all(foldable(weight) for weight in group)
    }
    widths = {name: group[0].shape_by_rows[1] for name, group in wanted.items()}
    hessians = frozenset(widths)
    session = open_watched(float_directory, list(widths))
    seen = collect(session, widths, feeds, hessians, frozenset())
    found = []
    for name, group in wanted.items():
        rounding, hessian = foldable(group[0]), seen[name].hessian
        assert rounding is not None and hessian is not None
        method, number_format = rounding
        matrices = [weight.matrix() for weight in group]
        moments = Moments(hessian.astype(np.float32))
        factors = method.column_factors(matrices, moments, number_format)
        if factors is None:
            continue
        for weight, matrix in zip(group, matrices, strict=True):
            _put(weight.value, matrix * factors, transposed=weight.uses[0].inputs_first)
        for value, transposed in takers[name]:
            assert value.const_value is not None
            array = value.const_value.numpy()
            divided = array / (factors if array.ndim == 1 or transposed else factors[:, None])
            _put(value, divided, transposed=False)
        names = tuple(weight.name for weight in group)
        found.append(Fold(names, str(takers[name][0][0].name), factors))
    save_model(model, destination / MODEL_FILE)
    return found


def _takers(group: Sequence[Weight]) -> list[tuple[ir.Value, bool]]:
    """Constants that can take inverse factors; for a weight, whether its file has outputs last."""
    assert group[0].product is not None
    activation = group[0].product.activation
    node = activation.producer()
    if node is None or len(activation.consumers()) != len(group):
        return []
    if node.op_type in _NORMS:
        return _alone([(value, False) for value in node.inputs[1:] if value is not None])
    if node.op_type != "Mul":
        return []
    for value in node.inputs:
        maker = value.producer() if value is not None else None
        if value is None or maker is None or len(value.consumers()) != 1:
            continue
        if maker.op_type in ("MatMul", "FusedMatMul") and maker.inputs[1] is not None:
            inputs_first = not maker.attributes.get_int("transB", 0)
            return _alone([(maker.inputs[1], inputs_first)])
    return []


def _alone(found: list[tuple[ir.Value, bool]]) -> list[tuple[ir.Value, bool]]:
    """`found`, if all are constants that nothing else reads."""
    alone = all(value.is_initializer() and len(value.consumers()) == 1 for value, _ in found)
    return found if alone else []


def _put(value: ir.Value, array: NDArray[np.floating], *, transposed: bool) -> None:
    stored = np.ascontiguousarray(array.T if transposed else array, np.float32)
    value.const_value = ir.tensor(stored, name=value.name)
