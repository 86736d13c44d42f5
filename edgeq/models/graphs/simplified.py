"""Shorten a graph to what its convolutions and kernels can do at once, as exporters do not.

Each rewriting computes the same up to float32's rounding. In integers it counts twice: onnxruntime
fuses a convolution only with what directly follows it, and every operator between two of them has
to decode its input and code its result.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from edgeq.models.graphs.folding import constant
from edgeq.models.graphs.rewriting import GraphWriter

_UNARY = (
    *("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu"),
    *("Exp", "Log", "Sqrt", "Neg", "Abs", "Erf", "Softplus", "Identity"),
)
_BINARY = ("Add", "Sub", "Mul", "Div")
_SHORT_SOFTMAX = 256
_AXES_ARE_INPUTS = 18  # of ReduceMax, from this operator set on


def simplify(model: ir.Model) -> None:
    """Rewrite the main graph; shapes of its values must be known where they can be."""
    writer = GraphWriter(model)
    for node in list(model.graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "Cast" and _is_idle(node):
            writer.bypass(node, node.inputs[0])
        elif node.op_type in ("Max", "Min"):
            _clip(writer, node)
        elif node.op_type in (*_UNARY, *_BINARY):
            _sink_transposes(writer, node)
        elif node.op_type == "Transpose":
            _cancel_transposes(writer, node)
    passes.RemoveUnusedNodesPass()(model)  # so that each value's readers are real
    for node in list(model.graph):
        if node.op_type == "Clip" and node.graph is not None:
            _harden(writer, node)
        elif node.op_type == "HardSwish":
            gate = writer.emit(node, "HardSigmoid", node.inputs, {"alpha": 1 / 6, "beta": 0.5})
            writer.replace(node, "Mul", [node.inputs[0], gate])
    for node in list(model.graph):
        if node.op_type in _BINARY and node.graph is not None:
            _fold_upwards(writer, node)
    for node in reversed(list(model.graph)):
        if node.op_type == "Conv":
            _fold_downwards(writer, node)
        elif node.op_type == "Softmax":
            _split_softmax(writer, node, model.opset_imports.get("", 0) or 0)


def _is_idle(cast: ir.Node) -> bool:
    value = cast.inputs[0]
    is_same = value is not None and value.dtype == cast.attributes["to"].as_int()
    return is_same and not (cast.outputs[0].is_graph_output() and _is_interface(value))


def _is_interface(value: ir.Value | None) -> bool:
    return value is None or value.producer() is None or value.is_graph_output()


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _only_reader(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _permutation(value: ir.Value | None) -> tuple[int, ...] | None:
    """That of the Transpose that makes `value`."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Transpose" or "perm" not in node.attributes:
        return None
    return tuple(node.attributes["perm"].as_ints())


def _sink_transposes(writer: GraphWriter, node: ir.Node) -> None:
    """Transpose after an operator instead of before it, so that the two sides' may cancel."""
    count = len(node.inputs) if node.op_type in _BINARY else 1
    data = [value for value in node.inputs[:count] if value is not None]
    orders = {order for order in map(_permutation, data) if order is not None}
    if len(orders) != 1 or node.outputs[0].is_graph_output():
        return
    (order,) = orders
    turned: list[ir.Value | None] = []
    for value in data:
        array = constant(value)
        if _permutation(value) is not None:
            turned.append(value.producer().inputs[0])  # type: ignore[union-attr]
        elif array is not None and array.ndim <= len(order):
            turned.append(_turned_back(writer, value, array, order))
        else:
            return
    inputs = [*turned, *node.inputs[count:]]
    result = writer.emit(node, node.op_type, inputs, dict(node.attributes))
    result.type = node.outputs[0].type
    shape = node.outputs[0].shape
    if shape is not None:
        result.shape = ir.Shape([shape[order.index(axis)] for axis in range(len(order))])
    writer.replace(node, "Transpose", [result], {"perm": list(order)})


def _turned_back(
    writer: GraphWriter, value: ir.Value, array: np.ndarray, order: tuple[int, ...]
) -> ir.Value:
    if array.size == 1:
        return value
    whole = array.reshape((1,) * (len(order) - array.ndim) + array.shape)
    return writer.constant(f"{value.name}.turned", whole.transpose(np.argsort(order)))


def _cancel_transposes(writer: GraphWriter, node: ir.Node) -> None:
    """Skip a Transpose that undoes the one before it."""
    before, after = _permutation(node.inputs[0]), _permutation(node.outputs[0])
    if before is None or after is None or node.outputs[0].is_graph_output():
        return
    source = node.inputs[0].producer().inputs[0]  # type: ignore[union-attr]
    if tuple(before[axis] for axis in after) == tuple(range(len(before))):
        writer.bypass(node, source)


