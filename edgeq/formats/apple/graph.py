"""Translate an ONNX graph, operator by operator, to a program.

Apple's tools do not read ONNX. Encoders and image classifiers use few operators, and a float
graph has everything that a program needs: pooling inside, weights under the names that rules and
codes use. Values that do not depend on an input are computed here and become constants.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.constants import Weight
from edgeq.formats.apple.writer import Input, Writer
from edgeq.models.graphs import weights
from edgeq.quantize.activations import InputCodes
from edgeq.quantize.model import Quantized

Array = NDArray[Any]
Value = Any
"""A variable of the program, a known array, a weight, or None for an omitted input."""
Handler = Callable[["Translator", ir.Node, list[Value]], Any]

_UNKNOWN = object()  # an operator without a handler

_REFUSALS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)
"""What handlers and Apple's packages raise for attributes and operands that they do not take."""

_FREE_SIZE = "a size depends on the input: build for one shape"

_NARROW = tuple(
    getattr(ir.DataType, name) for name in ("INT8", "INT16", "UINT8", "UINT16", "UINT32", "UINT64")
)
_WRAPPING = (
    *("Add", "Sub", "Mul", "Pow", "Sum", "Mean", "Neg", "MatMul", "Gemm", "CumSum", "Einsum"),
    *("ReduceSum", "ReduceProd", "ReduceSumSquare", "ReduceL1"),
)
"""Operators whose results may be beyond their integers."""

_MOVES = ("Gather", "Identity", "Transpose")
"""Operators whose results have a weight's values, which a program stores once."""

_OF_NUMBERS = frozenset(
    {
        *("Equal", "Expand", "Gather", "GatherElements", "GatherND", "Pad"),
        *("ReduceMax", "ReduceMin", "ScatterElements", "ScatterND", "Trilu"),
    }
)
"""Operators that take truths in ONNX, and numbers alone in Apple's formats."""

HANDLERS: dict[str, Handler] = {}
"""Keyed by ONNX operator; filled by the modules that `handlers` imports."""


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a function for the ONNX operators `names`."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def unsupported(operators: Iterable[str], title: str, where: str) -> Problem:
    """The problem of operators without a handler. title: of the file format."""
    names = ", ".join(sorted(operators))
    what = f"edgeq does not support these operators for {title}: {names}"
    return Problem(where, what, "target another format")


