"""Convert models in float16 or bfloat16 to float32, the basis of every number format and kernel.

Inputs and outputs keep their types, so that an app sees the interface of the user's own file.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def widen(model: ir.Model) -> bool:
    """Let everything compute in float32; returns whether anything computed in less."""
    nodes = list(model.graph.all_nodes())
    if not any(map(_is_narrow, _values(model))) and not any(map(_names_narrow, nodes)):
        return False
    kept = _keep_interface(model)
    for value in _values(model):
        if value.const_value is not None and value.const_value.dtype in _NARROW:
            value.const_value = _widened(value.const_value)
        if value.dtype in _NARROW and id(value) not in kept:
            value.dtype = ir.DataType.FLOAT
    for node in nodes:
        _widen_attributes(node)
    return True


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _is_narrow(value: ir.Value) -> bool:
    stored = value.const_value
    return value.dtype in _NARROW or (stored is not None and stored.dtype in _NARROW)


def _names_narrow(node: ir.Node) -> bool:
    return any(_names_type(name, attribute) for name, attribute in node.attributes.items())


def _names_type(name: str, attribute: ir.Attr) -> bool:
    is_type = name in _TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT
    return is_type and attribute.as_int() in _NARROW


def _keep_interface(model: ir.Model) -> set[int]:
    """Cast between the model's types and float32; returns the values that keep theirs, by id."""
    graph, kept = model.graph, set()
    for value in graph.inputs:
        if value.dtype in _NARROW:
            node = _cast(value, ir.DataType.FLOAT, f"{value.name}.float32")
            value.replace_all_uses_with(node.outputs[0])
            node.replace_input_with(0, value)
            graph.insert_before(graph[0], node)
            kept.add(id(value))
    for index, value in enumerate(graph.outputs):
        if value.dtype in _NARROW and id(value) not in kept:
            name, value.name = value.name, f"{value.name}.float32"
            node = _cast(value, value.dtype, name or "")
            graph.append(node)
            graph.outputs[index] = node.outputs[0]
            kept.add(id(node.outputs[0]))
    return kept


def _cast(value: ir.Value, to: ir.DataType, name: str) -> ir.Node:
    node = ir.node("Cast", [value], {"to": to.value}, name=f"{name}.cast")
    result = node.outputs[0]
    result.name, result.type, result.shape = name, ir.TensorType(to), value.shape
    return node


def _widen_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype in _NARROW:
                node.attributes[name] = ir.AttrTensor(name, _widened(tensor))
        elif _names_type(name, attribute):
            node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT.value)


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    shape = ir.Shape(tensor.shape.numpy())
    read = functools.partial(_read_wide, tensor)
    wide: ir.TensorProtocol = ir.LazyTensor(read, ir.DataType.FLOAT, shape, name=tensor.name)
    return wide


def _read_wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)