def _scalar(value: ir.Value | None) -> float | None:
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _clip(writer: GraphWriter, node: ir.Node) -> None:
    """The greater or smaller of a value and one number, as Clip."""
    if len(node.inputs) != 2:
        return
    limit, value = _with_constant(node)
    number = constant(limit)
    if number is None or number.dtype != np.float32 or number.size != 1:
        return
    if value is None or (_rank(limit) or 0) > (_rank(value) or 0):
        return
    end = writer.constant(f"{node.name}.limit", number.reshape(()))
    limits = [end] if node.op_type == "Max" else [None, end]
    writer.replace(node, "Clip", [value, *limits])


def _harden(writer: GraphWriter, clip: ir.Node) -> None:
    """`clip(x + a, 0, b)`, which is then divided by b, as one HardSigmoid.

    Exporters write the hard swish `x · clip(x + 3, 0, 6) / 6` in four operators.
    """
    added = clip.inputs[0].producer() if clip.inputs[0] is not None else None
    limits = [*clip.inputs[1:], None, None][:2]
    low, high = map(_scalar, limits)
    if added is None or added.op_type != "Add" or low != 0 or not high or high < 0:
        return
    shift, value = _with_constant(added)
    divided = _division(clip.outputs[0], high)
    if shift is None or value is None or divided is None or not _only_reader(added.outputs[0]):
        return
    offset = _scalar(shift)
    if offset is None or shift.dtype != ir.DataType.FLOAT or (_rank(shift) or 0) > 1:
        return
    writer.bypass(divided, _other_than(divided, high))
    attributes = {"alpha": 1 / high, "beta": offset / high}
    writer.replace(clip, "HardSigmoid", [value], attributes)


def _other_than(division: ir.Node, divisor: float) -> ir.Value | None:
    first, second = division.inputs
    return first if _scalar(second) is not None else second


def _division(value: ir.Value, divisor: float) -> ir.Node | None:
    """The node that divides `value`, or a product of it, by `divisor`."""
    if not _only_reader(value):
        return None
    (reader,) = value.consumers()
    if _divides(reader, divisor):
        return reader
    if reader.op_type == "Mul" and _only_reader(reader.outputs[0]):
        (reader,) = reader.outputs[0].consumers()
        return reader if _divides(reader, divisor) else None
    return None


def _divides(node: ir.Node, divisor: float) -> bool:
    if node.outputs[0].is_graph_output() or node.op_type not in ("Div", "Mul"):
        return False
    if node.op_type == "Div":
        return _scalar(node.inputs[1]) == divisor
    factors = [factor for factor in map(_scalar, node.inputs) if factor is not None]
    return len(factors) == 1 and np.float32(factors[0]) == np.float32(1 / divisor)


