"""The weights of an ONNX graph that can be quantized, and how each is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.graphs.rewriting import CONTRIB
from edgeq.quantize.decide import ALREADY, SMALLEST_WEIGHT, Decision
from edgeq.quantize.methods import plain_method, rounding_method
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import Floats, number_format
from edgeq.quantize.number_formats.integers import INT8, INT8_B32, INT8_STORED

Role = Literal["linear", "convolution", "embedding", "tied", "recurrent", "other"]
"""The use of a weight. `tied`: rows are looked up by one node, and multiplied by another."""
Decide = Callable[[str, tuple[int, ...]], Decision]

_TIED = {"embedding", "linear"}
# Names of operators that read codes, and the types of these.
_QUANTIZED = ("quantize", "qlinear", "integer", "nbits", "qgemm", "qattention", "qmoe")
_CODES = tuple(
    getattr(ir.DataType, name) for name in ("INT8", "UINT8", "INT4", "UINT4", "INT16", "UINT16")
)
STORED = "computed in float32"
SLOWER = f"{STORED}: onnxruntime's integer kernels are slower here"
"""The reason for convolutions and recurrent layers that are in floats since that is faster."""
_UNREAD = f"{STORED}: no integer kernel reads it"
_INSIDE = f"{STORED}: in a subgraph, which calibration cannot access"
_STORED = Choice(INT8_STORED.name, NEAREST.name, "float32", None)
# Four for each value of an LSTM's state. Measured at batch size 1, onnxruntime 1.31, AVX512-VNNI: a
# state of 128 takes 1.1 to 1.5 times as long as in floats, one of 256 less than 0.8 times.
_FEW_GATES = 4 * 256
# onnxruntime's own operators that are supported here
_CONTRIB = ("FusedMatMul", "GroupQueryAttention")


@dataclass(frozen=True)
class WeightUse:
    """One node that reads a weight: its use, and the source of its input.

    `inputs_first`: the file stores `(columns, rows)`, inputs before outputs. `in_main_graph` is
    False inside the body of If, Loop or Scan, where calibration has no access.
    """

    node: ir.Node
    role: Role
    inputs_first: bool
    in_main_graph: bool

    @property
    def activation(self) -> ir.Value:
        """The tensor that meets the weight: the left operand, image, sequence or token ids."""
        value = self.node.inputs[1 if self.role == "embedding" else 0]
        assert value is not None
        return value


@dataclass(frozen=True)
class Weight:
    """A constant with at least two axes, and the nodes that read it.

    `obstacle` says why it must stay in float, or is empty. `stored` is the type if the file has
    already quantized it, else empty.
    """

    name: str
    value: ir.Value
    uses: tuple[WeightUse, ...]
    obstacle: str
    stored: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        return _shape(self.value)

    @property
    def shape_by_rows(self) -> tuple[int, ...]:
        """The shape with outputs, tokens or filters first, as in a plan; gates of all directions
        are outputs.
        """
        if self.role == "recurrent":  # (directions, gates × hidden, inputs)
            return (self.shape[0] * self.shape[1], self.shape[2])
        if self.uses and self.uses[0].inputs_first:
            return self.shape[::-1]
        return self.shape

    @property
    def role(self) -> Role:
        """The combined use of a weight by all its nodes."""
        roles = {use.role for use in self.uses}
        if not roles:
            return "other"
        return "tied" if roles == _TIED else self.uses[0].role

    @property
    def product(self) -> WeightUse | None:
        """The first use that multiplies by it and is accessible to calibration."""
        uses = (use for use in self.uses if use.role == "linear" and use.in_main_graph)
        return next(uses, None)

    def matrix(self) -> Floats:
        """float32 `(rows, columns)`: outputs by inputs, tokens by features, filters by taps.

        Raises InvalidInput if it contains NaN or infinity.
        """
        array = _array(self.value).astype(np.float32, copy=False)
        if not all(np.isfinite(rows).all() for rows in array):
            word = "NaN" if np.isnan(array).any() else "infinity"
            odd = array.size - int(np.isfinite(array).sum())
            what = f"contains {word} in {odd} of its {array.size} values"
            problem = Problem(f"the weight {self.name!r}", what, "train or save the model again")
            raise InvalidInput(problem)
        if self.role in ("convolution", "other"):
            return array.reshape(array.shape[0], -1)
        if self.role == "recurrent":
            return array.reshape(self.shape_by_rows)
        return np.ascontiguousarray(array.T) if self._is_turned else array

    def as_stored(self, matrix: Floats) -> Floats:
        """`matrix`, as by `matrix()`, in the layout of the file."""
        turned = matrix.T if self._is_turned else matrix
        return np.ascontiguousarray(turned).reshape(self.shape)

    @property
    def _is_turned(self) -> bool:
        return self.role == "linear" and self.uses[0].inputs_first


def find_weights(model: ir.Model) -> list[Weight]:
    """Every weight of two or more axes and 4096 or more values, in graph order.

    Floating-point constants, and codes that are already quantized in the file.
    """
    users: dict[str, list[tuple[ir.Node, int, bool]]] = {}
    values: dict[str, ir.Value] = {}
    for node, in_main in _nodes(model.graph, True):
        for position, value in enumerate(node.inputs):
            if value is None or not (_is_weight(value) or _is_stored(node, value)):
                continue
            if _operator(node) == "GroupQueryAttention":
                continue  # cosines and sines of positions: computed, not trained
            assert value.name is not None
            values[value.name] = value
            users.setdefault(value.name, []).append((node, position, in_main))
    return [
        _weight(name, values[name], uses)
        if _is_weight(values[name])
        else Weight(name, values[name], (), "", str(values[name].dtype).lower())
        for name, uses in users.items()
    ]


def small_filters(graph: ir.Graph) -> list[Weight]:
    """Weights of convolutions of the main graph that are too small to save bytes."""
    users: dict[str, list[tuple[ir.Node, int, bool]]] = {}
    values: dict[str, ir.Value] = {}
    for node in graph:
        value = node.inputs[1] if _operator(node) == "Conv" else None
        if value is not None and value.is_initializer() and not _is_weight(value):
            stored = value.const_value
            if stored is not None and stored.dtype == ir.DataType.FLOAT:
                values[value.name or ""] = value
                users.setdefault(value.name or "", []).append((node, 1, True))
    found = [_weight(name, values[name], uses) for name, uses in users.items()]
    return [weight for weight in found if not any(_computed_bias(u.node) for u in weight.uses)]


def settle(weight: Weight, decide: Decide) -> Decision:
    """A decision that this weight's operators can carry out, or float32 with the reason."""
    if weight.stored:
        reason = f"{ALREADY}: {weight.stored} in the file, kept as it is"
        return Decision(None, reason, weight.stored)
    decision = _stored_once(weight, decide(weight.name, weight.shape_by_rows))
    choice = decision.choice
    if choice is None:
        return decision
    if number_format(choice.number_format).is_expanded:  # whatever reads it then
        return decision
    if choice.number_format == INT8.name:
        is_recurrent = weight.role == "recurrent" and not weight.obstacle
        if is_recurrent and not _no_kernel(weight) and weight.shape[1] < _FEW_GATES:
            return Decision(_STORED, SLOWER)
        if _is_of_layers(weight.value) and (weight.obstacle or _no_kernel(weight)):
            return Decision(_STORED, _UNREAD)
    is_inside = not all(use.in_main_graph for use in weight.uses)
    if weight.role == "convolution" and choice.ranges and is_inside and not weight.obstacle:
        return Decision(_STORED, _INSIDE)
    obstacle = weight.obstacle or _obstacle(weight, choice.number_format, choice.activations)
    if obstacle:
        return Decision(None, f"stays float32: {obstacle}")
    if weight.role in ("embedding", "recurrent"):
        # Rows of a table are looked up, not multiplied; an LSTM quantizes its own inputs.
        is_tried = weight.role == "embedding" and rounding_method(choice.method).rounds_tables
        plain = plain_method(number_format(choice.number_format)).name
        method = choice.method if is_tried else plain
        return replace(decision, choice=replace(choice, method=method, activations="float32"))
    if choice.activations == "static-uint8" and is_inside:
        reason = f"{decision.reason}; dynamic ranges, since calibration has no access to subgraphs"
        return Decision(replace(choice, activations="dynamic-uint8", ranges=None), reason)
    return decision


