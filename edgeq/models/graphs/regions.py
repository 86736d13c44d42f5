"""The part of a graph that stays in 8-bit codes from one quantized convolution to the next.

onnxruntime runs an operator on codes where each float that it reads was decoded and each that it
makes is coded again. Which operators that pays for is the cheapest cut of the graph in two: every
operator costs what its kernel takes on its side, and every value that crosses costs its coding or
decoding (see `edgeq.models.graphs.kernel_costs`). A convolution for which it does not pay stays in
floats.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import onnx_ir as ir

from edgeq.models.graphs.kernel_costs import CODE, DECODE, OVERHEAD, costs, separate
from edgeq.models.graphs.least_cut import SINK, SOURCE, Cut
from edgeq.models.graphs.rewriting import infer_shapes
from edgeq.models.graphs.weights import Weight

# With integer kernels in onnxruntime: operators that need a separate range for their output, …
_ARITHMETIC = (
    *("Add", "Mul", "Sigmoid", "HardSigmoid", "LeakyRelu", "Concat"),
    *("AveragePool", "GlobalAveragePool"),
)
# … and operators whose output has the range of their input.
_MOVES = ("MaxPool", "Resize", "Split", "Transpose", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_FROM_CONSTANTS = {"Resize": 1, "Split": 1, "Reshape": 1, "Slice": 1, "Squeeze": 1, "Unsqueeze": 1}
"""The first of an operator's inputs that is not data that it moves."""
_POOLS = ("MaxPool", "AveragePool")
"""Fast only in the order of values of integer convolutions, which must surround them."""
_SURROUNDINGS = (*_POOLS, "Conv", "Concat")
_IR_VERSION = 10  # of the file format, for onnx's inference of shapes
_ANY_LENGTH = 160  # of an image's side that the file leaves open


@dataclass(frozen=True)
class Region:
    """Values of the main graph that are coded, by name.

    results: outputs of its operators, which all readers read in codes. inputs: float values that
    only its operators read in codes. same: results with the range of another value.
    operators: its operators. slower: ids of convolutions that stay in floats.
    """

    results: dict[str, ir.Value] = field(default_factory=dict)
    inputs: dict[str, ir.Value] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    operators: tuple[ir.Node, ...] = ()
    slower: frozenset[int] = frozenset()

    @property
    def nodes(self) -> set[int]:
        """Ids of its operators."""
        return {id(node) for node in self.operators}

    @property
    def watched(self) -> list[str]:
        """Names of the values whose ranges calibration must find."""
        return [name for name in (*self.inputs, *self.results) if name not in self.same]


def inputs_of(convolutions: Iterable[Weight]) -> Region:
    """A region without operators, of the inputs of convolutions only."""
    values = [use.activation for weight in convolutions for use in weight.uses]
    return Region(inputs={value.name or "": value for value in values})


def region_of(convolutions: Iterable[Weight], never: Container[str] = ()) -> Region:
    """The region around those convolutions of the given weights that are faster in codes.

    never: names of values that must not be coded.
    """
    together = [[use.node for use in weight.uses] for weight in convolutions]
    found = {id(node): node for nodes in together for node in nodes}
    if not found:
        return Region()
    graph = next(iter(found.values())).graph
    assert isinstance(graph, ir.Graph)
    chosen = _cheapest(graph, found, together, never)
    nodes = {id(node): node for node in graph if id(node) in chosen}
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
        if node.op_type in _MOVES:
            source = _data(node)[0].name or ""
            for value in _made(node):
                same[value.name or ""] = same.get(source, source)
    slower = frozenset(found.keys() - nodes.keys())
    return Region(results, inputs, same, tuple(nodes.values()), slower)


