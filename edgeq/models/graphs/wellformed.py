"""Refuse an inconsistent ONNX graph before anything is rewritten in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set

import onnx

_REQUIRED = onnx.defs.OpSchema.FormalParameterOption.Single


def defects(model: onnx.ModelProto) -> Iterator[str]:
    """Defects in the main graph and the graphs inside it; functions must be inlined."""
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            if not value.type.tensor_type.elem_type:
                yield f"the {kind} {value.name!r} has no element type"
    opsets = operator_sets(model)
    if "" not in opsets:
        yield "it names no version of ONNX's operator set"
    yield from _of_graph(model.graph, frozenset(), opsets)


def operator_sets(model: onnx.ModelProto) -> dict[str, int]:
    """The version of every operator set by domain; ONNX's own is the empty one."""
    return {_domain(each.domain): each.version for each in model.opset_import}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _of_graph(graph: onnx.GraphProto, outer: Set[str], opsets: dict[str, int]) -> Iterator[str]:
    stored = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    if not all(tensor.name for tensor in stored):
        yield "an initializer has no name"
    made = {name for node in graph.node for name in node.output}
    known = (outer | made | {each.name for each in (*graph.input, *stored)}) - {""}
    for tensor in graph.initializer:
        yield from _of_tensor(tensor)
    for node in graph.node:
        yield from _of_node(node, known, opsets)
    for value in graph.output:
        if value.name not in known:
            yield f"nothing makes the output {value.name!r}"


def _of_node(node: onnx.NodeProto, known: Set[str], opsets: dict[str, int]) -> Iterator[str]:
    label = f"{node.op_type} {node.name!r}"
    for name in node.input:
        if name and name not in known:
            yield f"{label} reads {name!r}, which nothing makes"
    if not _has_inputs(node, opsets):
        yield f"{label} lacks an input"
    for attribute in node.attribute:
        if not attribute.type:
            yield f"the attribute {attribute.name!r} of {label} has no type"
        for tensor in [attribute.t] if attribute.HasField("t") else attribute.tensors:
            yield from _of_tensor(tensor)
        for graph in (attribute.g, *attribute.graphs):
            yield from _of_graph(graph, known, opsets)


def _has_inputs(node: onnx.NodeProto, opsets: dict[str, int]) -> bool:
    """Whether every required input of the operator is present; true for unknown operators."""
    domain = _domain(node.domain)
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(domain, 0), domain)
    except onnx.defs.SchemaError:
        return True
    required = [n for n, each in enumerate(schema.inputs) if each.option == _REQUIRED]
    return all(n < len(node.input) and node.input[n] for n in required)


def _of_tensor(tensor: onnx.TensorProto) -> Iterator[str]:
    label = f"the tensor {tensor.name!r}"
    if not tensor.data_type:
        yield f"{label} has no element type"
    elif any(length < 0 for length in tensor.dims):
        yield f"{label} has a negative length"
    else:
        stored = _stored_bytes(tensor)
        if stored is not None and stored != _needed_bytes(tensor):
            shape = ", ".join(map(str, tensor.dims))
            yield f"{label} of shape ({shape}) has {stored} bytes"


def _stored_bytes(tensor: onnx.TensorProto) -> int | None:
    """Bytes in the file or next to it; None if the tensor is written as numbers."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        lengths = [int(each.value) for each in tensor.external_data if each.key == "length"]
        return lengths[0] if lengths else None
    return len(tensor.raw_data) if tensor.HasField("raw_data") else None


def _needed_bytes(tensor: onnx.TensorProto) -> int:
    import onnx_ir as ir  # loads sympy

    bits: int = math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth
    return math.ceil(bits / 8)