def _stored_once(weight: Weight, decision: Decision) -> Decision:
    """int8 in groups for rows that are looked up and multiplied, so that one copy serves both."""
    choice = decision.choice
    if (
        choice is None
        or weight.obstacle
        or weight.role != "tied"
        or choice.number_format != INT8.name
    ):
        return decision
    grouped = replace(choice, number_format=INT8_B32.name, activations="float32", ranges=None)
    reason = f"{decision.reason}; in groups of 32, so that one copy serves lookup and product"
    return Decision(grouped, reason)


def _obstacle(weight: Weight, stored_as: str, activations: str) -> str:
    operator = weight.uses[0].node.op_type
    if weight.role == "convolution":
        if any(_computed_bias(use.node) for use in weight.uses):
            return f"{operator} has a bias that is computed, and integers need a stored one"
        if activations != "static-uint8":
            return f"{operator} has fast int8 kernels only for static ranges; use int8-static"
    if weight.role == "recurrent":
        only = f"{operator} has quantized kernels only for int8"
        return _no_kernel(weight) or ("" if stored_as == INT8.name else only)
    block = number_format(stored_as).group_size
    if weight.role == "tied" and not block:
        what = "rows are looked up and multiplied"
        return f"{what}, for which only formats with groups need a single copy"
    if weight.role in ("embedding", "tied") and block and weight.shape[1] % block:
        return f"{operator} needs rows of a multiple of {block} values, not {weight.shape[1]}"
    return ""


