"""Convolutions in integers: QDQ around the operator, its bias and the activation after it.

Unlike a matrix product, a convolution runs in integers only if its result is quantized too, so
tensors between convolutions stay uint8 throughout (onnxruntime fuses each group into QLinearConv,
and the operators between them into their integer versions; see `edgeq.models.graphs.regions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgeq.models.graphs.regions import Region, hard_sigmoid, numbers_of
from edgeq.models.graphs.rewriting import GraphWriter
from edgeq.models.graphs.weights import Weight
from edgeq.quantize.activations import scale_and_zero_point
from edgeq.quantize.number_formats import Floats, QuantizedTensor


class ConvolutionWriter:
    """Rewrites the convolutions that read a quantized weight, and the region around them."""

    def __init__(
        self, writer: GraphWriter, region: Region, ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        """ranges: static range of every value in the region, by name."""
        self._writer = writer
        self._scales: dict[int, np.float32] = {}
        results = {name: _bare(value) for name, value in region.results.items()}
        coded = region.nodes
        for name, value in (*results.items(), *region.inputs.items()):
            everywhere = name in results
            nodes = [u.node for u in value.uses() if everywhere or id(u.node) in coded]
            gate = value.producer()
            if everywhere and gate is not None and gate.op_type == "HardSigmoid":
                self._code_gate(gate, nodes)
            else:
                self._code(value, nodes, *ranges[name])
        for node in region.operators:
            for number in numbers_of(node):
                node.replace_input_with(node.inputs.index(number), self._number(node, number))

    def write(self, weight: Weight, tensor: QuantizedTensor) -> None:
        """tensor: int8, one scale per filter, codes `(filters, taps)`."""
        codes = self._writer.constant(f"{weight.name}.codes", tensor.codes.reshape(weight.shape))
        filter_scales = tensor.scales[:, 0]
        scales = self._writer.constant(f"{weight.name}.scales", filter_scales)
        zeros = zero_points(self._writer, weight.name, len(filter_scales))
        for use in weight.uses:
            node = use.node
            image_scale = self._scales[id(use.activation)]
            node.replace_input_with(1, decode(self._writer, node, [codes, scales, zeros], axis=0))
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                bias = self._coded_bias(node, node.inputs[2], image_scale * filter_scales)
                node.replace_input_with(2, bias)

    def _code(
        self, value: ir.Value, nodes: Sequence[ir.Node], low: float, high: float, unit: float = 1
    ) -> None:
        """Let `nodes` read `value` after a round trip through the codes of its range.

        unit: the factor of what is coded, compared with what is read.
        """
        assert value.name is not None
        read_scale, zero = parameters(self._writer, value.name, low, high)
        scale = read_scale
        if unit != 1:
            scale = parameters(self._writer, value.name, low * unit, high * unit)[0]
        if value.producer() is not None:
            codes = self._writer.emit_after(value, "QuantizeLinear", [value, scale, zero])
            decoded = self._writer.emit_after(codes, "DequantizeLinear", [codes, read_scale, zero])
        else:
            assert nodes[0].graph is not None
            first = nodes[0].graph[0]
            codes = self._writer.emit(first, "QuantizeLinear", [value, scale, zero])
            decoded = decode(self._writer, first, [codes, scale, zero])
        self._scales[id(decoded)] = scale_and_zero_point(low, high)[0]
        for node in nodes:
            for index, read in enumerate(node.inputs):
                if read is value:
                    node.replace_input_with(index, decoded)

    def _code_gate(self, gate: ir.Node, nodes: Sequence[ir.Node]) -> None:
        """A HardSigmoid, which has no integer kernel, as a sum that is cut off by its codes.

        `clip(a x + b, 0, 1)` is a times `clip(x + b/a, 0, 1/a)`: the sum's codes of the range
        [0, 1/a] are the result's codes of [0, 1].
        """
        slope, offset = hard_sigmoid(gate)
        gate.op_type = "Add"
        gate.attributes.clear()
        gate.resize_inputs(2)
        number = self._writer.constant(f"{gate.name}.offset", np.array(offset, np.float32))
        gate.replace_input_with(1, number)
        value = gate.outputs[0]
        self._code(value, nodes, 0.0, 1.0, unit=1 / slope)

    def _number(self, node: ir.Node, value: ir.Value) -> ir.Value:
        """A single number, exact, as the greatest code above or below zero."""
        assert value.const_value is not None
        number = value.const_value.numpy().reshape(-1)[0]
        scale, zero = scale_and_zero_point(number, number)
        code = np.array(0 if number < 0 else round(number / scale), np.uint8)
        stored = [
            self._writer.constant(f"{value.name}.{suffix}", np.array(array))
            for suffix, array in (("code", code), ("scale", scale), ("zero_point", zero))
        ]
        return decode(self._writer, node, stored)

    def _coded_bias(self, node: ir.Node, bias: ir.Value, scales: Floats) -> ir.Value:
        """The bias in the accumulator's own unit, int32 with scale image scale × filter scale."""
        assert bias.const_value is not None
        limits = np.iinfo(np.int32)
        exact = np.rint(bias.const_value.numpy().astype(np.float64) / scales)
        codes = np.clip(exact, limits.min, limits.max).astype(np.int32)
        stored = self._writer.constant(f"{bias.name}.codes", codes)
        unit = self._writer.constant(f"{bias.name}.scales", scales)
        return decode(self._writer, node, [stored, unit], axis=0)


def _bare(value: ir.Value) -> ir.Value:
    """A result without the Relu or Clip that made it, since its codes end where that cuts off."""
    node = value.producer()
    if node is None or node.op_type not in ("Relu", "Clip") or node.graph is None:
        return value
    bare = node.inputs[0]
    assert bare is not None
    value.replace_all_uses_with(bare)
    node.graph.remove(node, safe=True)
    return bare


def zero_points(writer: GraphWriter, name: str, channels: int) -> ir.Value:
    """Zeros, int8 `(channels,)`: without them onnxruntime's uint8 copies of codes fail."""
    return writer.constant(f"{name}.zeros", np.zeros(channels, np.int8))


def parameters(
    writer: GraphWriter, name: str, low: float, high: float
) -> tuple[ir.Value, ir.Value]:
    """Scale (float32) and zero point (uint8) of a range, as constants."""
    scale, zero = scale_and_zero_point(low, high)
    stored = writer.constant(f"{name}.scale", np.array(scale))
    return stored, writer.constant(f"{name}.zero_point", np.array(zero))


def decode(
    writer: GraphWriter, node: ir.Node, inputs: Sequence[ir.Value], axis: int | None = None
) -> ir.Value:
    """A DequantizeLinear before `node`."""
    attributes = {} if axis is None else {"axis": axis}
    return writer.emit(node, "DequantizeLinear", inputs, attributes)
