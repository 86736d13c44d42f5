"""The MIL's operators in Core AI's: each function takes values, or arrays for what is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.formats.coreai.write_constants import constant

Value = Any
"""A value of Apple's package, or an array."""
Lower = Callable[..., Any]

LOWERED: dict[str, Lower] = {}
"""By the MIL's name; the first argument is `coreai.authoring`."""

_FAR = np.iinfo(np.int32).max
_BINARY = {
    "add": "broadcasting_add",
    "sub": "broadcasting_sub",
    "mul": "broadcasting_mul",
    "real_div": "broadcasting_divide",
    "floor_div": "broadcasting_floor_divide",
    "mod": "broadcasting_modulo",
    "pow": "broadcasting_pow",
    "maximum": "broadcasting_maximum",
    "minimum": "broadcasting_minimum",
    "equal": "broadcasting_equal",
    "not_equal": "broadcasting_not_equal",
    "greater": "broadcasting_greater",
    "logical_and": "broadcasting_and",
    "logical_or": "broadcasting_or",
}
_UNARY = {
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "erf": "erf",
    "exp": "exp",
    "sqrt": "sqrt",
    "abs": "abs_",
    "round": "round_",
    "sin": "sin",
    "cos": "cos",
    "silu": "silu",
    "logical_not": "not_",
}
_REDUCTIONS = {
    "reduce_mean": "reduce_mean",
    "reduce_sum": "reduce_sum",
    "reduce_max": "reduce_max",
    "reduce_min": "reduce_min",
    "reduce_prod": "reduce_product",
}


def lowers(*kinds: str) -> Callable[[Lower], Lower]:
    """Register a function for the MIL's operators `kinds`."""

    def register(function: Lower) -> Lower:
        LOWERED.update(dict.fromkeys(kinds, function))
        return function

    return register


def _named(table: dict[str, str], make: Callable[[str], Lower]) -> None:
    LOWERED.update({kind: make(name) for kind, name in table.items()})


_named(_BINARY, lambda name: lambda a, x, y: getattr(a, name)(x, y))
_named(_UNARY, lambda name: lambda a, x: getattr(a, name)(x))


def _reduction(name: str) -> Lower:
    def reduce(a: Any, x: Value, axes: Value, keep_dims: bool = False) -> Value:
        return _without(a, getattr(a, name)(x, _signed(axes)), axes, keep_dims)

    return reduce


_named(_REDUCTIONS, _reduction)


def sizes(x: Value) -> tuple[int, ...]:
    """The shape; negative where a run decides."""
    return tuple(x.shape) if isinstance(x, np.ndarray) else tuple(x.type.shape)


def rank(x: Value) -> int:
    """The number of axes."""
    return len(sizes(x))


def _signed(values: Any) -> Any:
    return np.asarray(values, np.int32) if not hasattr(values, "type") else values


def _unsigned(values: Any) -> Any:
    return np.asarray(values, np.uint32)


def _known(values: Any) -> list[int]:
    if hasattr(values, "type"):
        raise ValueError("a size or axis depends on the input")
    return [int(value) for value in np.asarray(values).reshape(-1)]


def _without(a: Any, x: Value, axes: Value, keep_dims: bool) -> Value:
    chosen = _known(axes)
    return x if keep_dims or not chosen else a.shrink_dims(x, _signed(chosen))


def _like(x: Value, number: float) -> Any:
    """A number in the type of a value."""
    return np.array(number, x.dtype if isinstance(x, np.ndarray) else _numpy(x))


def _numpy(x: Value) -> Any:
    return {"f16": np.float16, "f32": np.float32, "si32": np.int32}[str(x.type.dtype)]


def _wide(a: Any, x: Value) -> Value:
    """In float32: sums of squares are beyond float16 at ordinary values."""
    return x if isinstance(x, np.ndarray) else a.cast(x, np.float32)


def _back(a: Any, x: Value, like: Value) -> Value:
    return a.cast(x, _numpy(like))


@lowers("less")
def _less(a: Any, x: Value, y: Value) -> Value:
    return a.broadcasting_greater(y, x)


@lowers("greater_equal")
def _greater_equal(a: Any, x: Value, y: Value) -> Value:
    return a.broadcasting_or(a.broadcasting_greater(x, y), a.broadcasting_equal(x, y))


@lowers("less_equal")
def _less_equal(a: Any, x: Value, y: Value) -> Value:
    return _greater_equal(a, y, x)


