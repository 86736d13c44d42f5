"""An adapter inside an ONNX graph: two small products added to each large one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from edgeq.models.graphs.rewriting import GraphWriter
from edgeq.quantize.adapter import Adapter, Factors

_PRODUCTS = ("MatMulNBits", "FusedMatMul")
_JOINED = "qkv_proj"  # if an exporter joined the three before attention into one product


def add_adapter(model: ir.Model, adapter: Adapter) -> None:
    """Add `adapter` to the products of a language model's graph, quantized or not, in place.

    Factors are float16 constants in the file; a runtime widens them once, when it loads. Raises
    ValueError if the graph has no product for a weight of the adapter.
    """
    if not adapter:
        return
    passes.RemoveUnusedNodesPass()(model)  # such as the three joined products
    writer = GraphWriter(model)
    waiting = dict(adapter)
    for node in list(model.graph):
        if node.op_type not in _PRODUCTS or node.inputs[1] is None:
            continue
        name = (node.inputs[1].name or "").removesuffix(".codes")
        parts = [part for part in _parts(name, adapter) if waiting.pop(part, None)]
        if parts:
            _add(writer, node, [(part, adapter[part]) for part in parts])
    if waiting:
        raise ValueError(f"no product in the graph for {', '.join(waiting)}")


def _parts(name: str, adapter: Adapter) -> list[str]:
    """The weights that a product multiplies by: its own, or the three that were joined."""
    if name in adapter:
        return [name]
    found = [name.replace(_JOINED, f"{part}_proj") for part in "qkv"]
    return found if _JOINED in name and all(part in adapter for part in found) else []


def _add(writer: GraphWriter, node: ir.Node, parts: Sequence[tuple[str, Factors]]) -> None:
    (product,) = node.outputs
    readers = list(product.uses())
    added = []
    for name, factors in parts:
        value = node.inputs[0]
        for suffix, factor in (("lora_a", factors.down), ("lora_b", factors.up)):
            constant = writer.constant(f"{name}.{suffix}", np.ascontiguousarray(factor.T))
            wide = writer.emit(node, "Cast", [constant], {"to": ir.DataType.FLOAT.value})
            value = writer.emit(node, "MatMul", [value, wide])
        added.append(value)
    addition = added[0]
    if len(added) > 1:
        addition = writer.emit(node, "Concat", added, {"axis": -1})
    total = writer.emit_after(product, "Add", [product, addition])
    for reader, position in readers:
        reader.replace_input_with(position, total)
