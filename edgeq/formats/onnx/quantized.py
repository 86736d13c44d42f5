"""Write quantized weights into an ONNX graph: codes and scales unchanged, by kind of use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.onnx.convolution import ConvolutionWriter, parameters
from edgeq.models.graphs.regions import Region
from edgeq.models.graphs.rewriting import CONTRIB, GraphWriter
from edgeq.models.graphs.streamed import StreamedTensor
from edgeq.models.graphs.weights import Weight, WeightUse
from edgeq.quantize.activations import InputCodes
from edgeq.quantize.model import Quantized
from edgeq.quantize.number_formats import Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.kquants import BlockFormat

_INT8_INPUTS = 4  # the operator's name for it
_TABLE_AXES = {"gather_axis": 0, "quantize_axis": 1}


@dataclass(frozen=True)
class _CodedInput:
    codes: ir.Value
    scale: ir.Value
    zero_point: ir.Value


class QuantizedWriter:
    """Replaces the nodes that read a quantized weight, weight by weight."""

    def __init__(
        self, model: ir.Model, region: Region, ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        """ranges: static range of every value in the region of convolutions, by name."""
        self._writer = GraphWriter(model)
        self._is_decoder = any(node.op_type == "GroupQueryAttention" for node in model.graph)
        self._convolutions = ConvolutionWriter(self._writer, region, ranges)
        self._coded: dict[tuple[int, int, int], _CodedInput] = {}
        self._outliers: dict[tuple[int, int, int], ir.Value] = {}
        self._copies: dict[str, tuple[ir.Value, ir.Value]] = {}

    def write(self, weight: Weight, quantized: Quantized) -> None:
        """Rewrite every use of `weight`; its float constant is then unused."""
        stored = quantized.tensor.number_format
        if stored.is_expanded:
            self._write_expanded(weight, quantized.tensor)
            return
        if stored.group_size is None:
            _require_bytes(stored)
        match weight.role, stored.group_size:
            case "linear", None:
                self._write_linear_int8(weight, quantized)
            case "linear", _:
                self._write_linear_blocks(weight, quantized.tensor)
            case "embedding", None:
                self._write_table_rows(weight, quantized.tensor)
            case "embedding", _:
                self._write_table_blocks(weight, quantized.tensor)
            case "tied", int():
                self._write_tied_blocks(weight, quantized.tensor)
            case "convolution", None:
                self._convolutions.write(weight, quantized.tensor)
            case _:
                raise AssertionError(f"{weight.role} in {stored.name}")

    def write_recurrent(
        self, inputs: Weight, states: Weight, found: Mapping[str, Quantized]
    ) -> None:
        """Rewrite an LSTM, both of whose weights are int8, as DynamicQuantizeLSTM."""
        node = inputs.uses[0].node
        constants: list[ir.Value] = []
        for weight in (inputs, states):
            tensor = found[weight.name].tensor
            directions, gates, columns = weight.shape
            codes = tensor.codes.reshape(directions, gates, columns).transpose(0, 2, 1)
            scales = tensor.scales.reshape(directions, gates)
            zeros = np.zeros((directions, gates), np.int8)
            for suffix, array in (("codes", codes), ("scales", scales), ("zeros", zeros)):
                constants.append(self._writer.constant(f"{weight.name}.{suffix}", array))
        sequence = node.inputs[0]
        rest: list[ir.Value | None] = list(node.inputs[3:8])
        rest += [None] * (5 - len(rest))
        quantizers = [*constants[1:3], *constants[4:6]]
        inputs_and_codes = [sequence, constants[0], constants[3], *rest, *quantizers]
        attributes = {name: a for name, a in node.attributes.items() if name != "layout"}
        self._writer.replace(
            node, "DynamicQuantizeLSTM", inputs_and_codes, attributes, domain=CONTRIB
        )

    def _write_linear_int8(self, weight: Weight, quantized: Quantized) -> None:
        """One integer product, for any kind of ranges, that adds the bias in float.

        Left as DequantizeLinear and MatMul, it would be fused only with a bias of int32 and a zero
        point of the weight, and otherwise decode the whole weight at every run: 20 times as slow.
        QGemm, which it would be fused into, takes as long as this and has matrices only.
        """
        tensor = quantized.tensor
        codes = self._writer.constant(f"{weight.name}.codes", tensor.codes.T)
        scales = self._writer.constant(f"{weight.name}.scales", tensor.scales[:, 0])
        for use in weight.uses:
            coded = self._coded_input(use, quantized)
            bias = use.node.inputs[2] if len(use.node.inputs) > 2 else None
            bias = bias or self._take_bias(use.node, len(tensor.codes))
            stored, zero = (codes, None) if use.in_main_graph else self._unsigned(weight, tensor)
            inputs = [coded.codes, stored, coded.scale, scales, coded.zero_point, zero, bias]
            product = (use.node, "MatMulIntegerToFloat", inputs)
            if quantized.outlier_columns is None:
                self._writer.replace(*product, domain=CONTRIB)
            else:
                float_product = self._outlier_product(weight, use, quantized)
                total = [self._writer.emit(*product, domain=CONTRIB), float_product]
                self._writer.replace(use.node, "Sum", total)

    def _unsigned(self, weight: Weight, tensor: QuantizedTensor) -> tuple[ir.Value, ir.Value]:
        """Codes as uint8 and their zero point, for products in a subgraph.

        If uint8 × int8 saturates, onnxruntime makes such a copy itself, but only for weights that
        the main graph multiplies by.
        """
        name = f"{weight.name}.unsigned"
        if name not in self._copies:
            codes = (tensor.codes.T.astype(np.int16) + 128).astype(np.uint8)
            zero = self._writer.constant(f"{name}.zero", np.array(128, np.uint8))
            self._copies[name] = self._writer.constant(name, codes), zero
        return self._copies[name]

    def _take_bias(self, product: ir.Node, columns: int) -> ir.Value | None:
        """The bias that the next node adds, which is then removed; None if there is none.

        The integer product adds a bias at no cost while it converts its sums to floats.
        """
        consumers = product.outputs[0].consumers()
        if len(consumers) != 1 or product.outputs[0].is_graph_output():
            return None
        (reader,) = consumers
        if reader.op_type not in ("Add", "BiasGelu"):
            return None
        value, bias = reader.inputs
        if value is not product.outputs[0]:
            value, bias = bias, value
        if bias is None or not bias.is_initializer() or tuple(bias.shape or ()) != (columns,):
            return None
        if reader.op_type == "BiasGelu":
            self._writer.replace(reader, "Gelu", [value], domain=CONTRIB)
        else:
            self._writer.bypass(reader, value)
        return bias

    def _outlier_product(self, weight: Weight, use: WeightUse, quantized: Quantized) -> ir.Value:
        """The float product of the input's outlier channels."""
        assert quantized.input_codes is not None and quantized.outlier_columns is not None
        value, outliers = use.activation, quantized.input_codes.outliers
        key = (id(value), id(quantized.input_codes), id(use.node.graph))
        if key not in self._outliers:
            index = self._writer.constant(f"{value.name}.outliers", np.array(outliers, np.int64))
            picked = self._writer.emit(use.node, "Gather", [value, index], {"axis": -1})
            self._outliers[key] = picked
        columns = quantized.outlier_columns.T
        stored = self._writer.constant(f"{weight.name}.outliers", columns)
        return self._writer.emit(use.node, "MatMul", [self._outliers[key], stored])

    def _coded_input(self, use: WeightUse, quantized: Quantized) -> _CodedInput:
        """The uint8 codes of the input, made once for all the products of a graph that read it."""
        value, codes = use.activation, quantized.input_codes
        key = (id(value), id(codes), id(use.node.graph))
        if key in self._coded:
            return self._coded[key]
        emit, name = self._writer.emit, value.name
        multiplier = _input_multiplier(codes, weight_columns=quantized.tensor.codes.shape[1])
        if multiplier is not None:
            inverse = self._writer.constant(f"{name}.smoothing", multiplier)
            value = emit(use.node, "Mul", [value, inverse])
        if codes is not None and codes.low is not None and codes.high is not None:
            scale, zero = parameters(self._writer, str(name), codes.low, codes.high)
            made = _CodedInput(emit(use.node, "QuantizeLinear", [value, scale, zero]), scale, zero)
        else:
            first = emit(use.node, "DynamicQuantizeLinear", [value], outputs=3)
            node = first.producer()
            assert node is not None
            made = _CodedInput(*node.outputs)
        self._coded[key] = made
        return made

    def _write_expanded(self, weight: Weight, tensor: QuantizedTensor) -> None:
        """Codes that onnxruntime expands once, when it opens the file: it computes with floats.

        Not by DequantizeLinear, which it keeps for its integer kernels and runs every time; and in
        operators of any operator set, which 4-bit types are not.
        """
        first, uses = self._writer.graph[0], list(weight.value.uses())
        (rows, columns), groups = tensor.codes.shape, tensor.scales.shape[1]

        def emit(operator: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
            return self._writer.emit(first, operator, inputs, attributes, name=weight.name)

        def constant(word: str, array: Any) -> ir.Value:
            return self._writer.constant(f"{weight.name}.{word}", np.asarray(array))

        def floats(value: ir.Value) -> ir.Value:
            return emit("Cast", value, to=ir.DataType.FLOAT.value)

        stored = tensor.number_format
        assert isinstance(stored, IntegerFormat)
        size = stored.group_size or columns
        if stored.stored_bits == 4:
            pairs = floats(constant("codes", _pairs(tensor.codes, groups, size)))
            sixteen = constant("sixteen", np.float32(16))
            high = emit("Floor", emit("Div", pairs, sixteen))
            low = emit("Sub", pairs, emit("Mul", high, sixteen))
            both = emit("Concat", low, high, axis=2)
            codes = emit("Sub", both, constant("zero", np.float32(8)))
        else:
            codes = floats(constant("codes", tensor.codes.reshape(rows, groups, size)))
        scales = floats(constant("scales", tensor.scales.astype(np.float16)[..., None]))
        whole = emit("Mul", codes, scales)
        if columns % size:
            whole = emit("Reshape", whole, constant("filled", np.array([rows, -1])))
            left = constant("columns", np.arange(columns, dtype=np.int32))
            whole = emit("Gather", whole, left, axis=1)
        is_turned = weight.role == "linear" and weight.uses[0].inputs_first
        shape = (rows, columns) if is_turned else weight.shape
        whole = emit("Reshape", whole, constant("shape", np.array(shape)))
        if is_turned:
            whole = emit("Transpose", whole, perm=[1, 0])
        for use in uses:
            use.node.replace_input_with(use.idx, whole)

    def _write_linear_blocks(self, weight: Weight, tensor: QuantizedTensor) -> None:
        codes, scales = self._block_constants(weight, tensor)
        for use in weight.uses:
            self._write_product(use, tensor, codes, scales)

    def _write_tied_blocks(self, weight: Weight, tensor: QuantizedTensor) -> None:
        """Products as usual, and rows looked up in the same bytes under another shape."""
        codes, scales = self._block_constants(weight, tensor)
        rows, columns = tensor.codes.shape
        packing = packing_of(tensor)
        shape = (rows, columns * packing.bits // 8)
        table = self._writer.same_bytes(f"{weight.name}.rows", codes, shape)
        attributes = {"block_size": packing.block, "bits": packing.bits, **_TABLE_AXES}
        for use in weight.uses:
            if use.role == "embedding":
                inputs = [table, use.activation, scales]
                self._writer.replace(
                    use.node, "GatherBlockQuantized", inputs, attributes, domain=CONTRIB
                )
            else:
                self._write_product(use, tensor, codes, scales)

    def _block_constants(
        self, weight: Weight, tensor: QuantizedTensor
    ) -> tuple[ir.Value, ir.Value]:
        packing, name = packing_of(tensor), f"{weight.name}.codes"
        rows, columns = tensor.codes.shape

        def read(start: int, stop: int) -> NDArray[np.uint8]:
            return pack_blocks(replace(tensor, codes=tensor.codes[start:stop]))

        shape = (rows, -(-columns // packing.block), packing.block * packing.bits // 8)
        packed = StreamedTensor(name, ir.DataType.UINT8, shape, read)
        codes = self._writer.constant(name, packed)
        return codes, self._writer.constant(f"{weight.name}.scales", tensor.scales)

    def _write_product(
        self, use: WeightUse, tensor: QuantizedTensor, codes: ir.Value, scales: ir.Value
    ) -> None:
        """MatMulNBits, which at `accuracy_level` 4 also rounds its input to 8 bits, block by block.

        Language models use level 4. Measured on a 5.7 M-parameter llama, one thread
        (benchmarks/decoder_graphs.py): generation is 1.8 times as fast for 4 bits and 46 times for
        8, where level 0 converts the whole weight to floats for every token; prompts take as long
        (4 bits) or less than half as long (8). The KL divergence between the levels is 0.00014
        nats, and llama.cpp rounds the same way, so that both runtimes then compute the same thing
        from the same codes.

        Other models omit it and compute with the exact codes: for one pass over a text level 4
        gains nothing, and its answers differ more between CPUs.
        """
        rows, columns = tensor.codes.shape
        packing = packing_of(tensor)
        attributes = {"K": columns, "N": rows, "bits": packing.bits, "block_size": packing.block}
        if self._is_decoder:
            attributes["accuracy_level"] = _INT8_INPUTS
        bias = use.node.inputs[2] if len(use.node.inputs) > 2 else None
        inputs: list[ir.Value | None] = [use.activation, codes, scales]
        if bias is not None:
            inputs += [None, None, bias]
        self._writer.replace(use.node, "MatMulNBits", inputs, attributes, domain=CONTRIB)

    def _write_table_rows(self, weight: Weight, tensor: QuantizedTensor) -> None:
        """Gather codes and row scales, then multiply: a dequantized table would be materialized
        whole.
        """
        codes = self._writer.constant(f"{weight.name}.codes", tensor.codes)
        stored = tensor.scales.astype(np.float16)
        scales = self._writer.constant(f"{weight.name}.scales", stored)
        to_float = {"to": ir.DataType.FLOAT.value}
        for use in weight.uses:
            emit = self._writer.emit
            row = emit(use.node, "Gather", [codes, use.activation])
            scale = emit(use.node, "Gather", [scales, use.activation])
            row = emit(use.node, "Cast", [row], to_float)
            scale = emit(use.node, "Cast", [scale], to_float)
            self._writer.replace(use.node, "Mul", [row, scale])

    def _write_table_blocks(self, weight: Weight, tensor: QuantizedTensor) -> None:
        """Look up and dequantize in one operator; scales stay float16 in the file."""
        packing = packing_of(tensor)
        stored: np.ndarray = tensor.codes.astype(ml_dtypes.int4)
        if packing.bits == 8:
            stored = (tensor.codes.astype(np.int16) + 128).astype(np.uint8)
        codes = self._writer.constant(f"{weight.name}.codes", stored)
        scales = self._writer.constant(f"{weight.name}.scales", tensor.scales.astype(np.float16))
        attributes = {"block_size": packing.block, "bits": packing.bits, **_TABLE_AXES}
        for use in weight.uses:
            inputs = [codes, use.activation, scales]
            row = self._writer.emit(
                use.node, "GatherBlockQuantized", inputs, attributes, domain=CONTRIB
            )
            self._writer.replace(use.node, "Cast", [row], {"to": ir.DataType.FLOAT.value})


def _input_multiplier(codes: InputCodes | None, weight_columns: int) -> Floats | None:
    """The factor of the input before it is coded, or None for none."""
    if codes is None or (codes.smoothing is None and (codes.low is not None or not codes.outliers)):
        return None
    multiplier = np.ones(weight_columns, np.float32)
    if codes.smoothing is not None:
        multiplier /= codes.smoothing
    if codes.low is None:
        multiplier[list(codes.outliers)] = 0
    return multiplier


def _pairs(codes: NDArray[np.int8], groups: int, size: int) -> NDArray[np.uint8]:
    """Two 4-bit codes in a byte, plus 8: of each group, the first half in the low bits."""
    filled = np.pad(codes, ((0, 0), (0, groups * size - codes.shape[1])))
    shifted = (filled + 8).astype(np.uint8).reshape(-1, groups, size)
    pairs = shifted[..., : size // 2] | shifted[..., size // 2 :] << np.uint8(4)
    return pairs.astype(np.uint8)


@dataclass(frozen=True)
class Packing:
    """How onnxruntime's operators store codes: the width of each, and columns per scale."""

    bits: Literal[4, 8]
    block: int


def _require_bytes(stored: NumberFormat) -> None:
    """Codes with one scale per row are written as int8: no operator packs them tighter."""
    if not isinstance(stored, IntegerFormat) or stored.stored_bits != 8:
        what = "codes with one scale per row are stored in 8 bits in ONNX"
        raise InvalidInput(Problem(stored.name, what, "use int8, or a format with groups"))


def packing_of(tensor: QuantizedTensor) -> Packing:
    """How a tensor's codes are stored. Raises InvalidInput if no operator supports them."""
    stored = tensor.number_format
    bits = stored.stored_bits if isinstance(stored, IntegerFormat) else 0
    if isinstance(stored, BlockFormat) or bits not in (4, 8):
        what = "MatMulNBits stores symmetric codes of 4 or 8 bits"
        raise InvalidInput(Problem(stored.name, what, "use int4-b32 or int8-b32"))
    block = stored.group_size or 0
    if block < 16 or block & (block - 1):
        what = f"MatMulNBits takes groups of 16, 32, 64 and so on, not {stored.group_size}"
        raise InvalidInput(Problem(stored.name, what, "use int4-b32 or int8-b32"))
    return Packing(4 if bits == 4 else 8, block)


def pack_blocks(tensor: QuantizedTensor) -> NDArray[np.uint8]:
    """Codes in MatMulNBits' layout: uint8 `(rows, blocks, block × bits / 8)`.

    Codes are shifted to be unsigned (the operator's default zero point is half the range); of two
    4-bit codes in a byte the first is the low one. Short last blocks are filled with zeros.
    """
    packing = packing_of(tensor)
    rows, columns = tensor.codes.shape
    filling = -columns % packing.block
    filled = np.pad(tensor.codes, ((0, 0), (0, filling))).reshape(rows, -1, packing.block)
    shifted: NDArray[np.uint8] = filled.view(np.uint8) + np.uint8(1 << (packing.bits - 1))
    if packing.bits == 8:
        return shifted
    return shifted[..., 0::2] | (shifted[..., 1::2] << np.uint8(4))