def _no_kernel(weight: Weight) -> str:
    """Why onnxruntime cannot read the codes of a recurrent layer's weight; empty if it can."""
    if weight.role != "recurrent":
        return ""
    found = ((use.node, _no_recurrent_kernel(use.node)) for use in weight.uses)
    return "; ".join(f"{node.op_type} {node.name!r}: {why}" for node, why in found if why)


def _no_recurrent_kernel(node: ir.Node) -> str:
    if node.op_type != "LSTM":
        return "it has no quantized kernel"
    if node.attributes.get_int("layout", 0):
        return "onnxruntime has no quantized kernel for layout 1"
    for value in node.inputs[1:3]:
        if value is None or not _is_weight(value):
            return f"its weights are quantized together, and {value and value.name!r} is small"
        if len(value.uses()) > 1:
            return f"other nodes read {value.name!r} too"
    return ""


def _computed_bias(node: ir.Node) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is not None and (not bias.is_initializer() or bias.const_value is None)


def _nodes(graph: ir.Graph, in_main: bool) -> Iterator[tuple[ir.Node, bool]]:
    for node in graph:
        yield node, in_main
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _nodes(attribute.as_graph(), False)


def _is_weight(value: ir.Value) -> bool:
    if not value.is_initializer() or value.const_value is None:
        return False
    shape = _shape(value)
    is_float = value.const_value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    return is_float and len(shape) >= 2 and int(np.prod(shape)) >= SMALLEST_WEIGHT


