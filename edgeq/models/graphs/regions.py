"""The part of a graph that stays in 8-bit codes from one quantized convolution to the next.

onnxruntime runs an operator on codes where each float that it reads was decoded and each that it
makes is coded again. That pays where a convolution reads the result, perhaps through more such
operators: a detector with SiLU takes 0.66 times as long as in float; with only its convolutions in
codes, which then are decoded and coded again around every addition, 0.80 times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeq.models.graphs.weights import Weight

# With integer kernels in onnxruntime: operators that need a separate range for their output, …
_ARITHMETIC = ("Add", "Mul", "Sigmoid", "LeakyRelu", "Concat", "AveragePool", "GlobalAveragePool")
# … and operators whose output has the range of their input.
_MOVES = ("MaxPool", "Resize", "Split", "Transpose", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_FROM_CONSTANTS = {"Resize": 1, "Split": 1, "Reshape": 1, "Slice": 1, "Squeeze": 1, "Unsqueeze": 1}
"""The first of an operator's inputs that is not data that it moves."""


@dataclass(frozen=True)
class Region:
    """Values of the main graph that are coded, by name.

    results: outputs of its operators, which all readers read in codes. inputs: float values that
    only its operators read in codes. same: results with the range of another value.
    nodes: ids of its operators.
    """

    results: dict[str, ir.Value] = field(default_factory=dict)
    inputs: dict[str, ir.Value] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    nodes: frozenset[int] = frozenset()

    @property
    def watched(self) -> list[str]:
        """Names of the values whose ranges calibration must find."""
        return [name for name in (*self.inputs, *self.results) if name not in self.same]


def region_of(graph: ir.Graph, convolutions: Iterable[Weight]) -> Region:
    """The region around the convolutions that read one of the quantized weights."""
    found = {id(use.node): use.node for weight in convolutions for use in weight.uses}
    if not found:
        return Region()
    nodes = found | _operators_between(graph, found)
    results: dict[str, ir.Value] = {}
    inputs: dict[str, ir.Value] = {}
    same: dict[str, str] = {}
    for node in nodes.values():
        for value in _made(node):
            if value.uses() and not value.is_graph_output():
                results[value.name or ""] = value
    for node in nodes.values():
        for value in _data(node):
            name = value.name or ""
            if name not in results:
                inputs[name] = value
    for node in graph:
        if id(node) in nodes and node.op_type in _MOVES:
            source = _data(node)[0].name or ""
            for value in _made(node):
                same[value.name or ""] = same.get(source, source)
    return Region(results, inputs, same, frozenset(nodes))


def _operators_between(graph: ir.Graph, convolutions: dict[int, ir.Node]) -> dict[int, ir.Node]:
    """Operators that read nothing but coded values and make what one of the region reads."""
    coded = {id(value) for node in convolutions.values() for value in (*_made(node), *_data(node))}
    candidates: dict[int, ir.Node] = {}
    for node in graph:
        if _has_kernel(node) and all(id(value) in coded for value in _data(node)):
            candidates[id(node)] = node
            coded.update(id(value) for value in _made(node))
    for key, node in reversed(list(candidates.items())):
        readers = [reader for value in _made(node) for reader in value.consumers()]
        inside = [id(each) in candidates or id(each) in convolutions for each in readers]
        if not any(inside) or any(value.is_graph_output() for value in _made(node)):
            del candidates[key]
    return _reads_coded(candidates, convolutions)


def _reads_coded(
    candidates: dict[int, ir.Node], convolutions: dict[int, ir.Node]
) -> dict[int, ir.Node]:
    """Those candidates whose inputs are coded still, after others were dropped."""
    kept = dict(candidates)
    while True:
        nodes = (*convolutions.values(), *kept.values())
        made = {id(value) for node in nodes for value in _made(node)}
        made |= {id(value) for node in convolutions.values() for value in _data(node)}
        lost = [key for key, node in kept.items() if not all(id(v) in made for v in _data(node))]
        if not lost:
            return kept
        for key in lost:
            del kept[key]


def _has_kernel(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type not in (*_ARITHMETIC, *_MOVES):
        return False
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return False
    if node.op_type == "MaxPool" and len(node.outputs) > 1:
        return False
    return all(value.producer() is not None for value in _data(node))


def _data(node: ir.Node) -> Sequence[ir.Value]:
    """Its data inputs: not weights, shapes and axes."""
    end = 1 if node.op_type == "Conv" else _FROM_CONSTANTS.get(node.op_type, len(node.inputs))
    return [value for value in node.inputs[:end] if value is not None]


def _made(node: ir.Node) -> Sequence[ir.Value]:
    """Its outputs: after a Relu or Clip that is the only reader."""
    if node.op_type in _MOVES:
        return node.outputs
    return [result_of(node)]


def result_of(node: ir.Node) -> ir.Value:
    """The tensor an integer operator ends in: behind a Relu or Clip that alone reads it."""
    value = node.outputs[0]
    consumers = value.consumers()
    if len(consumers) == 1 and consumers[0].op_type in ("Relu", "Clip"):
        return consumers[0].outputs[0] if consumers[0].graph is node.graph else value
    return value