@lowers("select")
def _select(authoring: Any, cond: Value, a: Value, b: Value) -> Value:
    return authoring.broadcasting_where(cond, a, b)


@lowers("identity")
def _identity(a: Any, x: Value) -> Value:
    return x


@lowers("floor")
def _floor(a: Any, x: Value) -> Value:
    return a.broadcasting_floor_divide(x, _like(x, 1))


@lowers("ceil")
def _ceil(a: Any, x: Value) -> Value:
    minus = _like(x, -1)
    return a.broadcasting_mul(_floor(a, a.broadcasting_mul(x, minus)), minus)


@lowers("sign")
def _sign(a: Any, x: Value) -> Value:
    zero = _like(x, 0)
    above, below = a.broadcasting_greater(x, zero), a.broadcasting_greater(zero, x)
    return a.broadcasting_sub(_back(a, above, x), _back(a, below, x))


@lowers("log")
def _log(a: Any, x: Value, epsilon: Value = 0.0) -> Value:
    return a.log(a.broadcasting_add(x, epsilon) if np.any(epsilon) else x)


@lowers("rsqrt")
def _rsqrt(a: Any, x: Value, epsilon: Value = 0.0) -> Value:
    return a.rsqrt(a.broadcasting_add(x, epsilon) if np.any(epsilon) else x)


@lowers("softplus")
def _softplus(a: Any, x: Value) -> Value:
    """log(1 + eˣ) as max(x, 0) + log(1 + e⁻|ˣ|), which no x takes beyond float16."""
    power = a.exp(a.broadcasting_mul(a.abs_(x), _like(x, -1)))
    return a.broadcasting_add(a.relu(x), a.log(a.broadcasting_add(power, _like(x, 1))))


@lowers("gelu")
def _gelu(a: Any, x: Value, mode: str) -> Value:
    return a.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@lowers("sigmoid_hard")
def _sigmoid_hard(a: Any, x: Value, alpha: Value, beta: Value) -> Value:
    line = a.broadcasting_add(a.broadcasting_mul(x, alpha), beta)
    return a.broadcasting_minimum(a.relu(line), _like(x, 1))


@lowers("leaky_relu")
def _leaky_relu(a: Any, x: Value, alpha: Value) -> Value:
    below = a.broadcasting_mul(x, alpha)
    return a.broadcasting_where(a.broadcasting_greater(x, _like(x, 0)), x, below)


@lowers("elu")
def _elu(a: Any, x: Value, alpha: Value) -> Value:
    # Of the smaller one, so that no power is infinite.
    power = a.exp(a.broadcasting_minimum(x, _like(x, 0)))
    below = a.broadcasting_mul(a.broadcasting_sub(power, _like(x, 1)), alpha)
    return a.broadcasting_where(a.broadcasting_greater(x, _like(x, 0)), x, below)


@lowers("softmax")
def _softmax(a: Any, x: Value, axis: Value) -> Value:
    return a.softmax(x, np.array(int(axis) % rank(x), np.int32))


@lowers("matmul")
def _matmul(
    a: Any, x: Value, y: Value, transpose_x: bool = False, transpose_y: bool = False
) -> Value:
    if rank(x) < 2 or rank(y) < 2:
        raise ValueError("it multiplies by a vector")
    return a.broadcasting_batch_matmul(
        _turned(a, x) if transpose_x else x, _turned(a, y) if transpose_y else y
    )


def _turned(a: Any, x: Value) -> Value:
    *before, row, column = range(rank(x))
    return _transpose(a, x, [*before, column, row])


@lowers("transpose")
def _transpose(a: Any, x: Value, perm: Value) -> Value:
    return a.transpose(x, _unsigned([axis % rank(x) for axis in _known(perm)]))


@lowers("reduce_l2_norm")
def _length(a: Any, x: Value, axes: Value, keep_dims: bool = False) -> Value:
    wide = _wide(a, x)
    total = a.reduce_sum(a.broadcasting_mul(wide, wide), _signed(axes))
    return _without(a, _back(a, a.sqrt(total), x), axes, keep_dims)


