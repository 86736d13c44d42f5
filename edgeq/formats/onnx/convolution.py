"""Convolutions in integers: QDQ around the operator, its bias and the activation after it.

Unlike a matrix product, a convolution runs in integers only if its result is quantized too, so
tensors between convolutions stay uint8 throughout (onnxruntime fuses each group into QLinearConv,
and the operators between them into their integer versions; see `edgeq.models.graphs.regions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgeq.models.graphs.regions import Region
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
        for name, value in (*region.results.items(), *region.inputs.items()):
            everywhere = name in region.results
            nodes = [u.node for u in value.uses() if everywhere or id(u.node) in region.nodes]
            self._code(value, nodes, *ranges[name])

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

    def _code(self, value: ir.Value, nodes: Sequence[ir.Node], low: float, high: float) -> None:
        """Let `nodes` read `value` after a round trip through the codes of its range."""
        assert value.name is not None
        scale, zero = parameters(self._writer, value.name, low, high)
        if value.producer() is not None:
            codes = self._writer.emit_after(value, "QuantizeLinear", [value, scale, zero])
            decoded = self._writer.emit_after(codes, "DequantizeLinear", [codes, scale, zero])
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

    def _coded_bias(self, node: ir.Node, bias: ir.Value, scales: Floats) -> ir.Value:
        """The bias in the accumulator's own unit, int32 with scale image scale × filter scale."""
        assert bias.const_value is not None
        limits = np.iinfo(np.int32)
        exact = np.rint(bias.const_value.numpy().astype(np.float64) / scales)
        codes = np.clip(exact, limits.min, limits.max).astype(np.int32)
        stored = self._writer.constant(f"{bias.name}.codes", codes)
        unit = self._writer.constant(f"{bias.name}.scales", scales)
        return decode(self._writer, node, [stored, unit], axis=0)


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
