"""The operators that every layer of a language model is made of, on its own weights."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import onnx_ir as ir

from edgeq.models.architectures import Decoder
from edgeq.models.graphs.rewriting import CONTRIB, GraphWriter
from edgeq.models.graphs.streamed import StreamedTensor
from edgeq.models.weights import Weights


class DecoderParts:
    """Appends products, norms and feed-forward layers to the end of a graph.

    Weights keep the orientation of their files, outputs first, which FusedMatMul supports: an
    embedding table that is also the output layer is then one constant.
    """

    def __init__(self, decoder: Decoder, weights: Weights, writer: GraphWriter) -> None:
        self.decoder = decoder
        self.weights = weights
        self.writer = writer
        self.append = writer.append

    def input(self, name: str, dtype: ir.DataType, shape: list[int | str]) -> ir.Value:
        """A new input of the graph."""
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self.writer.graph.inputs.append(value)
        return value

    def feed_forward(self, stem: str, hidden: ir.Value, zeroed: float = 0.0) -> ir.Value:
        """zeroed: the share of gates that are set to zero, by their mean and deviation."""
        if self.decoder.fused_gate_up:
            both = self.linear(hidden, f"{stem}.gate_up_proj", bias=False)
            gate, up = self.split(both, 2)
        else:
            gate = self.linear(hidden, f"{stem}.gate_proj", bias=False)
            up = self.linear(hidden, f"{stem}.up_proj", bias=False)
        if zeroed:
            gate = self._largest(gate, zeroed)
        gated = self.append("Mul", [self.activated(gate), up])
        return self.linear(gated, f"{stem}.down_proj", bias=False)

    def activated(self, gate: ir.Value) -> ir.Value:
        if self.decoder.activation == "silu":
            return self.append("QuickGelu", [gate], {"alpha": 1.0}, domain=CONTRIB)
        return self.append("FastGelu", [gate], domain=CONTRIB)

    def _largest(self, gate: ir.Value, zeroed: float) -> ir.Value:
        """What gates exceed the quantile `zeroed` of a normal distribution by, else zero."""
        columns = self.numbers([-1])
        centred = self.append("Sub", [gate, self.append("ReduceMean", [gate, columns])])
        square = self.append("Mul", [centred, centred])
        deviation = self.append("Sqrt", [self.append("ReduceMean", [square, columns])])
        beyond = self.scaled(deviation, NormalDist().inv_cdf(zeroed))
        return self.append("Relu", [self.append("Sub", [centred, beyond])])

    def linear(self, hidden: ir.Value, stem: str, *, bias: bool) -> ir.Value:
        product = self.product(hidden, self.matrix(f"{stem}.weight"))
        if not bias:
            return product
        name = f"{stem}.bias"
        return self.append("Add", [product, self.writer.constant(name, self.vector(name))])

    def product(self, hidden: ir.Value, weight: ir.Value) -> ir.Value:
        return self.append("FusedMatMul", [hidden, weight], {"transB": 1}, domain=CONTRIB)

    def norm(self, hidden: ir.Value, name: str) -> ir.Value:
        gain = self.vector(name) + np.float32(self.decoder.norm_plus_one)
        return self.normed_by(hidden, self.writer.constant(name, gain))

    def normed_by(self, hidden: ir.Value, gain: ir.Value) -> ir.Value:
        attributes = {"epsilon": self.decoder.norm_eps, "axis": -1, "stash_type": 1}
        return self.append("SimplifiedLayerNormalization", [hidden, gain], attributes)

    def normed(self, hidden: ir.Value, stem: str, name: str | None) -> ir.Value:
        return hidden if name is None else self.norm(hidden, f"{stem}.{name}.weight")

    def capped(self, value: ir.Value, cap: float | None) -> ir.Value:
        if cap is None:
            return value
        return self.scaled(self.append("Tanh", [self.scaled(value, 1 / cap)]), cap)

    def scaled(self, value: ir.Value, factor: float) -> ir.Value:
        if factor == 1:
            return value
        constant = self.writer.constant("scale", np.array(factor, np.float32))
        return self.append("Mul", [value, constant])

    def split(self, value: ir.Value, count: int) -> Sequence[ir.Value]:
        """Equal parts of the columns."""
        return self.writer.append_all("Split", [value], {"axis": -1, "num_outputs": count}, count)

    def matrix(self, name: str) -> ir.Value:
        shape = self.weights.shape(name)

        def read(start: int, stop: int) -> np.ndarray:
            return self.weights.rows(name, start, stop)

        tensor = StreamedTensor(name, ir.DataType.FLOAT, shape, read)
        return self.writer.constant(name, tensor)

    def vector(self, name: str) -> np.ndarray:
        return self.weights.read(name)

    def numbers(self, values: list[int]) -> ir.Value:
        return self.writer.constant("numbers", np.array(values, np.int64))