@lowers("layer_norm")
def _layer_norm(
    a: Any, x: Value, axes: Value, epsilon: Value, gamma: Value = None, beta: Value = None
) -> Value:
    wide, chosen = _wide(a, x), _signed(axes)
    centred = a.broadcasting_sub(wide, a.reduce_mean(wide, chosen))
    variance = a.reduce_mean(a.broadcasting_mul(centred, centred), chosen)
    factor = a.rsqrt(a.broadcasting_add(variance, np.float32(epsilon)))
    result = _back(a, a.broadcasting_mul(centred, factor), x)
    if gamma is not None:
        result = a.broadcasting_mul(result, gamma)
    return result if beta is None else a.broadcasting_add(result, beta)


@lowers("batch_norm")
def _batch_norm(
    a: Any,
    x: Value,
    mean: Value,
    variance: Value,
    epsilon: Value,
    gamma: Value = None,
    beta: Value = None,
) -> Value:
    def spread(part: Value) -> Value:
        return a.reshape(part, _signed([1, -1, *[1] * (rank(x) - 2)]))

    factor = a.rsqrt(a.broadcasting_add(_wide(a, variance), np.float32(epsilon)))
    if gamma is not None:
        factor = a.broadcasting_mul(factor, _wide(a, gamma))
    centred = a.broadcasting_sub(x, spread(mean))
    result = a.broadcasting_mul(centred, spread(_back(a, factor, x)))
    return result if beta is None else a.broadcasting_add(result, spread(beta))


@lowers("reshape")
def _reshape(a: Any, x: Value, shape: Value) -> Value:
    return a.reshape(x, _signed(shape))


@lowers("squeeze")
def _squeeze(a: Any, x: Value, axes: Value) -> Value:
    return _without(a, x, axes, keep_dims=False)


@lowers("expand_dims")
def _expand_dims(a: Any, x: Value, axes: Value) -> Value:
    return a.expand_dims(x, _signed(_known(axes)))


@lowers("concat")
def _concat(a: Any, values: Sequence[Value], axis: Value) -> Value:
    if len(values) == 1:
        return values[0]
    parts = [constant(each) if isinstance(each, np.ndarray) else each for each in values]
    return a.concat(np.array(int(axis), np.int32), parts)


