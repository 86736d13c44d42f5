"""Helpers for rewriting ONNX graphs: add a constant, add or replace a node, save."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

CONTRIB = "com.microsoft"
# Constants below this stay in the graph file, such as shapes and axes.
_EXTERNAL_FROM_BYTES = 1024
_ALIGNMENT = 64
_MAKE_NO_TENSORS = frozenset(
    f"Sequence{what}" for what in ("Empty", "Construct", "Insert", "Erase", "Map")
) | {"SplitToSequence", "Optional"}
_SAME_BYTES = "edgeq.same_bytes"  # key of ir.Value.meta: the value that owns the bytes


class GraphWriter:
    """Adds nodes and constants to a model under unused names.

    Constants go to the main graph, where subgraphs see them too.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._taken: set[str | None] = {value.name for value in _named(model)}
        self._taken.update(node.name for node in model.graph.all_nodes())

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self._model.graph

    def constant(self, name: str, array: np.ndarray | ir.TensorProtocol) -> ir.Value:
        """A constant of the main graph; a number is appended to a name in use."""
        name = self._free(name)
        tensor = ir.tensor(
            np.ascontiguousarray(array) if isinstance(array, np.ndarray) and array.ndim else array,
        )
        tensor.name = name
        value = ir.Value(
            name=name,
            const_value=tensor,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
        )
        self._model.graph.register_initializer(value)
        return value

    def same_bytes(self, name: str, value: ir.Value, shape: tuple[int, int]) -> ir.Value:
        """A constant of another shape that shares the bytes of the constant `value` in the file."""
        stored = value.const_value
        assert stored is not None
        view = ir.LazyTensor(
            lambda: ir.tensor(stored.numpy().reshape(shape)), stored.dtype, ir.Shape(shape)
        )
        viewed = self.constant(name, view)
        viewed.meta[_SAME_BYTES] = value
        return viewed

    def emit(
        self,
        before: ir.Node,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        outputs: int = 1,
        name: str | None = None,
    ) -> ir.Value:
        """A new node before `before`, and called after that or `name`; returns its first output."""
        node = self._node(operator, inputs, attributes, domain, outputs, name or before.name)
        assert before.graph is not None
        before.graph.insert_before(before, node)
        return node.outputs[0]

    def emit_after(
        self, value: ir.Value, operator: str, inputs: Sequence[ir.Value | None]
    ) -> ir.Value:
        """A new node right after the one that makes `value`; returns its output."""
        producer = value.producer()
        assert producer is not None and producer.graph is not None
        node = self._node(operator, inputs, None, "", 1, producer.name)
        producer.graph.insert_after(producer, node)
        return node.outputs[0]

    def append(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        outputs: int = 1,
    ) -> ir.Value:
        """A new node at the end of the main graph; returns its first output."""
        node = self._node(operator, inputs, attributes, domain, outputs, None)
        self._model.graph.append(node)
        return node.outputs[0]

    def append_all(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any],
        outputs: int,
        *,
        domain: str = "",
    ) -> Sequence[ir.Value]:
        """The same; returns all its outputs."""
        node = self._node(operator, inputs, attributes, domain, outputs, None)
        self._model.graph.append(node)
        return node.outputs

    def replace(
        self,
        node: ir.Node,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> ir.Node:
        """Replace `node` by a new node with as many outputs; outputs keep their names."""
        count = len(node.outputs)
        new = self._node(operator, inputs, attributes, domain, count, node.name)
        assert node.graph is not None
        graph = node.graph
        graph.insert_before(node, new)
        for old, value in zip(node.outputs, new.outputs, strict=True):
            value.name, value.shape, value.type = old.name, old.shape, old.type
            old.replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        return new

    def bypass(self, node: ir.Node, value: ir.Value | None) -> None:
        """Replace the single output of `node` by `value`, and remove the node."""
        assert node.graph is not None and value is not None
        (old,) = node.outputs
        if old.is_graph_output():
            value.name = old.name
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        node.graph.remove(node, safe=True)

    def _node(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None,
        domain: str,
        outputs: int,
        origin: str | None,
    ) -> ir.Node:
        if domain:
            self._model.graph.opset_imports.setdefault(domain, 1)
        name = self._free(f"{origin}.{operator}" if origin else operator)
        node = ir.node(operator, inputs, attributes, domain=domain, num_outputs=outputs, name=name)
        for position, value in enumerate(node.outputs):
            value.name = self._free(f"{name}.{position}")
        return node

    def _free(self, name: str) -> str:
        return free_name(name, self._taken)


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs inside a node: branches and bodies of loops."""
    graphs = (a for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH)
    return [attribute.as_graph() for attribute in graphs]


def infer_shapes(model: ir.Model) -> None:
    """Give values without a shape theirs, where onnx can tell."""
    inference = passes.ShapeInferencePass(strict_mode=False)
    logger = logging.getLogger(type(inference).__module__)
    logger.disabled = True  # it logs a stack trace if onnx cannot tell; nothing is changed then
    inference(model)
    logger.disabled = False
    for value in _no_tensors(model.graph, set()):
        if not isinstance(value.type, ir.SequenceType):
            value.type = value.shape = None  # taken for one of its tensors; no file need say more


def _no_tensors(graph: ir.Graph, known: set[ir.Value]) -> set[ir.Value]:
    """Values that are sequences or optional; known: those of the graphs around this one."""
    for node in graph:
        passed_on = [(node.inputs[0], node.outputs[0])] if node.op_type == "Identity" else []
        for body in bodies(node):
            if node.op_type == "Loop":  # of a count and a condition, then of what is carried on
                known |= {
                    mine
                    for mine, at in zip(body.inputs[2:], node.inputs[2:], strict=True)
                    if at in known
                }
            _no_tensors(body, known)
            carried = body.outputs[1:] if node.op_type == "Loop" else body.outputs
            passed_on += zip(carried, node.outputs, strict=False)
        known |= {to for source, to in passed_on if source in known}
        if node.op_type in _MAKE_NO_TENSORS:
            known.add(node.outputs[0])
    return known


def save_model(model: ir.Model, path: Path) -> None:
    """Write `path` and, next to it, `<name>.data` with every constant from 1 KiB on.

    Unused values are dropped and doc strings are cleared, so equal graphs have equal bytes.
    """
    passes.RemoveUnusedNodesPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
    passes.ClearMetadataAndDocStringPass()(model)
    _shorten_names(model)
    _odd_sizes_last(model)
    views = _take_views(model)
    data = f"{path.name}.data"
    stored = ir.external_data.unload_from_model(
        model, path.parent, data, size_threshold_bytes=_EXTERNAL_FROM_BYTES
    )
    for view, owner in views:
        if isinstance(owner.const_value, ir.ExternalTensor):
            view.const_value = _viewed(owner.const_value, view)
        stored.graph.register_initializer(view)
    ir.save(stored, path)


def forget_shapes(model: ir.Model) -> None:
    """Drop types and shapes of values within `model`: runtimes infer them when they open it.

    Last before it is saved: what is left cannot be analysed.
    """
    for graph in model.graphs():
        made = [value for node in graph for value in node.outputs]
        for value in {*made, *graph.initializers.values()} - {*graph.inputs, *graph.outputs}:
            value.type = value.shape = None


def _take_views(model: ir.Model) -> list[tuple[ir.Value, ir.Value]]:
    """Remove constants that share another's bytes; returns each with that other one."""
    initializers = model.graph.initializers
    views = [value for value in initializers.values() if _SAME_BYTES in value.meta]
    for value in views:
        initializers.pop(value.name or "")
    return [(value, value.meta[_SAME_BYTES]) for value in views]


def _viewed(owner: ir.ExternalTensor, view: ir.Value) -> ir.ExternalTensor:
    assert view.const_value is not None
    return ir.ExternalTensor(
        owner.location,
        owner.offset,
        owner.length,
        owner.dtype,
        shape=ir.Shape(view.const_value.shape.numpy()),
        name=view.name or "",
        base_dir=owner.base_dir,
    )


def _odd_sizes_last(model: ir.Model) -> None:
    """Align every large constant to a multiple of 64 bytes in the data file.

    onnxruntime's kernels read packed weights with aligned instructions, but when it saves a
    prepacked copy it writes the constants consecutively without padding, in this order.
    """
    initializers = model.graph.initializers
    by_oddness = sorted(initializers.values(), key=lambda value: _size(value) % _ALIGNMENT != 0)
    initializers.clear()
    initializers.update({value.name or "": value for value in by_oddness})


def _size(value: ir.Value) -> int:
    return value.const_value.nbytes if value.const_value is not None else 0


def _named(model: ir.Model) -> Iterator[ir.Value]:
    """Inputs and constants of all graphs, then results of nodes."""
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
    for node in model.graph.all_nodes():
        yield from (value for value in node.outputs if value.name)


def name_uniquely(model: ir.Model) -> None:
    """Give every value and node a unique name in the whole model, including subgraphs.

    The main graph's inputs, outputs and constants keep theirs.
    """
    own = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    values = {id(value): value for value in (*own, *_named(model))}
    nodes = {id(node): node for node in model.graph.all_nodes()}
    _name(values.values())
    _name(nodes.values())


def _name(named: Iterable[Any]) -> None:
    taken: set[str] = set()
    for number, each in enumerate(named):
        each.name = free_name(each.name or f"n{number}", taken)


def free_name(name: str, taken: set[Any]) -> str:
    """`name`, with a number appended if it is in `taken`, to which it is added."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}.{count}"
    taken.add(candidate)
    return candidate


def _shorten_names(model: ir.Model) -> None:
    """Number the values between nodes: exporters' paths as names are a third of a small graph.

    Weights, nodes, inputs and outputs keep theirs, which errors and people refer to.
    """
    values = list({id(value): value for value in _named(model)}.values())
    inner = [v for v in values if v.producer() is not None and not v.is_graph_output()]
    numbered = {id(value) for value in inner}
    taken = {value.name for value in values if id(value) not in numbered}
    names = (name for n in itertools.count() if (name := f"t{n}") not in taken)
    for value, name in zip(inner, names, strict=False):
        value.name = name
