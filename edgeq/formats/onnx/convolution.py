"""Convolutions in integers: QDQ around the operator, its bias and the activation after it.

Unlike a matrix product, a convolution runs in integers only if its result is quantized too, so
tensors between convolutions stay uint8 throughout (onnxruntime fuses each group into QLinearConv).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgeq.models.graphs.rewriting import GraphWriter
from edgeq.models.graphs.weights import Weight, convolution_output
from edgeq.quantize.activations import scale_and_zero_point
from edgeq.quantize.number_formats import Floats, QuantizedTensor


class ConvolutionWriter:
    """Rewrites the convolutions that read a quantized weight."""

    def __init__(self, writer: GraphWriter, ranges: Mapping[str, tuple[float, float]]) -> None:
        """ranges: static ranges of every input and output of a convolution."""
        self._writer = writer
        self._ranges = ranges
        self._scales: dict[int, np.float32] = {}

    def write(self, weight: Weight, tensor: QuantizedTensor) -> None:
        """tensor: int8, one scale per filter, codes `(filters, taps)`."""
        codes = self._writer.constant(f"{weight.name}.codes", tensor.codes.reshape(weight.shape))
        filter_scales = tensor.scales[:, 0]
        scales = self._writer.constant(f"{weight.name}.scales", filter_scales)
        zeros = zero_points(self._writer, weight.name, len(filter_scales))
        for use in weight.uses:
            node = use.node
            image, image_scale = self._coded_image(node, use.activation)
            node.replace_input_with(0, image)
            node.replace_input_with(1, decode(self._writer, node, [codes, scales, zeros], axis=0))
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                bias = self._coded_bias(node, node.inputs[2], image_scale * filter_scales)
                node.replace_input_with(2, bias)
            self._code_result(convolution_output(node))

    def _coded_image(self, node: ir.Node, value: ir.Value) -> tuple[ir.Value, np.float32]:
        """`value` after a round trip through codes, and the scale of these."""
        if id(value) in self._scales:
            return value, self._scales[id(value)]
        assert value.name is not None
        low, high = self._ranges[value.name]
        scale, zero = parameters(self._writer, value.name, low, high)
        codes = self._writer.emit(node, "QuantizeLinear", [value, scale, zero])
        return decode(self._writer, node, [codes, scale, zero]), scale_and_zero_point(low, high)[0]

    def _coded_bias(self, node: ir.Node, bias: ir.Value, scales: Floats) -> ir.Value:
        """The bias in the accumulator's own unit, int32 with scale image scale × filter scale."""
        assert bias.const_value is not None
        limits = np.iinfo(np.int32)
        exact = np.rint(bias.const_value.numpy().astype(np.float64) / scales)
        codes = np.clip(exact, limits.min, limits.max).astype(np.int32)
        stored = self._writer.constant(f"{bias.name}.codes", codes)
        unit = self._writer.constant(f"{bias.name}.scales", scales)
        return decode(self._writer, node, [stored, unit], axis=0)

    def _code_result(self, value: ir.Value) -> None:
        readers = [(use.node, use.idx) for use in value.uses()]
        if not readers or value.is_graph_output():
            return
        assert value.name is not None
        low, high = self._ranges[value.name]
        scale, zero = parameters(self._writer, value.name, low, high)
        codes = self._writer.emit_after(value, "QuantizeLinear", [value, scale, zero])
        decoded = self._writer.emit_after(codes, "DequantizeLinear", [codes, scale, zero])
        self._scales[id(decoded)] = scale_and_zero_point(low, high)[0]
        for node, position in readers:
            node.replace_input_with(position, decoded)


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
