"""ONNX operators with weights or their own shapes: products, attention, norms, pools."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.constants import Weight
from edgeq.formats.apple.graph import Translator, Value, handles

_MASKED = -30000.0  # added to scores: finite in float16, and so are two of them


@handles("MatMul")
def _product(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """A vector is a matrix of one row, or one column, whose axis the result lacks."""
    x, y = args
    flat = [n for n, value in ((-2, x), (-1, y)) if len(t.shape(value)) == 1]
    name = f"{node.name}.product" if flat else str(node.name)
    if -2 in flat:
        x = t.emit("expand_dims", f"{node.name}.row", x=x, axes=[0])
    if -1 in flat:
        y = t.emit("expand_dims", f"{node.name}.column", x=y, axes=[1])
    if isinstance(y, Weight) and len(y.shape) == 2:
        product = t.writer.linear(name, x, y)
    else:
        product = t.emit("matmul", name, x=x, y=y)
    if not flat:
        return product
    rank = len(t.shape(product))
    return t.emit("squeeze", str(node.name), x=product, axes=[rank + n for n in flat])


@handles("FusedMatMul")
def _fused_product(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    others = ("transA", "transBatchA", "transBatchB")
    if node.attributes.get_float("alpha", 1.0) != 1 or any(map(node.attributes.get_int, others)):
        raise ValueError("it scales or transposes its input")
    right = bool(node.attributes.get_int("transB", 0))
    if isinstance(args[1], Weight) and len(args[1].shape) == 2:
        return t.writer.linear(str(node.name), args[0], args[1])
    return t.emit("matmul", str(node.name), x=args[0], y=args[1], transpose_y=right)


@handles("Gemm")
def _gemm(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    alpha, beta = (node.attributes.get_float(n, 1.0) for n in ("alpha", "beta"))
    bias = t.known(args[2]) if len(args) > 2 and args[2] is not None else None
    right = bool(node.attributes.get_int("transB", 0))
    plain = alpha == beta == 1 and not node.attributes.get_int("transA", 0)
    if isinstance(args[1], Weight) and plain and (bias is None or bias.ndim == 1):
        return t.writer.linear(str(node.name), args[0], args[1], bias)
    left = bool(node.attributes.get_int("transA", 0))
    weight = t.matrix_as_stored(args[1], right)
    result = t.emit("matmul", f"{node.name}.product", x=args[0], y=weight, transpose_x=left)
    if alpha != 1:
        result = t.emit("mul", f"{node.name}.alpha", x=result, y=alpha)
    if len(args) > 2 and args[2] is not None:
        shift = args[2]
        if beta != 1:
            shift = t.emit("mul", f"{node.name}.beta", x=shift, y=beta)
        result = t.emit("add", str(node.name), x=result, y=shift)
    return result


@handles("Conv", "ConvTranspose")
def _convolution(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    weight = args[1]
    spatial = len(t.shape(weight)) - 2
    values: dict[str, Any] = {
        "x": t.writer.coded(args[0], weight) if isinstance(weight, Weight) else args[0],
        "weight": weight,
        "strides": _ints(node, "strides", [1] * spatial),
        "dilations": _ints(node, "dilations", [1] * spatial),
        "groups": node.attributes.get_int("group", 1),
        **_padding(node, spatial),
    }
    if len(args) > 2 and args[2] is not None:
        values["bias"] = args[2]
    if node.op_type == "Conv":
        return t.emit("conv", str(node.name), **values)
    return _spread(t, node, values, spatial)


def _spread(t: Translator, node: ir.Node, values: dict[str, Any], spatial: int) -> Any:
    """A transposed convolution; beyond its reach, `output_padding` has the bias alone."""
    pads = _cut(t, node, values, spatial)
    more = [max(0, -pad) for pad in pads]
    values |= {"pad_type": "custom", "pad": [max(0, pad) for pad in pads]}
    if not any(more):
        return t.emit("conv_transpose", str(node.name), **values)
    bias = values.pop("bias", None)
    found = t.emit("conv_transpose", f"{node.name}.spread", **values)
    found = t.emit("pad", f"{node.name}.more", x=found, pad=more, mode="constant", constant_val=0.0)
    if bias is None:
        return found
    shift = t.array(bias).reshape(1, -1, *[1] * spatial)
    return t.emit("add", str(node.name), x=found, y=shift)


def _cut(t: Translator, node: ir.Node, values: dict[str, Any], spatial: int) -> list[int]:
    """What is cut before and after each axis of the full result; negative for what is added."""
    extra = _ints(node, "output_padding", [0] * spatial)
    automatic = str(node.attributes.get_string("auto_pad", "NOTSET"))
    steps = values["strides"]
    wanted = node.attributes.get_ints("output_shape", None)
    is_same = automatic.startswith("SAME")
    sizes = [int(size) for size in t.shape(values["x"])[2:]] if wanted or is_same else []
    if is_same and not wanted:
        wanted = [size * step for size, step in zip(sizes, steps, strict=True)]
    pads = [0] * 2 * spatial if automatic == "VALID" else _ints(node, "pads", [0] * 2 * spatial)
    found = []
    for axis, reach in enumerate(_reaches(t, values)):
        begin, end = pads[axis], pads[spatial + axis]
        if wanted:
            total = steps[axis] * (sizes[axis] - 1) + extra[axis] + reach - wanted[-spatial:][axis]
            less = total // 2
            begin, end = (less, total - less) if automatic == "SAME_UPPER" else (total - less, less)
        found += [begin, end - extra[axis]]
    return found


def _reaches(t: Translator, values: dict[str, Any]) -> list[int]:
    kernel = [int(size) for size in t.shape(values["weight"])[2:]]
    return [(size - 1) * gap + 1 for size, gap in zip(kernel, values["dilations"], strict=True)]


def _padding(node: ir.Node, spatial: int) -> dict[str, Any]:
    """ONNX lists all beginnings, then all ends; MIL a pair for each axis."""
    kinds = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}
    automatic = str(node.attributes.get_string("auto_pad", "NOTSET"))
    if automatic in kinds:
        return {"pad_type": kinds[automatic]}
    pads = _ints(node, "pads", [0] * 2 * spatial)
    pairs = [n for axis in range(spatial) for n in (pads[axis], pads[spatial + axis])]
    return {"pad_type": "custom", "pad": pairs}


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes.get_ints(name, default) or default)


@handles("MaxPool", "AveragePool")
def _pool(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    sizes = list(node.attributes["kernel_shape"].as_ints())
    if any(step != 1 for step in _ints(node, "dilations", [1] * len(sizes))):
        raise ValueError("it is dilated")
    values: dict[str, Any] = {
        "x": args[0],
        "kernel_sizes": sizes,
        "strides": _ints(node, "strides", [1] * len(sizes)),
        "ceil_mode": bool(node.attributes.get_int("ceil_mode", 0)),
        **_padding(node, len(sizes)),
    }
    if node.op_type == "MaxPool":
        return t.emit("max_pool", str(node.name), **values)
    without = not node.attributes.get_int("count_include_pad", 0)
    return t.emit("avg_pool", str(node.name), exclude_padding_from_average=without, **values)


@handles("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    kind = "reduce_mean" if node.op_type == "GlobalAveragePool" else "reduce_max"
    axes = list(range(2, len(t.shape(args[0]))))
    return t.emit(kind, str(node.name), x=args[0], axes=axes, keep_dims=True)


@handles("BatchNormalization")
def _batch_norm(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    names = ("x", "gamma", "beta", "mean", "variance")
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    return t.emit(
        "batch_norm", str(node.name), **dict(zip(names, args, strict=True)), epsilon=epsilon
    )


@handles("LayerNormalization")
def _layer_norm(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    rank = len(t.shape(args[0]))
    first = node.attributes.get_int("axis", -1) % rank
    beta = args[2] if len(args) > 2 else None
    return t.emit(
        "layer_norm",
        str(node.name),
        x=args[0],
        axes=list(range(first - rank, 0)),
        gamma=args[1],
        epsilon=node.attributes.get_float("epsilon", 1e-5),
        **({} if beta is None else {"beta": beta}),
    )


@handles("SkipLayerNormalization")
def _residual_norm(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    value, residual, gain, shift, bias = [*args, None, None][:5]
    if bias is not None:
        value = t.emit("add", f"{node.name}.bias", x=value, y=bias)
    total = t.emit("add", f"{node.name}.residual", x=value, y=residual)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    more = {} if shift is None else {"beta": shift}
    normed = t.emit(
        "layer_norm", str(node.name), x=total, axes=[-1], gamma=gain, epsilon=epsilon, **more
    )
    return [normed, None, None, total]


@handles("LpNormalization")
def _unit_length(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    axis = node.attributes.get_int("axis", -1)
    if node.attributes.get_int("p", 2) != 2:
        raise ValueError("its norm is not Euclidean")
    length = t.emit("reduce_l2_norm", f"{node.name}.length", x=args[0], axes=[axis], keep_dims=True)
    # Of zeros, ONNX makes zeros.
    half = t.writer.precision(str(node.name)) == "fp16"
    least = float(np.finfo(np.float16 if half else np.float32).tiny)
    length = t.emit("maximum", f"{node.name}.least", x=length, y=least)
    return t.emit("real_div", str(node.name), x=args[0], y=length)


@handles("Softmax")
def _softmax(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    return t.emit("softmax", str(node.name), x=args[0], axis=node.attributes.get_int("axis", -1))


@handles("RMSNormalization", "SimplifiedLayerNormalization")
def _root_norm(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """The squares in float32: they are beyond float16 at ordinary values."""
    name, rank = str(node.name), len(t.shape(args[0]))
    axes = list(range(node.attributes.get_int("axis", -1) % rank, rank))
    emit, kept = t.writer.in_float32, t.writer.precision(name)
    squares = emit("mul", f"{name}.squares", x=args[0], y=args[0])
    mean = emit("reduce_mean", f"{name}.mean", x=squares, axes=axes, keep_dims=True)
    above = emit("add", f"{name}.above", x=mean, y=node.attributes.get_float("epsilon", 1e-5))
    factor = emit("rsqrt", f"{name}.factor", x=above, epsilon=0.0)
    normed = emit("mul", f"{name}.normed", x=args[0], y=factor)
    return t.emit("mul", name, x=t.writer.cast(normed, kept), y=args[1])


@handles("Gelu", "BiasGelu", "FastGelu")
def _gelu(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    value = args[0]
    if len(args) > 1 and args[1] is not None:
        value = t.emit("add", f"{node.name}.bias", x=value, y=args[1])
    tanh = node.op_type == "FastGelu" or node.attributes.get_string("approximate", "") == "tanh"
    return t.emit("gelu", str(node.name), x=value, mode="TANH_APPROXIMATION" if tanh else "EXACT")


@handles("QuickGelu")
def _quick_gelu(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    alpha = node.attributes.get_float("alpha", 1.702)
    inside = t.emit("mul", f"{node.name}.inside", x=args[0], y=float(alpha))
    gate = t.emit("sigmoid", f"{node.name}.gate", x=inside)
    return t.emit("mul", str(node.name), x=args[0], y=gate)


@handles("HardSigmoid", "HardSwish")
def _hard(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    swish = node.op_type == "HardSwish"
    alpha = 1 / 6 if swish else node.attributes.get_float("alpha", 0.2)
    beta = 0.5 if swish else node.attributes.get_float("beta", 0.5)
    gate = t.emit("sigmoid_hard", f"{node.name}.gate", x=args[0], alpha=alpha, beta=beta)
    return t.emit("mul", str(node.name), x=args[0], y=gate) if swish else gate


@handles("LeakyRelu", "Elu")
def _leaky(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    kind, default = {"LeakyRelu": ("leaky_relu", 0.01), "Elu": ("elu", 1.0)}[node.op_type]
    alpha = node.attributes.get_float("alpha", default)
    return t.emit(kind, str(node.name), x=args[0], alpha=alpha)


@handles("MultiHeadAttention")
def _attention(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """onnxruntime's fused operator: (1, tokens, width) three times, biases in one, a mask of keys.

    Any tokens may be padding; scores are scaled before the product, so that they stay small.
    """
    query, key, value, bias, mask, added, *past = [*args, *[None] * 6][:8]
    if key is None or value is None or any(p is not None for p in past):
        raise ValueError("it has a cache, or queries, keys and values in one")
    heads = node.attributes["num_heads"].as_int()
    width = int(t.shape(query)[-1]) // heads
    scale = node.attributes.get_float("scale", 0.0) or width**-0.5
    parts = {"query": query, "key": key, "value": value}
    joined = t.known(bias)
    split = {}
    for place, (name, part) in enumerate(parts.items()):
        if joined is not None:
            length = int(t.shape(part)[-1])
            start = int(sum(int(t.shape(p)[-1]) for p in list(parts.values())[:place]))
            own = joined[start : start + length]
            part = t.emit("add", f"{node.name}.{name}_bias", x=part, y=own)
        if name == "query":
            part = t.emit("mul", f"{node.name}.scaled", x=part, y=float(scale))
        shape = [1, -1, heads, int(t.shape(part)[-1]) // heads]
        part = t.emit("reshape", f"{node.name}.{name}_heads", x=part, shape=shape)
        split[name] = t.emit("transpose", f"{node.name}.{name}", x=part, perm=[0, 2, 1, 3])
    scores = t.emit(
        "matmul", f"{node.name}.scores", x=split["query"], y=split["key"], transpose_y=True
    )
    if added is not None:
        scores = t.emit("add", f"{node.name}.biased", x=scores, y=added)
    if mask is not None:
        scores = t.emit("add", f"{node.name}.masked", x=scores, y=_added_mask(t, node, mask))
    shares = t.emit("softmax", f"{node.name}.softmax", x=scores, axis=-1)
    mixed = t.emit("matmul", f"{node.name}.mixed", x=shares, y=split["value"])
    mixed = t.emit("transpose", f"{node.name}.by_token", x=mixed, perm=[0, 2, 1, 3])
    columns = int(t.shape(value)[-1])
    return t.emit("reshape", str(node.name), x=mixed, shape=[1, -1, columns])


def _added_mask(t: Translator, node: ir.Node, mask: Value) -> Any:
    """0 for keys that count and a finite number far below any score for the others."""
    if len(t.shape(mask)) != 2:
        raise ValueError("its mask is not one number for every key")
    kept = t.writer.cast(mask, t.writer.precision(str(node.name)))
    hidden = t.emit("sub", f"{node.name}.hidden", x=1.0, y=kept)
    wide = t.emit("expand_dims", f"{node.name}.mask_heads", x=hidden, axes=[1, 2])
    return t.emit("mul", f"{node.name}.mask", x=wide, y=_MASKED)