def _is_float32(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT


def _is_of_layers(value: ir.Value) -> bool:
    """Whether only layers without integer kernels read it, so that it was trained: no mask or grid
    of positions, which codes would move.
    """
    layers = ("GRU", "RNN", "LSTM", "ConvTranspose")
    return _is_float32(value) and all(_operator(use.node) in layers for use in value.uses())


def _is_stored(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node reads `value` as codes that were quantized before."""
    stored = value.const_value if value.is_initializer() else None
    if stored is None or not any(word in node.op_type.lower() for word in _QUANTIZED):
        return False
    size = int(np.prod(_shape(value)))
    return stored.dtype in _CODES and len(_shape(value)) >= 2 and size >= SMALLEST_WEIGHT


def _weight(name: str, value: ir.Value, users: list[tuple[ir.Node, int, bool]]) -> Weight:
    uses: list[WeightUse] = []
    obstacles: list[str] = []
    for node, position, in_main in users:
        found = _use(node, position, value, in_main)
        if isinstance(found, str):
            obstacles.append(f"{node.op_type} {node.name!r}: {found}")
        else:
            uses.append(found)
    ways = {(use.role, use.inputs_first) for use in uses}
    if len(ways) > 1 and ways != {("embedding", False), ("linear", False)}:
        obstacles.append("its nodes read it in different ways")
    if not _is_float32(value):
        obstacles.append("the model computes in float16; export it in float32 to quantize it")
    return Weight(name, value, tuple(uses), "; ".join(obstacles))


def _use(node: ir.Node, position: int, value: ir.Value, in_main: bool) -> WeightUse | str:
    rank = len(_shape(value))
    match _operator(node), position:
        case "MatMul", 1 if rank == 2:
            return WeightUse(node, "linear", True, in_main)
        case "Gemm", 1:
            return _gemm_use(node, in_main)
        case "FusedMatMul", 1 if rank == 2:
            return _fused_use(node, in_main)
        case "Gather", 0 if rank == 2:
            axis = node.attributes.get_int("axis", 0)
            if axis != 0:
                return f"it gathers along axis {axis}"
            return WeightUse(node, "embedding", False, in_main)
        case "Conv", 1:
            return WeightUse(node, "convolution", False, in_main)
        case (("LSTM" | "GRU" | "RNN"), 1 | 2) if rank == 3:
            return WeightUse(node, "recurrent", False, in_main)
        case "ConvTranspose", 1:
            return "it has no quantized kernel"
    return f"its input {position} has no quantized form here"


def _operator(node: ir.Node) -> str:
    """The operator's name if it is ONNX's or onnxruntime's own; with its domain otherwise."""
    if node.domain in ("", CONTRIB) and (node.domain == CONTRIB) == (node.op_type in _CONTRIB):
        return node.op_type
    return f"{node.domain}::{node.op_type}"


def _gemm_use(node: ir.Node, in_main: bool) -> WeightUse | str:
    alpha = node.attributes.get_float("alpha", 1.0)
    beta = node.attributes.get_float("beta", 1.0)
    if (alpha, beta) != (1.0, 1.0) or node.attributes.get_int("transA"):
        return "it scales or transposes its input"
    return WeightUse(node, "linear", not node.attributes.get_int("transB"), in_main)


def _fused_use(node: ir.Node, in_main: bool) -> WeightUse | str:
    others = ("transA", "transBatchA", "transBatchB")
    if node.attributes.get_float("alpha", 1.0) != 1 or any(map(node.attributes.get_int, others)):
        return "it scales or transposes its input"
    return WeightUse(node, "linear", not node.attributes.get_int("transB"), in_main)


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())


def _array(value: ir.Value) -> NDArray[np.generic]:
    """The values, in memory of their own: pages of a mapped file would count as this process's."""
    stored = value.const_value
    assert stored is not None
    if not isinstance(stored, ir.ExternalTensor):
        return np.array(stored.numpy())
    shape = _shape(value)
    count = int(np.prod(shape, dtype=np.int64))
    found = np.fromfile(stored.path, stored.dtype.numpy(), count, offset=stored.offset or 0)
    return found.reshape(shape)
