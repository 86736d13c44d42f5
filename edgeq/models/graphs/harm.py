"""How much each rounding alone changes a model's answers, measured on calibration samples.

The float graph gets a switch for each tensor that is to be coded and each weight that is rounded;
one run per switch and sample then tells what it does to the outputs. Errors of separate roundings
add up like those of chance, in squares; where all together do more than that, each counts for more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.sampling import spread
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.threads import default_threads
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.regions import Region
from edgeq.models.graphs.rewriting import GraphWriter, save_model
from edgeq.models.graphs.statistics import input_of
from edgeq.models.graphs.weights import Weight
from edgeq.models.onnx_session import Session, open_session
from edgeq.quantize.activations import InputCodes, scale_and_zero_point
from edgeq.quantize.model import Quantized
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed

_SAMPLES, _SAMPLES_AROUND = 3, 8
_WORTH_BYTES = 0.1
_SWITCH = "edgeq.switch"
_NONE, _ALL = 0, -1  # others are numbers of a single rounding
Ranges = Mapping[str, tuple[float, float]]


def too_loud(
    harms: Mapping[str, float], together: float, weights: Container[str], limit: float
) -> dict[str, float]:
    """The roundings to leave out, the most harmful first, so that the others stay below `limit`.

    together: squared relative error of the answers by all of them. limit: of the relative error of
    an answer. weights: their names; left in floats they cost bytes, where others only cost time, so
    they must be worth it. Returns the error of each alone.
    """

    def cost(name: str) -> float:
        return harms[name] * (_WORTH_BYTES if name in weights else 1)

    more = max(1.0, together / max(sum(harms.values()), 1e-30))
    rest, found = sum(harms.values()) * more, {}
    for name in sorted(harms, key=cost, reverse=True):
        harm = harms[name]
        if rest <= limit**2:
            break
        found[name] = float(np.sqrt(harm))
        rest -= harm * more
    return found


def harms(
    directory: Path,
    region: Region,
    ranges: Ranges,
    weights: Sequence[Weight],
    found: Mapping[str, Quantized],
    feeds: Sequence[Feed],
    limit: float,
    around_mean: bool,
) -> tuple[dict[str, float], float]:
    """The squared relative error of the answers by each rounding alone, and by all together.

    By tensor and weight; none if all together change the answers by less than `limit`.

    directory: of the float graph. region, ranges: what is coded between convolutions. weights,
    found: what is rounded, with the codes of inputs if those are coded. around_mean: whether errors
    are relative to how the answers differ from their mean over samples, and that alone: what a
    classifier's labels and the order of vectors depend on.
    """
    switched = _Switched(directory)
    operators = {str(node.name) for node in region.operators}
    for name in region.watched:
        switched.code(name, ranges[name], None if name in region.results else operators)
    for weight in weights:
        switched.round(weight, found[weight.name])
    chosen = spread(feeds, _SAMPLES_AROUND if around_mean else _SAMPLES)
    with switched.open() as session:

        def answers(number: int) -> list[list[np.ndarray]]:
            return [_answers(session, feed, number) for feed in chosen]

        exact = answers(_NONE)
        together = _change(answers(_ALL), exact, around_mean)
        if together <= limit**2:
            return {}, together
        each = {
            name: _change(answers(number), exact, around_mean)
            for number, name in enumerate(switched.names, 1)
        }
    return each, together


def _answers(session: Session, feed: Feed, switch: int) -> list[np.ndarray]:
    outputs = session.run(None, {**feed, _SWITCH: np.array(switch, np.int64)})
    return [np.asarray(output, np.float64) for output in outputs if output.dtype.kind == "f"]


def _change(
    found: list[list[np.ndarray]], exact: list[list[np.ndarray]], around_mean: bool
) -> float:
    """The largest squared relative error of an output over all samples."""
    worst = 0.0
    for own, wanted in zip(zip(*found, strict=True), zip(*exact, strict=True), strict=True):
        pairs = [(a, b) for a, b in zip(own, wanted, strict=True) if a.shape == b.shape]
        errors, sizes = [a - b for a, b in pairs], [b for _, b in pairs]
        if around_mean and len({b.shape for b in sizes}) == 1 and len(sizes) > 1:
            errors, sizes = ([a - np.mean(each, 0) for a in each] for each in (errors, sizes))
        size = sum(float(np.square(b).sum()) for b in sizes)
        error = sum(float(np.square(a).sum()) for a in errors)
        worst = max(worst, error / size if size else 0.0)
    return worst


class _Switched:
    """The float graph with a switch for each rounding."""

    def __init__(self, directory: Path) -> None:
        self.names: list[str] = []
        self._model = load_graph(directory)
        self._writer = GraphWriter(self._model)
        graph = self._model.graph
        self._values = {v.name: v for v in (*graph.inputs, *graph.initializers.values())}
        self._values |= {value.name: value for node in graph for value in node.outputs}
        self._nodes = {node.name: node for node in graph}
        kind = ir.TensorType(ir.DataType.INT64)
        self._switch = ir.Value(name=_SWITCH, type=kind, shape=ir.Shape([]))
        graph.inputs.append(self._switch)
        every = self._writer.constant("every", np.array(_ALL, np.int64))
        self._all = self._writer.emit(graph[0], "Equal", [self._switch, every])

    @contextlib.contextmanager
    def open(self) -> Iterator[Session]:
        """Run it from a file, which holds its weights outside of memory."""
        with TemporaryFolder() as folder:
            path = Path(folder, MODEL_FILE)
            save_model(self._model, path)
            yield open_session(path, threads=default_threads())

    def code(self, name: str, range_: tuple[float, float], only: set[str] | None) -> None:
        """A switch for codes of a tensor, for all readers or `only` these."""
        value = self._values[name]
        uses = [use for use in value.uses() if only is None or use.node.name in only]
        self._replace(name, value, uses, lambda: self._coded(value, range_))

    def round(self, weight: Weight, quantized: Quantized) -> None:
        """A switch for a weight's codes, and those of what it multiplies."""
        value, inputs = self._values[weight.name], quantized.input_codes
        decoded = ir.LazyTensor(
            lambda: ir.tensor(_decoded(weight, quantized)),
            ir.DataType.FLOAT,
            ir.Shape(weight.shape),
        )
        stored = self._writer.constant(f"{weight.name}.rounded", decoded)
        same = ir.node("Identity", [stored])
        self._replace(weight.name, value, list(value.uses()), lambda: [same])
        if inputs is None:
            return
        self.names.append(input_of(weight.name))
        for use in weight.uses:
            reader = self._nodes[use.node.name]
            image = reader.inputs[0]
            assert image is not None
            coded = self._smoothed(image, inputs, columns=quantized.tensor.codes.shape[1])
            self._insert(len(self.names), image, [(reader, 0)], coded)

    def _smoothed(self, value: ir.Value, inputs: InputCodes, columns: int) -> list[ir.Node]:
        """The input of a product after its codes: smoothed, and without its outliers."""
        exact, smoothing = np.zeros(columns, bool), np.ones(columns, np.float32)
        exact[list(inputs.outliers)] = True
        if inputs.smoothing is not None:
            smoothing = inputs.smoothing
        factor = self._writer.constant(f"{value.name}.smoothing", smoothing)
        mask = self._writer.constant(f"{value.name}.outliers", exact)
        smooth = ir.node("Div", [value, factor])
        if inputs.low is None or inputs.high is None:
            zero = self._writer.constant("zero", np.array(0, np.float32))
            rest = ir.node("Where", [mask, zero, smooth.outputs[0]])
            nodes = [smooth, rest, *_coded_as_it_comes(rest.outputs[0])]
        else:
            nodes = [smooth, *self._coded(smooth.outputs[0], (inputs.low, inputs.high))]
        rough = ir.node("Mul", [nodes[-1].outputs[0], factor])
        return [*nodes, rough, ir.node("Where", [mask, value, rough.outputs[0]])]

    def _coded(self, value: ir.Value, range_: tuple[float, float]) -> list[ir.Node]:
        scale, zero = scale_and_zero_point(*range_)
        stored = [
            self._writer.constant(f"{value.name}.{word}", np.array(number))
            for word, number in (("scale", scale), ("zero", zero))
        ]
        codes = ir.node("QuantizeLinear", [value, *stored])
        return [codes, ir.node("DequantizeLinear", [codes.outputs[0], *stored])]

    def _replace(
        self,
        name: str,
        value: ir.Value,
        uses: Sequence[tuple[ir.Node, int]],
        make: Callable[[], list[ir.Node]],
    ) -> None:
        self.names.append(name)
        self._insert(len(self.names), value, uses, make())

    def _insert(
        self,
        number: int,
        value: ir.Value,
        uses: Sequence[tuple[ir.Node, int]],
        changed: list[ir.Node],
    ) -> None:
        """Let `uses` read what `changed` makes of `value` if the switch is `number`."""
        graph = self._model.graph
        place = self._writer.constant("switch", np.array(number, np.int64))
        is_this = ir.node("Equal", [self._switch, place])
        is_on = ir.node("Or", [is_this.outputs[0], self._all])
        branches = {"then_branch": changed, "else_branch": [ir.node("Identity", [value])]}
        attributes = [
            ir.AttrGraph(name, ir.Graph([], [nodes[-1].outputs[0]], nodes=nodes, name=name))
            for name, nodes in branches.items()
        ]
        chosen = ir.Node("", "If", [is_on.outputs[0]], attributes, num_outputs=1)
        for node in (*changed, *branches["else_branch"], is_this, is_on, chosen):
            for made in node.outputs:
                made.name = f"edgeq.{number}.{id(made)}"
        producer = value.producer()
        if producer is None:
            first = self._all.producer()
            assert first is not None
            graph.insert_after(first, [is_this, is_on, chosen])
        else:
            graph.insert_after(producer, [is_this, is_on, chosen])
        for node, index in uses:
            node.replace_input_with(index, chosen.outputs[0])


def _coded_as_it_comes(value: ir.Value) -> list[ir.Node]:
    """Codes of the range that a value turns out to have."""
    codes = ir.node("DynamicQuantizeLinear", [value], num_outputs=3)
    return [codes, ir.node("DequantizeLinear", codes.outputs)]


def _decoded(weight: Weight, quantized: Quantized) -> Floats:
    """What a weight is after its codes, in the shape of the file."""
    rows, inputs = quantized.tensor.dequantize(), quantized.input_codes
    if inputs is not None and inputs.smoothing is not None:
        rows = rows / inputs.smoothing
    if inputs is not None and quantized.outlier_columns is not None:
        rows[:, list(inputs.outliers)] = quantized.outlier_columns
    return weight.as_stored(rows)