@lowers("split")
def _split(
    a: Any, x: Value, axis: Value, split_sizes: Value = None, num_splits: Value = None
) -> list[Value]:
    place = int(axis) % rank(x)
    if split_sizes is None:
        size, count = sizes(x)[place], int(num_splits)
        if size < 0 or size % count:
            raise ValueError("it splits an axis into parts of unknown sizes")
        split_sizes = [size // count] * count
    if len(split_sizes) == 1:
        return [x]
    return list(a.split(x, _unsigned(split_sizes), np.array(place, np.int32)))


@lowers("shape")
def _shape(a: Any, x: Value) -> Value:
    return a.cast(a.get_shape(x), np.int32)


@lowers("tile")
def _tile(a: Any, x: Value, reps: Value) -> Value:
    return a.tile(x, _unsigned(_known(reps)))


@lowers("gather")
def _gather(a: Any, x: Value, indices: Value, axis: Value) -> Value:
    """`gather_nd` takes along the first axis: another one is moved there, and back."""
    place, width = int(axis) % rank(x), rank(indices)
    if place:
        x = _transpose(a, x, [place, *[n for n in range(rank(x)) if n != place]])
    places = a.expand_dims(indices, _signed([-1])) if width else a.reshape(indices, _signed([1]))
    found = a.gather_nd(x, places)
    if not place:
        return found
    taken, kept = list(range(width)), list(range(width, rank(found)))
    return _transpose(a, found, [*kept[:place], *taken, *kept[place:]])


@lowers("slice_by_index")
def _slice(
    a: Any,
    x: Value,
    begin: Value,
    end: Value,
    stride: Value = None,
    begin_mask: Value = None,
    end_mask: Value = None,
) -> Value:
    count = rank(x)
    steps = _known(stride) if stride is not None else [1] * count
    firsts = [0 if step > 0 else _FAR for step in steps]
    lasts = [_FAR if step > 0 else -_FAR for step in steps]
    return a.slice_(
        x,
        _edges(a, begin, firsts, begin_mask),
        _edges(a, end, lasts, end_mask),
        _signed(steps),
    )


def _edges(a: Any, places: Value, outermost: list[int], mask: Value) -> Value:
    """Where a slice begins or ends on each axis; at the very edge where the mask says so."""
    at_edge = np.asarray([False] * len(outermost) if mask is None else mask, np.bool_)
    if hasattr(places, "type"):
        if not at_edge.any():
            return places
        return a.broadcasting_where(at_edge, _signed(outermost), places)
    return np.where(at_edge, outermost, _known(places)).astype(np.int32)


@lowers("slice_update")
def _slice_update(
    a: Any,
    x: Value,
    update: Value,
    begin: Value,
    end: Value,
    begin_mask: Value = None,
    end_mask: Value = None,
) -> Value:
    count = rank(x)
    first = _edges(a, begin, [0] * count, begin_mask)
    last = _edges(a, end, list(sizes(x)), end_mask)
    return a.slice_update(x, first, last, _signed([1] * count), update)


@lowers("pad")
def _pad(a: Any, x: Value, pad: Value, mode: str, constant_val: Value) -> Value:
    pairs = _known(pad)
    whole = [0] * (2 * rank(x) - len(pairs)) + pairs  # of the last axes
    if any(amount < 0 for amount in whole):
        raise ValueError("it cuts instead of padding")
    return a.pad(x, _unsigned(whole), _like(x, float(np.asarray(constant_val))), mode)


@lowers("cumsum")
def _cumsum(a: Any, x: Value, axis: Value, exclusive: bool = False, reverse: bool = False) -> Value:
    total = a.scan(x, np.array(int(axis), np.uint32), np.array(bool(reverse)), combiner="sum")
    return a.broadcasting_sub(total, x) if exclusive else total


@lowers("reduce_argmax")
def _argmax(a: Any, x: Value, axis: Value, keep_dims: bool = False) -> Value:
    place = np.array(int(axis), np.int32)
    return _without(a, a.cast(a.argmax(x, place), np.int32), [int(axis)], keep_dims)


@lowers("conv")
def _conv(
    a: Any,
    x: Value,
    weight: Value,
    strides: Value,
    dilations: Value,
    groups: Value,
    pad_type: str,
    pad: Value = None,
    bias: Value = None,
) -> Value:
    spatial = rank(x) - 2
    kernel = [
        (size - 1) * step + 1
        for size, step in zip(sizes(weight)[2:], _known(dilations), strict=True)
    ]
    pairs = _pairs(x, kernel, _known(strides), pad_type, pad)
    padded = _padded(a, x, pairs, 0.0)
    if spatial == 1:  # a row of pixels
        padded, weight = (a.expand_dims(each, _signed([2])) for each in (padded, weight))
    kind = {1: "conv2d", 2: "conv2d", 3: "conv3d"}[spatial]
    steps, gaps = ([1] * (spatial == 1) + _known(each) for each in (strides, dilations))
    result = getattr(a, kind)(
        padded, weight, _unsigned(steps), _unsigned(gaps), np.array(int(groups), np.uint32)
    )
    if spatial == 1:
        result = a.shrink_dims(result, _signed([2]))
    return _with_bias(a, result, bias)


@lowers("conv_transpose")
def _conv_transpose(
    a: Any,
    x: Value,
    weight: Value,
    strides: Value,
    dilations: Value,
    groups: Value,
    pad_type: str,
    pad: Value = None,
    bias: Value = None,
) -> Value:
    spatial, steps = rank(x) - 2, _known(strides)
    if spatial != 2 or pad_type not in ("custom", "valid"):
        raise ValueError("it is not along two axes, or pads by itself")
    none = [0] * spatial
    full = a.conv_transpose2d(
        x,
        weight,
        _unsigned(steps),
        _unsigned(none),
        _unsigned(_known(dilations)),
        _unsigned(none),
        np.array(int(groups), np.uint32),
    )
    amounts = _known(pad) if pad is not None else [0] * 4
    begins, ends = amounts[::2], amounts[1::2]
    cut = a.slice_(
        full,
        _signed([0, 0, *begins]),
        _signed([_FAR, _FAR, *(-end if end else _FAR for end in ends)]),
        _signed([1] * 4),
    )
    return _with_bias(a, cut, bias)


@lowers("max_pool")
def _max_pool(
    a: Any,
    x: Value,
    kernel_sizes: Value,
    strides: Value,
    pad_type: str,
    pad: Value = None,
    ceil_mode: bool = False,
) -> Value:
    kernel, steps = _known(kernel_sizes), _known(strides)
    _require_plane(kernel)
    pairs = _pooled_pairs(x, kernel, steps, pad_type, pad, ceil_mode)
    padded = _padded(a, x, pairs, -np.inf)
    counts = [
        (size + sum(pair) - width) // step + 1
        for size, pair, width, step in zip(sizes(x)[2:], pairs, kernel, steps, strict=True)
    ]
    output = a.TensorType([*sizes(x)[:2], *counts], x.type.dtype)
    ones = _unsigned([1] * len(kernel))
    return a.maxpool2d(output, padded, _unsigned(kernel), _unsigned(steps), ones, np.array(False))


@lowers("avg_pool")
def _avg_pool(
    a: Any,
    x: Value,
    kernel_sizes: Value,
    strides: Value,
    pad_type: str,
    exclude_padding_from_average: bool,
    pad: Value = None,
    ceil_mode: bool = False,
) -> Value:
    kernel, steps = _known(kernel_sizes), _known(strides)
    _require_plane(kernel)
    pairs = _pooled_pairs(x, kernel, steps, pad_type, pad, ceil_mode)
    ones = constant(_unsigned([1] * len(kernel)))
    total = a.sumpool2d(_padded(a, x, pairs, 0.0), _unsigned(kernel), _unsigned(steps), ones)
    stated = _pooled_pairs(x, kernel, steps, pad_type, pad, ceil_mode=False)
    counted = [(0, 0)] * len(kernel) if exclude_padding_from_average else stated
    return a.broadcasting_divide(total, _counts(x, kernel, steps, pairs, counted))


def _counts(
    x: Value,
    kernel: Sequence[int],
    steps: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    counted: Sequence[tuple[int, int]],
) -> Any:
    """How many values each average is of. counted: padding that counts like values."""
    totals: Any = np.ones((), np.float64)
    for size, width, step, pair, own in zip(
        sizes(x)[2:], kernel, steps, pairs, counted, strict=True
    ):
        line = np.zeros(size + sum(pair))
        line[pair[0] - own[0] : pair[0] + size + own[1]] = 1
        starts = range(0, len(line) - width + 1, step)
        along = np.array([line[start : start + width].sum() for start in starts])
        totals = np.multiply.outer(totals, along)
    return totals[None, None].astype(_numpy(x))


def _require_plane(kernel: Sequence[int]) -> None:
    if len(kernel) != 2:
        raise ValueError("it pools along another number of axes than two")


def _pooled_pairs(
    x: Value,
    kernel: Sequence[int],
    steps: Sequence[int],
    pad_type: str,
    pad: Value,
    ceil_mode: bool,
) -> list[tuple[int, int]]:
    """Padding of each axis; with `ceil_mode`, enough for a last window that is not full."""
    pairs = _pairs(x, kernel, steps, pad_type, pad)
    if any(size < 0 for size in sizes(x)[2:]):
        raise ValueError("the size of its image depends on the input")
    if not ceil_mode:
        return pairs
    whole = []
    for (begin, end), size, width, step in zip(pairs, sizes(x)[2:], kernel, steps, strict=True):
        windows = -(-(size + begin + end - width) // step)
        if windows * step >= size + begin:  # it would begin in the padding
            windows -= 1
        whole.append((begin, max(end, windows * step + width - size - begin)))
    return whole


def _pairs(
    x: Value, kernel: Sequence[int], steps: Sequence[int], pad_type: str, pad: Value
) -> list[tuple[int, int]]:
    """Padding before and after each axis of an image."""
    if pad_type == "valid" or (pad_type == "custom" and pad is None):
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        amounts = _known(pad)
        return list(zip(amounts[::2], amounts[1::2], strict=True))
    pairs = []
    for size, width, step in zip(sizes(x)[2:], kernel, steps, strict=True):
        if size < 0:
            raise ValueError("the size of its image depends on the input")
        total = max((-(-size // step) - 1) * step + width - size, 0)
        less, more = total // 2, total - total // 2
        pairs.append((less, more) if pad_type == "same" else (more, less))
    return pairs


def _padded(a: Any, x: Value, pairs: Sequence[tuple[int, int]], fill: float) -> Value:
    if not any(map(any, pairs)):
        return x
    amounts = [0, 0, 0, 0, *(amount for pair in pairs for amount in pair)]
    return a.pad(x, _unsigned(amounts), _like(x, fill), "constant")


def _with_bias(a: Any, x: Value, bias: Value) -> Value:
    if bias is None:
        return x
    return a.broadcasting_add(x, a.reshape(bias, _signed([1, -1, *[1] * (rank(x) - 2)])))
