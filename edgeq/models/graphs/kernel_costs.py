"""What onnxruntime's kernels for images take, in floats and in 8-bit codes.

Nanoseconds of one thread, fitted to onnxruntime 1.31 on x86-64 with AVX512-VNNI: 165 convolutions
of 3 to 256 channels on images of 1 to 160 pixels a side, and the operators between them. They are
constants, not measured where a model is built, so that a recipe gives the same bytes everywhere;
`benchmarks/kernel_costs.py` compares them with the machine it runs on. What they say holds
elsewhere too: a convolution in codes pays from 8 input channels on (3 channels take 2 to 3 times as
long as in floats), a depthwise one hardly ever by itself, and a matrix of 1 × 1 only if what
precedes or follows it is in codes as well.
"""

from __future__ import annotations

import math

import onnx_ir as ir

OVERHEAD = 5_000.0  # of running an operator at all
CODE = 0.6  # per value: quantize, and turn to the order of an integer convolution
DECODE = 0.45  # per value and reader

# Per value of the result, in floats and in codes.
_PER_VALUE = {
    "Add": (0.35, 0.25),
    "Mul": (0.4, 0.37),
    "Sigmoid": (0.45, 0.45),
    "HardSigmoid": (0.3, 0.25),
    "LeakyRelu": (0.35, 0.45),
    "Concat": (0.25, 0.08),
    "Resize": (0.3, 2.2),
    "Split": (0.25, 0.09),
    "Transpose": (0.35, 0.15),
    "Slice": (0.25, 0.1),
}
# Per value that is read, in floats and in codes.
_POOLS = {"GlobalAveragePool": (0.15, 0.1), "AveragePool": (0.4, 0.4), "MaxPool": (0.7, 0.4)}


def costs(node: ir.Node, sizes: dict[str, int]) -> tuple[float, float]:
    """Nanoseconds of one run of `node`, in floats and in codes. sizes: values by name."""
    made = sizes.get(node.outputs[0].name or "", 0)
    if node.op_type == "Conv":
        return _convolution(node, made)
    image = node.inputs[0]
    read = sizes.get(image.name or "", 0) if image is not None else 0
    if node.op_type in _POOLS:
        in_floats, in_codes = _POOLS[node.op_type]
        return OVERHEAD + in_floats * read, OVERHEAD + in_codes * read
    in_floats, in_codes = _PER_VALUE.get(node.op_type, (0.0, 0.0))
    is_free = _is_swish(node, "Sigmoid") or _is_part(node)
    return 0.0 if is_free else OVERHEAD + in_floats * made, OVERHEAD + in_codes * made


def separate(node: ir.Node, sizes: dict[str, int]) -> float:
    """What `node` takes in floats in addition if the convolution before it is in codes."""
    made = sizes.get(node.outputs[0].name or "", 0)
    return OVERHEAD + _PER_VALUE[node.op_type][0] * made if _is_part(node) else 0.0


def _is_part(node: ir.Node) -> bool:
    """Whether it is a part of a float convolution: the operators of a hard swish are."""
    if node.op_type == "HardSigmoid":
        return _maker(node.inputs[0]) == "Conv"
    return _is_swish(node, "HardSigmoid") and "Conv" in map(_maker, node.inputs)


def _is_swish(node: ir.Node, gate: str) -> bool:
    """Whether it is the product of a value and a function of the same value."""
    if node.op_type != "Mul":
        return False
    makers = [value.producer() for value in node.inputs if value is not None]
    gates = [maker for maker in makers if maker is not None and maker.op_type == gate]
    return any(maker.inputs[0] in node.inputs for maker in gates)


def _maker(value: ir.Value | None) -> str:
    maker = value.producer() if value is not None else None
    return maker.op_type if maker is not None else ""


def _convolution(node: ir.Node, made: int) -> tuple[float, float]:
    weight = node.inputs[1]
    assert weight is not None and weight.shape is not None
    filters, inputs, *kernel = weight.shape.numpy()
    taps, group = math.prod(kernel), node.attributes.get_int("group", 1)
    places = made / filters
    products = made * inputs * taps
    if group == 1:
        padded = -(-filters // 16) * 16 / filters
        in_floats = padded * (0.075 * made + 0.0144 * products)
        gathered = 0.0 if taps == 1 else places * taps * (0.0076 * inputs + 1.66)
        in_codes = 0.21 * made + gathered + 0.0029 * products
        if inputs < 4:  # sums of four products are one instruction
            in_codes += in_floats * 2
    elif inputs == 1:
        in_floats = 0.2 * made + 0.029 * products
        rest = group % 16  # channels that fill no register, one by one
        in_codes = 0.3 * made + (0.03 + 1.5 / group + 1.6 * rest / group) * products
    else:
        in_floats = (0.0125 + 2.2 / inputs**2) * products
        in_codes = 0.3 * made + (0.0045 + 5.4 / inputs**2) * products
    return OVERHEAD + in_floats, OVERHEAD + in_codes