def _cheapest(
    graph: ir.Graph,
    convolutions: dict[int, ir.Node],
    together: Sequence[Sequence[ir.Node]],
    never: Container[str],
) -> set[object]:
    """Ids of the operators to run on codes."""
    able = {id(node): node for node in graph if id(node) in convolutions or _has_kernel(node)}
    sizes, cut = sizes_of(graph), Cut()
    makers = {id(value): key for key, node in able.items() for value in _made(node)}
    for key, node in able.items():
        in_floats, in_codes = costs(node, sizes)
        cut.edge(SOURCE, key, in_floats)
        is_kept = any(value.name in never for value in (*_made(node), *_data(node)))
        cut.edge(key, SINK, math.inf if is_kept else in_codes)
        for value in _made(node):
            decoding = OVERHEAD + DECODE * sizes.get(value.name or "", 0)
            for reader in value.consumers():
                is_torn = node.op_type in _POOLS and reader.op_type not in _SURROUNDINGS
                end = id(reader) if id(reader) in able and not is_torn else SINK
                crossing = decoding + separate(reader, sizes)
                cut.edge(key, end, math.inf if node.op_type in _POOLS else crossing)
            if value.is_graph_output():  # an answer is not rounded
                cut.edge(key, SINK, math.inf)
        for value in _data(node):
            maker = makers.get(id(value), SINK)
            cut.edge(key, ("coding of", id(value)), math.inf)
            if node.op_type in _POOLS:
                cut.edge(key, maker, math.inf)
    for value in {id(v): v for node in able.values() for v in _data(node)}.values():
        coding = OVERHEAD + CODE * sizes.get(value.name or "", 0)
        cut.edge(("coding of", id(value)), makers.get(id(value), SINK), coding)
    for nodes in together:  # one weight is stored once
        for first, second in pairwise(nodes):
            cut.edge(id(first), id(second), math.inf)
            cut.edge(id(second), id(first), math.inf)
    return {key for key in cut.source_side() if key in able}


def sizes_of(graph: ir.Graph) -> dict[str, int]:
    """How many numbers each value of a main graph has, by name, where onnx can tell.

    Lengths that the inputs leave open are one for the first axis, and as long as an image's side
    for the others.
    """
    everywhere = ir.traversal.RecursiveGraphIterator(graph)
    values = [*graph.inputs, *(v for node in everywhere for v in node.outputs)]
    stated = [(value, value.shape) for value in values]
    for value in values:
        value.shape = None if value.producer() is not None else _closed(value.shape)
    infer_shapes(ir.Model(graph, ir_version=_IR_VERSION))
    found = {value.name or "": _product(value.shape) for value in values}
    for value, shape in stated:
        value.shape = shape
    return found


def _closed(shape: ir.Shape | None) -> ir.Shape | None:
    if shape is None:
        return None
    lengths = [1, *[_ANY_LENGTH] * (len(shape) - 1)]
    return ir.Shape([n if isinstance(n, int) else lengths[i] for i, n in enumerate(shape)])


def _product(shape: ir.Shape | None) -> int:
    return math.prod(n if isinstance(n, int) else 1 for n in shape) if shape is not None else 0


def _has_kernel(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type not in (*_ARITHMETIC, *_MOVES):
        return False
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return False
    if node.op_type == "MaxPool" and len(node.outputs) > 1:
        return False
    if node.op_type == "HardSigmoid" and not hard_sigmoid(node)[0] > 0:
        return False
    data = _data(node)
    return bool(data) and all(value.producer() is not None for value in data)


def hard_sigmoid(node: ir.Node) -> tuple[float, float]:
    """Its slope and its offset in units of its input: `clip(slope · (x + offset), 0, 1)`."""
    slope = node.attributes.get_float("alpha", 0.2)
    return slope, node.attributes.get_float("beta", 0.5) / slope if slope else 0.0


def _data(node: ir.Node) -> Sequence[ir.Value]:
    """Its data inputs: not weights, shapes, axes and numbers that it adds or multiplies."""
    end = 1 if node.op_type == "Conv" else _FROM_CONSTANTS.get(node.op_type, len(node.inputs))
    return [v for v in node.inputs[:end] if v is not None and v not in numbers_of(node)]


def numbers_of(node: ir.Node) -> list[ir.Value]:
    """Its constant operands of a single value, which codes hold exactly."""
    if node.op_type not in ("Add", "Mul"):
        return []
    values = [value for value in node.inputs if value is not None and value.is_initializer()]
    return [value for value in values if _is_number(value.const_value)]


def _is_number(stored: ir.TensorProtocol | None) -> bool:
    return stored is not None and stored.dtype == ir.DataType.FLOAT and stored.size == 1


def _made(node: ir.Node) -> Sequence[ir.Value]:
    """Its outputs: after a Relu or Clip that is the only reader."""
    if node.op_type in _MOVES:
        return node.outputs
    return [result_of(node)]


def result_of(node: ir.Node) -> ir.Value:
    """The tensor an integer operator ends in: behind a Relu or Clip that alone reads it."""
    value = node.outputs[0]
    if len(value.uses()) != 1:
        return value
    (reader,) = value.consumers()
    is_fixed = all(each is None or each.is_initializer() for each in reader.inputs[1:])
    is_end = reader.op_type in ("Relu", "Clip") and reader.inputs[0] is value
    return reader.outputs[0] if is_end and is_fixed and reader.graph is node.graph else value