def graph_inputs(model: ir.Model, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> list[Input]:
    """The graph's inputs with the shapes that a program supports.

    shapes: for inputs with free dimensions; a first axis without a size is 1. Raises InvalidInput
    for one that is still free.
    """
    found = []
    for value in model.graph.inputs:
        name = value.name or ""
        own = tuple(d if isinstance(d, int) else None for d in value.shape or ())
        if own and own[0] is None:
            own = (1, *own[1:])
        wanted = shapes.get(name)
        if wanted is None and None in own:
            what = f"the input {name!r} has no fixed shape: {value.shape}"
            raise InvalidInput(Problem(name, what, "state its possible shapes"))
        dtype = value.dtype
        is_float = dtype is not None and dtype.is_floating_point()
        chosen = tuple(map(tuple, wanted)) if wanted is not None else (own,)
        found.append(Input(name, chosen, "float32" if is_float else "int32"))  # type: ignore[arg-type]
    return found


def program_weights(
    model: ir.Model,
    codes: Mapping[str, Quantized],
    ranges: Mapping[str, tuple[float, float]],
) -> dict[str, Weight]:
    """The graph's weights by name, with outputs, tokens or filters first if it multiplies.

    ranges: static ranges of inputs of convolutions, by the tensor's name.
    """
    found = {}
    for weight in weights.find_weights(model):
        if weight.stored or (weight.obstacle and weight.product):
            # The expansion of codes is computed; what is multiplied in one way and read in another
            # has no one layout. Both are plain constants.
            continue
        if weight.uses and not weight.obstacle and weight.role == "linear":
            shape, read = weight.shape_by_rows, weight.matrix
        else:
            shape, read = weight.shape, functools.partial(_stored, weight.value)
        quantized = codes.get(weight.name)
        found[weight.name] = Weight(
            weight.name,
            shape,
            read,
            quantized.tensor if quantized else None,
            inputs=(quantized.input_codes if quantized else None) or _convolved(weight, ranges),
            outlier_weights=quantized.outlier_columns if quantized else None,
        )
    return found


def _convolved(
    weight: weights.Weight, ranges: Mapping[str, tuple[float, float]]
) -> InputCodes | None:
    """The codes of a filter's input; if it has several inputs, of a range for all."""
    seen = [use.activation.name or "" for use in weight.uses if use.role == "convolution"]
    if not seen or any(name not in ranges for name in seen):
        return None
    low, high = min(ranges[name][0] for name in seen), max(ranges[name][1] for name in seen)
    return InputCodes(None, (), low, high, 0.0, 0.0)


def _stored(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy()


class Translator:
    """One graph into one writer; handlers call `emit`, `known` and `name`."""

    def __init__(
        self,
        model: ir.Model,
        writer: Writer,
        weights: Mapping[str, Weight],
        given: Mapping[str, Any],
    ) -> None:
        """given: replaces the program's inputs of the same names in the graph."""
        self._model = model
        self._given = given
        self._weights = weights
        self._values: dict[str, Value] = {}
        self._unknown: set[str] = set()
        self.writer = writer
        self.opset = model.graph.opset_imports[""]

    def emit(self, kind: str, name: str, **values: Value) -> Any:
        """See `Writer.emit`; constants that are narrow integers become int32, as variables are."""
        return self.writer.emit(kind, name, **{key: _wide(each) for key, each in values.items()})

    def outputs(self) -> dict[str, Any]:
        """Every output of the graph, by name. Raises InvalidInput for unknown operators."""
        self._values.update({**self.writer.inputs, **self._given})
        for value in self._model.graph.inputs:
            if value.dtype == ir.DataType.BOOL:  # inputs of programs are numbers
                name = value.name or ""
                self._values[name] = self.writer.cast(self._values[name], "bool")
        self._translate(self._model.graph)
        if self._unknown:
            raise InvalidInput(unsupported(self._unknown, self.writer.title, MODEL_FILE))
        return {v.name or "": self._variable(v.name or "") for v in self._model.graph.outputs}

    def _translate(self, graph: ir.Graph) -> None:
        """Add every value of a graph to those that are known by name."""
        for name, value in graph.initializers.items():
            assert value.const_value is not None
            self._values[name] = self._weights.get(name)
            if self._values[name] is None:
                self._values[name] = value.const_value.numpy()
        for index, node in enumerate(graph):
            args = [None if v is None else self._values[v.name or ""] for v in node.inputs]
            node.name = node.name or f"{node.op_type}_{index}"
            made = self._made(node, args)
            results = list(made) if isinstance(made, list | tuple) else [made]
            for value, result in zip(node.outputs, results, strict=False):
                self._values[value.name or ""] = result
            if any(v.uses() or v.is_graph_output() for v in node.outputs[len(results) :]):
                what = f"{node.op_type} has one result here, and the graph reads others"
                raise InvalidInput(Problem(str(node.name), what, "target another format"))

    def _chosen(self, node: ir.Node, condition: Array) -> list[Value]:
        """The results of the branch that an If takes for every input of these shapes."""
        branch = node.attributes["then_branch" if condition.all() else "else_branch"].as_graph()
        self._translate(branch)
        return [self._values[value.name or ""] for value in branch.outputs]

    def known(self, value: Value) -> Array | None:
        """The constant array of `value`; None if it depends on an input."""
        return value if isinstance(value, np.ndarray) else None

    def array(self, value: Value) -> Array:
        """A constant or a weight. Raises ValueError if it depends on an input."""
        if isinstance(value, Weight):
            return value.read()
        found = self.known(value)
        if found is None:
            raise ValueError("what should be constant depends on the input")
        return found

    def shape(self, value: Value) -> tuple[Any, ...]:
        """Its sizes; free ones are symbols, not integers."""
        return tuple(value.shape)

    def numbers(self, value: Value) -> list[int]:
        """A known list of integers. Raises ValueError if it depends on an input."""
        found = self.known(value)
        if found is None:
            raise ValueError("a size or axis depends on the input: build for one shape")
        return [int(number) for number in found.reshape(-1)]

    def is_int(self, value: Value) -> bool:
        """Whether a variable holds integers."""
        if isinstance(value, np.ndarray):
            return value.dtype.kind in "iu"
        return not isinstance(value, Weight) and self.writer.dtype(value) == "int32"

    def matrix_as_stored(self, value: Value, transposed: bool) -> Value:
        """A right operand of two axes, inputs first."""
        if isinstance(value, Weight):
            raise ValueError("it scales or transposes what it multiplies a weight with")
        if not transposed:
            return value
        if isinstance(value, np.ndarray):
            return value.T
        return self.emit("transpose", f"{value.name}_turned", x=value, perm=[1, 0])

    def _variable(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, np.ndarray | Weight):
            what = "this output does not depend on any input"
            raise InvalidInput(Problem(name, what, "leave it out of the model's outputs"))
        return value

    def _made(self, node: ir.Node, args: list[Value]) -> Any:
        if node.op_type == "Constant":
            return np.asarray(node.attributes["value"].as_tensor().numpy())
        if node.op_type == "If" and isinstance(args[0], np.ndarray):
            return self._chosen(node, args[0])
        if args and all(_is_known(node, arg) for arg in args):
            return _evaluate(
                node, [_as_stored(*each) for each in zip(node.inputs, args, strict=True)]
            )
        if node.op_type not in HANDLERS:
            self._unknown.add(node.op_type)
        if node.op_type not in HANDLERS or any(arg is _UNKNOWN for arg in args):
            return [_UNKNOWN] * len(node.outputs)
        try:
            if node.op_type in _WRAPPING and node.outputs[0].dtype in _NARROW:
                raise ValueError("its integers wrap around, and here all are int32")
            return self._handled(node, args)
        except _REFUSALS as error:
            why = _FREE_SIZE if "symbols to int" in str(error) else error
            what = f"{node.op_type} cannot be expressed in {self.writer.title}: {why}"
            raise InvalidInput(Problem(str(node.name), what, "target another format")) from error

    def _handled(self, node: ir.Node, args: list[Value]) -> Any:
        handler = HANDLERS[node.op_type]
        if node.op_type not in _OF_NUMBERS or not any(map(self._is_truth, args)):
            return handler(self, node, args)
        made = handler(self, node, [self._as_number(arg) for arg in args])
        return self.writer.cast(made, "bool")

    def _is_truth(self, value: Value) -> bool:
        if isinstance(value, np.ndarray):
            return bool(value.dtype.kind == "b")
        return (
            value is not None
            and not isinstance(value, Weight)
            and self.writer.dtype(value) == "bool"
        )

    def _as_number(self, value: Value) -> Value:
        if not self._is_truth(value):
            return value
        is_known = isinstance(value, np.ndarray)
        return value.astype(np.int32) if is_known else self.writer.cast(value, "int32")


def _is_known(node: ir.Node, arg: Value) -> bool:
    """Whether an operand is constant; not a weight in codes, or one that is only moved."""
    if isinstance(arg, Weight):
        return arg.codes is None and node.op_type not in _MOVES
    return arg is None or isinstance(arg, np.ndarray)


def _as_stored(value: ir.Value | None, arg: Value) -> Array | None:
    """A known operand; a weight as the graph has it, which may not be the program's orientation."""
    known: Array | None = arg
    if isinstance(arg, Weight):
        assert value is not None
        known = _stored(value)
    return known


def _wide(value: Value) -> Value:
    is_narrow = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    return value.astype(np.int32) if is_narrow and value.dtype.itemsize < 4 else value


def _evaluate(node: ir.Node, args: list[Value]) -> Any:
    """The result of a node on constants, by onnx's own definition."""
    from onnx.reference import ReferenceEvaluator

    proto = ir.to_proto(node)
    names = [name for name in proto.input if name]
    values = [arg for arg in args if arg is not None]
    return ReferenceEvaluator(proto).run(None, dict(zip(names, values, strict=True)))