def _with_constant(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """The constant operand of a binary node, and the other; None twice without exactly one."""
    first, second = node.inputs
    if (constant(first) is None) == (constant(second) is None):
        return None, None
    return (first, second) if constant(second) is None else (second, first)


def _per_channel(value: ir.Value | None, rank: int, channels: int) -> np.ndarray | None:
    """A constant as one float32 per channel of an image of `rank` axes, or one for all."""
    array = constant(value)
    if array is None or array.dtype != np.float32 or array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if array.size not in (1, channels) or shape[1] != array.size:
        return array.reshape(-1) if array.size == 1 else None
    return array.reshape(-1)


def _fold_upwards(writer: GraphWriter, node: ir.Node) -> None:
    """Make a sum, difference, product or quotient with constants part of the convolution before."""
    fixed, image = _with_constant(node)
    conv = image.producer() if image is not None else None
    if image is None or conv is None or conv.op_type != "Conv" or not _only_reader(image):
        return
    found = _weights(conv)
    if found is None or conv.graph is not node.graph:
        return
    filters, bias = found
    values = _per_channel(fixed, filters.ndim, len(filters))
    if values is None:
        return
    is_first = node.inputs[0] is fixed
    match node.op_type:
        case "Add":
            bias = bias + values
        case "Sub" if is_first:
            filters, bias = -filters, values - bias
        case "Sub":
            bias = bias - values
        case "Mul":
            filters, bias = _scaled_rows(filters, values), bias * values
        case "Div" if not is_first and values.all():
            filters, bias = _scaled_rows(filters, 1 / values), bias / values
        case _:
            return
    if np.isfinite(filters).all() and np.isfinite(bias).all():
        _rewrite(writer, conv, filters, bias)
        _take_result(conv, node)


def _take_result(conv: ir.Node, node: ir.Node) -> None:
    """Let a convolution make what `node` made of its result, and remove that."""
    result, old = conv.outputs[0], node.outputs[0]
    name, is_output = old.name, old.is_graph_output()
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    if is_output:
        result.name = name


def _fold_downwards(writer: GraphWriter, conv: ir.Node) -> None:
    """Make products and sums with one number part of the convolution that reads their result.

    A sum only where nothing is padded: padding is zero, which the sum would not be. Numbers of
    separate channels would make filters uneven, which costs them precision in integers.
    """
    while (value := conv.inputs[0]) is not None and (node := value.producer()) is not None:
        if node.op_type not in ("Add", "Mul") or node.graph is not conv.graph:
            return
        fixed, image = _with_constant(node)
        number, found = _scalar(fixed), _weights(conv)
        if number is None or found is None or not _only_reader(value):
            return
        if node.op_type == "Add" and _is_padded(conv):
            node = _product_last(writer, node, number)
            if node is None:
                return
            fixed, image = _with_constant(node)
            number = _scalar(fixed) or 1.0
        if image is None or (_rank(fixed) or 0) > found[0].ndim:
            return
        filters, bias = found
        if node.op_type == "Add":
            bias = bias + number * filters.sum(tuple(range(1, filters.ndim)))
        else:
            filters = filters * number
        _rewrite(writer, conv, filters, bias)
        writer.bypass(node, image)


def _product_last(writer: GraphWriter, add: ir.Node, number: float) -> ir.Node | None:
    """The product of `(x + b/s) · s`, as which `x · s + b` is written if nothing else reads it."""
    _, image = _with_constant(add)
    product = image.producer() if image is not None else None
    if image is None or product is None or product.op_type != "Mul" or not _only_reader(image):
        return None
    fixed, source = _with_constant(product)
    factor = _scalar(fixed)
    if not factor or not np.isfinite(np.float32(number / factor)):
        return None
    shift = writer.constant(f"{add.name}.shift", np.array(number / factor, np.float32))
    total = writer.emit(add, "Add", [source, shift])
    return writer.replace(add, "Mul", [total, fixed])


def _is_padded(conv: ir.Node) -> bool:
    automatic = conv.attributes.get_string("auto_pad", "NOTSET")
    return automatic not in ("NOTSET", "VALID") or any(conv.attributes.get_ints("pads", []))


def _weights(conv: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Filters and bias in float64 if they are stored, in float32, for this node alone."""
    weight = conv.inputs[1]
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    filters, shift = constant(weight), constant(bias)
    if weight is None or filters is None or filters.dtype != np.float32:
        return None
    if not _only_reader(weight) or (bias is not None and shift is None):
        return None
    zeros = np.zeros(len(filters))
    return filters.astype(np.float64), zeros if shift is None else shift.astype(np.float64)


def _scaled_rows(filters: np.ndarray, factors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = filters * factors.reshape(-1, *[1] * (filters.ndim - 1))
    return scaled


def _rewrite(writer: GraphWriter, conv: ir.Node, filters: np.ndarray, bias: np.ndarray) -> None:
    weight = conv.inputs[1]
    assert weight is not None
    weight.const_value = ir.tensor(filters.astype(np.float32), name=weight.name)
    spread = np.broadcast_to(bias, len(filters)).astype(np.float32)
    conv.resize_inputs(3)
    conv.replace_input_with(2, writer.constant(f"{weight.name}.bias", spread))


def _split_softmax(writer: GraphWriter, node: ir.Node, opset: int) -> None:
    """A softmax over a short axis that is not the last, in steps, each of which is vectorized.

    onnxruntime turns such a tensor and works row by row: 16 entries in the second of four axes take
    10 times as long.
    """
    value, axis = node.inputs[0], node.attributes.get_int("axis", -1)
    rank = _rank(value)
    if value is None or value.shape is None or rank is None:
        return
    length = value.shape[axis]
    if axis % rank == rank - 1 or not isinstance(length, int) or length > _SHORT_SOFTMAX:
        return
    axes = writer.constant(f"{node.name}.axes", np.array([axis], np.int64))
    kept = {"keepdims": 1}
    is_old = opset < _AXES_ARE_INPUTS
    most = (
        writer.emit(node, "ReduceMax", [value], {"axes": [axis], **kept})
        if is_old
        else writer.emit(node, "ReduceMax", [value, axes], kept)
    )
    powers = writer.emit(node, "Exp", [writer.emit(node, "Sub", [value, most])])
    total = writer.emit(node, "ReduceSum", [powers, axes], kept)
    writer.replace(node, "Div", [powers, total])
