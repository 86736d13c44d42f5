"""Each operator in numpy against PyTorch, and the registry against coremltools' own list."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")

import torch

from edgeq.formats.coreml.executor.compiled import CONTROL
from edgeq.formats.coreml.executor.operators import OPERATORS
from edgeq.formats.coreml.executor.types import Array
from tests.support.coreml_models import coremltools
from tests.support.executor_checks import ints, near, t
from tests.support.properties import examples

F = torch.nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32) * 2
Y = RNG.normal(size=(3, 4)).astype(np.float32)
UNIT = (np.tanh(X) * 0.99).astype(np.float32)
ABOVE = np.abs(X) + np.float32(0.5)
# No file has them: a placeholder while a program is built, and an experimental layer
# that only the older format writes.
WITHOUT_A_FILE = {"_const_symbolic", "conv_quantized"}
SMALL, LARGE = np.float32(0.25), np.float32(1.5)
INTEGERS = RNG.integers(-9, 9, (2, 3, 4)).astype(np.int32)


SAME_NAME = (
    "abs ceil cos erf exp exp2 floor round sigmoid sign sin sinh sqrt square tan tanh cosh atan"
)
UNARY: dict[str, tuple[Array, Callable[..., Any]]] = {
    **{n: (ABOVE if n == "sqrt" else X, getattr(torch, n)) for n in SAME_NAME.split()},
    "acos": (UNIT, torch.acos),
    "asin": (UNIT, torch.asin),
    "atanh": (UNIT, torch.atanh),
    "relu": (X, torch.relu),
    "relu6": (X * 5, F.relu6),
    "silu": (X, F.silu),
    "softplus": (X * 10, F.softplus),
    "softsign": (X, F.softsign),
    "logical_not": (X > 0, torch.logical_not),
    "identity": (X, lambda x: x),
}


@pytest.mark.parametrize("name", UNARY)
def test_of_one_input(name: str) -> None:
    x, function = UNARY[name]
    near(name, function(t(x)), x=x)


@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])
def test_gelu(mode: str) -> None:
    x = t(X)
    want = {
        "EXACT": F.gelu(x),
        "TANH_APPROXIMATION": F.gelu(x, approximate="tanh"),
        "SIGMOID_APPROXIMATION": x * torch.sigmoid(1.702 * x),
    }[mode]
    near("gelu", want, x=X, mode=mode)


def test_erf_is_exact_to_float32_everywhere() -> None:
    x = np.concatenate([np.linspace(-6, 6, 200_001), np.logspace(-30, 1, 1000)]).astype(np.float32)
    want = torch.erf(torch.from_numpy(x).double()).numpy()
    got = OPERATORS["erf"](x)
    assert np.abs(got - want).max() < 1.2e-7
    relative = np.abs(got[want != 0] / want[want != 0] - 1)
    assert relative.max() < 3e-7
    special = OPERATORS["erf"](np.array([np.inf, -np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(special, [1, -1, np.nan])


BINARY: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.div,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
}


@pytest.mark.parametrize("name", BINARY)
def test_of_two_inputs(name: str) -> None:
    near(name, BINARY[name](t(X), t(Y)), x=X, y=Y)
    if name not in ("real_div", "floor_div", "mod"):
        near(name, BINARY[name](t(INTEGERS), t(INTEGERS[::-1])), x=INTEGERS, y=INTEGERS[::-1])


def test_of_more_inputs() -> None:
    a, b = X > 0, RNG.random((3, 4)) > 0.5
    for name in ("and", "or", "xor"):
        near(f"logical_{name}", getattr(torch, f"logical_{name}")(t(a), t(b)), x=a, y=b)
    near("pow", torch.pow(t(ABOVE), t(Y)), x=ABOVE, y=Y)
    near("clip", torch.clamp(t(X), -0.25, 1.5), x=X, alpha=-SMALL, beta=LARGE)
    near("threshold", torch.clamp(t(X), min=0.25), x=X, alpha=SMALL)
    near("inverse", 1 / (t(ABOVE) + 1e-4), x=ABOVE)
    near("log", torch.log(t(ABOVE) + 0.25), x=ABOVE, epsilon=SMALL)
    near("rsqrt", torch.rsqrt(t(ABOVE) + 0.25), x=ABOVE, epsilon=SMALL)
    near("select", torch.where(t(a), t(X), t(Y)), cond=a, a=X, b=Y)
    near("cast", t(X), x=X, dtype="fp32")


def test_activations_with_parameters() -> None:
    x = t(X)
    slopes = np.array([0.1, 0.2, 0.3], np.float32)
    near("leaky_relu", F.leaky_relu(x, 0.25), x=X, alpha=SMALL)
    near("prelu", F.prelu(x, t(slopes)), x=X, alpha=slopes)
    near("elu", F.elu(x, 1.5), x=X, alpha=LARGE)
    near("thresholded_relu", F.threshold(x, 0.25, 0.0), x=X, alpha=SMALL)
    near("clamped_relu", F.leaky_relu(x, 0.25).clamp(max=1.5), x=X, alpha=SMALL, beta=LARGE)
    near("sigmoid_hard", (x * 0.25 + 0.5).clamp(0, 1), x=X, alpha=SMALL, beta=np.float32(0.5))
    near("linear_activation", x * 0.25 + 1.5, x=X, alpha=SMALL, beta=LARGE)
    soft = t(slopes)[:, None] * F.softplus(x * t(slopes * 9)[:, None])
    near("softplus_parametric", soft, x=X, alpha=slopes, beta=slopes * 9)
    near("scaled_tanh", 0.25 * torch.tanh(1.5 * x), x=X, alpha=SMALL, beta=LARGE)


def test_products() -> None:
    weight = RNG.normal(size=(5, 4)).astype(np.float32)
    bias = RNG.normal(size=5).astype(np.float32)
    near("linear", F.linear(t(X), t(weight), t(bias)), x=X, weight=weight, bias=bias)
    near("linear", F.linear(t(X[0, 0]), t(weight)), x=X[0, 0], weight=weight)
    other = RNG.normal(size=(2, 4, 5)).astype(np.float32)
    near("matmul", t(X) @ t(other), x=X, y=other)
    near("matmul", t(X) @ t(weight).T, x=X, y=weight, transpose_y=True)
    near("matmul", t(X).mT @ t(X), x=X, y=X, transpose_x=True)
    want = torch.einsum("nij,njk->nik", t(X), t(other))
    near("einsum", want, values=[X, other], equation="nij,njk->nik")


def test_normalisations() -> None:
    x = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    gamma, beta = (RNG.normal(size=3).astype(np.float32) for _ in range(2))
    mean, variance = RNG.normal(size=3).astype(np.float32), np.array([0.5, 1, 2], np.float32)
    want = F.batch_norm(t(x), t(mean), t(variance), t(gamma), t(beta), eps=1e-3)
    near(
        "batch_norm", want, x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=1e-3
    )
    near(
        "instance_norm",
        F.instance_norm(t(x), weight=t(gamma), bias=t(beta)),
        x=x,
        gamma=gamma,
        beta=beta,
    )
    wide = RNG.normal(size=(4, 5)).astype(np.float32)
    near("layer_norm", F.layer_norm(t(x), (4, 5), t(wide)), x=x, axes=ints(-2, -1), gamma=wide)
    near("layer_norm", F.layer_norm(t(x), x.shape), x=x)
    # Channels first: an axis that is not the last.
    want = F.layer_norm(t(x).movedim(1, -1), (3,), t(gamma), t(beta)).movedim(-1, 1)
    near("layer_norm", want, x=x, axes=ints(1), gamma=gamma, beta=beta)
    near("softmax", torch.softmax(t(x) * 30, 1), x=x * 30, axis=1)
    near("l2_norm", t(x) / (t(x).square().sum((1, 2, 3), keepdim=True) + 1e-6).sqrt(), x=x)


@pytest.mark.parametrize("mask", ["none", "float", "bool"])
def test_attention(mask: str) -> None:
    q, k, v = (t(RNG.normal(size=(2, 3, n, 8)).astype(np.float32)) for n in (4, 6, 6))
    keep = torch.from_numpy(RNG.random((2, 1, 4, 6)) > 0.3)
    keep[..., 0] = True
    given = {"none": None, "float": torch.randn(4, 6), "bool": keep}[mask]
    want = F.scaled_dot_product_attention(q, k, v, given)
    array = None if given is None else given.numpy()
    near(
        "scaled_dot_product_attention",
        want,
        query=q.numpy(),
        key=k.numpy(),
        value=v.numpy(),
        attn_mask=array,
    )


def test_reductions() -> None:
    x, over = t(ABOVE), (0, 2)
    wants = {
        "mean": x.mean(over),
        "sum": x.sum(over),
        "max": x.amax(over),
        "min": x.amin(over),
        "prod": x.prod(0).prod(1),
        "l1_norm": x.abs().sum(over),
        "l2_norm": x.square().sum(over).sqrt(),
        "sum_square": x.square().sum(over),
        "log_sum": x.sum(over).log(),
        "log_sum_exp": x.logsumexp(over),
    }
    for name, want in wants.items():
        got = OPERATORS[f"reduce_{name}"](ABOVE, axes=ints(0, -1))
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-5)
        kept = OPERATORS[f"reduce_{name}"](ABOVE, axes=ints(0, -1), keep_dims=np.bool_(True))
        assert kept.shape == (1, 3, 1)
    near("reduce_sum", t(INTEGERS).sum().int(), x=INTEGERS)
    near("reduce_argmax", t(X).argmax(1), x=X, axis=1)
    near("reduce_argmin", t(X).argmin(1, keepdim=True), x=X, axis=1, keep_dims=True)
    near("cumsum", t(X).cumsum(1), x=X, axis=1)
    near("cumsum", t(X).flip(1).cumsum(1).flip(1), x=X, axis=1, reverse=True)
    near("cumsum", t(X).cumsum(2) - t(X), x=X, axis=2, exclusive=True)


def test_quantized_activations() -> None:
    scale, zero = np.array([0.1, 0.2, 0.01], np.float32), ints(0, 3, -2)
    codes = OPERATORS["quantize"](X, scale, "int8", zero, 1)
    assert codes.min() == -128 and codes.max() == 127  # the last scale reaches to 1.29
    want = torch.fake_quantize_per_channel_affine(t(X), t(scale), t(zero), 1, -128, 127)
    near("dequantize", want, input=codes, scale=scale, zero_point=zero, axis=1)
    step = np.float32(0.05)
    codes = OPERATORS["quantize"](X, step, "uint8", np.uint8(128))
    want = torch.fake_quantize_per_tensor_affine(t(X), 0.05, 128, 0, 255)
    near("dequantize", want, input=codes, scale=step, zero_point=np.uint8(128))
    near("dequantize", t(codes) * 0.05, input=codes, scale=step)


@examples(50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_reading_and_writing_by_index(seed: int, axis: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    n = x.shape[axis]
    flat = rng.integers(-n, n, 6)
    near("gather", torch.index_select(t(x), axis, t(flat % n)), x=x, indices=flat, axis=axis)
    places = rng.integers(0, n, x.shape)
    near("gather_along_axis", torch.gather(t(x), axis, t(places)), x=x, indices=places, axis=axis)
    updates = rng.normal(size=x.shape).astype(np.float32)
    want = t(x).scatter_add(axis, t(places), t(updates))
    near("scatter_along_axis", want, data=x, indices=places, updates=updates, axis=axis, mode="add")
    shape = [6 if a == axis else length for a, length in enumerate(x.shape)]
    updates = rng.normal(size=shape).astype(np.float32)
    want = t(x).index_add(axis, t(flat % n), t(updates))
    near("scatter", want, data=x, indices=flat, updates=updates, axis=axis, mode="add")
    points = rng.integers(0, 2, (4, 2))
    near("gather_nd", t(x)[t(points[:, 0]), t(points[:, 1])], x=x, indices=points)
    updates = rng.normal(size=(4, 4, 5)).astype(np.float32)
    want = t(x).index_put((t(points[:, 0]), t(points[:, 1])), t(updates), accumulate=True)
    near("scatter_nd", want, data=x, indices=points, updates=updates, mode="add")


def test_indexing_with_batches_and_modes() -> None:
    indices = np.array([[1, 0], [2, 2]])
    want = torch.stack([t(X)[i][t(indices[i])] for i in range(2)])
    near("gather", want, x=X, indices=indices, axis=1, batch_dims=1)
    points = np.array([[[1, 0]], [[2, 3]]])
    want = torch.stack([t(X)[0, 1, 0], t(X)[1, 2, 3]])[:, None]
    near("gather_nd", want, x=X, indices=points, batch_dims=1)
    one = np.array([[0, 1, 2]])
    modes = {"update": 5.0, "sub": -3.0, "mul": 10.0, "div": 0.4, "max": 5.0, "min": 2.0}
    for mode, value in modes.items():
        data = np.full((1, 3, 4), 2, np.float32)
        got = OPERATORS["scatter_nd"](data, np.array([[0, 1, 3]]), np.array([5], np.float32), mode)
        assert got[0, 1, 3] == np.float32(value), mode
        assert data[0, 1, 3] == 2
    near(
        "one_hot",
        F.one_hot(t(one), 4) * 3 - 1,
        indices=one,
        one_hot_vector_size=4,
        on_value=2,
        off_value=-1,
    )
    near("non_zero", torch.nonzero(t(X) > 0), x=X > 0)


def test_sorting() -> None:
    x = INTEGERS.astype(np.float32)
    near("argsort", torch.argsort(t(x), dim=1, descending=True, stable=True), x=x, axis=1)
    near("argsort", torch.argsort(t(x), dim=2, stable=True), x=x, axis=2, ascending=True)
    values, places = OPERATORS["topk"](X, k=2, axis=1)
    want = torch.topk(t(X), 2, 1)
    np.testing.assert_array_equal(values, want.values)
    np.testing.assert_array_equal(places, want.indices)
    smallest = OPERATORS["topk"](X, k=2, axis=1, ascending=True, return_indices=False)
    np.testing.assert_array_equal(smallest, torch.topk(t(X), 2, 1, largest=False).values)


def test_shapes() -> None:
    x = t(X)
    near("reshape", x.reshape(2, 2, 6), x=X, shape=ints(0, 2, -1))
    near("transpose", x.permute(2, 0, 1), x=X, perm=ints(2, 0, 1))
    near("expand_dims", x[:, None, ..., None], x=X, axes=ints(1, -1))
    near("squeeze", x[:1].squeeze(0), x=X[:1], axes=ints(0))
    near("squeeze", x[:1, :, :1].squeeze(), x=X[:1, :, :1])
    near("flatten2d", x.reshape(6, 4), x=X, axis=2)
    near("concat", torch.cat([x, x + 1], 1), values=[X, X + 1], axis=1)
    near(
        "concat",
        torch.stack([x, x + 1], 2).reshape(2, 6, 4),
        values=[X, X + 1],
        axis=1,
        interleave=True,
    )
    near("concat", torch.tensor([1, 2]), values=[np.array(1), np.array(2)], axis=0)
    near("stack", torch.stack([x, x + 1], -1), values=[X, X + 1], axis=-1)
    near("tile", x.repeat(1, 2, 3), x=X, reps=ints(1, 2, 3))
    near("reverse", x.flip(0, 2), x=X, axes=ints(0, 2))
    near("shape", torch.tensor(x.shape), x=X)
    near("fill", torch.full((2, 3), 1.5), shape=ints(2, 3), value=LARGE)
    near("fill_like", torch.full_like(x, 1.5), ref_tensor=X, value=LARGE)
    near("range_1d", torch.arange(1, 8, 3), end=np.int32(8), start=np.int32(1), step=np.int32(3))
    near("band_part", x.triu(-1).tril(2), x=X, lower=1, upper=2)
    near("band_part", x.tril(), x=X, lower=-1, upper=0)
    image = RNG.normal(size=(2, 8, 3, 3)).astype(np.float32)
    near("pixel_shuffle", F.pixel_shuffle(t(image), 2), x=image, upscale_factor=2)
    for parts in ({"num_splits": 2}, {"split_sizes": ints(1, 3)}):
        want = torch.split(x, 2 if "num_splits" in parts else [1, 3], 2)
        for part, expected in zip(OPERATORS["split"](X, axis=2, **parts), want, strict=True):
            np.testing.assert_array_equal(part, expected)


def test_padding() -> None:
    sides = ints(1, 2, 0, 1)
    near("pad", F.pad(t(X), (0, 1, 1, 2), value=1.5), x=X, pad=sides, constant_val=LARGE)
    near("pad", F.pad(t(X), (1, 2), mode="reflect"), x=X, pad=sides[:2], mode="reflect")
    near("pad", F.pad(t(X), (1, 2), mode="replicate"), x=X, pad=sides[:2], mode="replicate")


INDEX = st.tuples(
    st.integers(-4, 3), st.integers(-4, 4), st.sampled_from([1, 2, -1]), *[st.booleans()] * 3
)


@given(st.lists(INDEX, min_size=3, max_size=3))
def test_slices_are_those_of_python(axes: list[tuple[int, int, int, bool, bool, bool]]) -> None:
    x = np.arange(4**3, dtype=np.float32).reshape(4, 4, 4)
    columns = (np.array(column) for column in zip(*axes, strict=True))
    begin, end, stride, no_begin, no_end, squeezed = columns
    python: list[Any] = [
        (0 if nb else b) if sq else slice(None if nb else b, None if ne else e, s)
        for b, e, s, nb, ne, sq in axes
    ]
    masks = {"begin_mask": no_begin, "end_mask": no_end, "squeeze_mask": squeezed}
    part = OPERATORS["slice_by_index"](x, begin, end, stride, **masks)
    np.testing.assert_array_equal(part, x[tuple(python)])
    if part.ndim:
        changed = OPERATORS["slice_update"](x, part + 100, begin, end, stride, **masks)
        want = x.copy()
        want[tuple(python)] += 100
        np.testing.assert_array_equal(changed, want)


def test_a_slice_takes_no_update_of_another_shape() -> None:
    """numpy would broadcast it without a word."""
    begin, end = ints(0, 0), ints(2, 2)
    with pytest.raises(ValueError, match="gets one of"):
        OPERATORS["slice_update"](np.zeros((4, 4)), np.ones((1, 2)), begin, end)


def test_slices_by_size() -> None:
    near(
        "slice_by_size",
        t(X)[1:, 1:3, 1:],
        x=X,
        begin=ints(1, 1, -3),
        size=ints(1, 2, -1),
    )


def test_every_operator_and_parameter_that_coremltools_may_write_is_taken() -> None:
    coremltools()
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    unknown = []
    for name, function in OPERATORS.items():
        ours = set(inspect.signature(function).parameters)
        versions = SSAOpRegistry.core_ops[name].values()
        theirs = {p for version in versions for p in version.input_spec.input_types}
        unknown += [f"{name}({p})" for p in theirs ^ ours]
    assert not unknown
    left = set(SSAOpRegistry.core_ops) - set(OPERATORS) - {*CONTROL, "const"}
    assert left == WITHOUT_A_FILE
    assert "read_state" in SSAOpRegistry.core_ops and "read_state" in CONTROL
