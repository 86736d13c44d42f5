"""Convolutions and pooling against PyTorch, over shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the build side is not installed")

import torch

from edgeq.formats.coreml.executor.operators import OPERATORS
from tests.support.properties import examples

F = torch.nn.functional
CHEAP = examples(60)


def pads(sides: list[int]) -> np.ndarray:
    return np.repeat(np.array(sides, np.int32), 2)


@CHEAP
@given(
    rank=st.integers(1, 3),
    groups=st.integers(1, 3),
    inputs=st.integers(1, 2),
    outputs=st.integers(1, 2),
    data=st.data(),
)
def test_convolution(
    rank: int, groups: int, inputs: int, outputs: int, data: st.DataObject
) -> None:
    each = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, strides, dilations = (data.draw(each) for _ in range(3))
    sides = data.draw(st.lists(st.integers(0, 2), min_size=rank, max_size=rank))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    x = rng.normal(size=(2, groups * inputs, *([7] * rank))).astype(np.float32)
    weight = rng.normal(size=(groups * outputs, inputs, *kernel)).astype(np.float32)
    bias = rng.normal(size=groups * outputs).astype(np.float32)
    function = [F.conv1d, F.conv2d, F.conv3d][rank - 1]
    want = function(*map(torch.from_numpy, (x, weight, bias)), strides, sides, dilations, groups)
    got = OPERATORS["conv"](
        x, weight, bias, np.array(strides), "custom", pads(sides), np.array(dilations), groups
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@CHEAP
@given(rank=st.integers(1, 3), groups=st.integers(1, 2), data=st.data())
def test_transposed_convolution(rank: int, groups: int, data: st.DataObject) -> None:
    each = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, strides, dilations = (data.draw(each) for _ in range(3))
    reach = [(k - 1) * gap for k, gap in zip(kernel, dilations, strict=True)]
    sides = [min(data.draw(st.integers(0, 2)), far) for far in reach]
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    x = rng.normal(size=(2, 2 * groups, *([5] * rank))).astype(np.float32)
    weight = rng.normal(size=(2 * groups, 3, *kernel)).astype(np.float32)
    bias = rng.normal(size=3 * groups).astype(np.float32)
    function = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][rank - 1]
    given = map(torch.from_numpy, (x, weight, bias))
    want = function(*given, strides, sides, 0, groups, dilations)
    got = OPERATORS["conv_transpose"](
        x, weight, bias, pads(sides), None, "custom", np.array(strides), np.array(dilations), groups
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "length"), [(3, 1, 8), (4, 1, 8), (5, 2, 8), (2, 3, 7)]
)
def test_same_padding_keeps_the_length(kernel: int, stride: int, length: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2, length)).astype(np.float32)
    weight = rng.normal(size=(3, 2, kernel)).astype(np.float32)
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    for kind, before in (("same", total // 2), ("same_lower", total - total // 2)):
        padded = F.pad(torch.from_numpy(x), (before, total - before))
        want = F.conv1d(padded, torch.from_numpy(weight), stride=stride)
        got = OPERATORS["conv"](x, weight, strides=np.array([stride]), pad_type=kind)
        assert got.shape[-1] == -(-length // stride)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@CHEAP
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    ceil=st.booleans(),
    excluded=st.booleans(),
    data=st.data(),
)
def test_pooling(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int],
    ceil: bool,
    excluded: bool,
    data: st.DataObject,
) -> None:
    sides = [data.draw(st.integers(0, k // 2)) for k in kernel]
    assume(all(n + 2 * p >= k for n, p, k in zip(size, sides, kernel, strict=True)))
    x = np.random.default_rng(0).normal(size=(1, 2, *size)).astype(np.float32)
    shared = (x, np.array(kernel), np.array(stride), "custom", pads(sides))
    want = F.max_pool2d(torch.from_numpy(x), kernel, stride, sides, ceil_mode=ceil)
    np.testing.assert_array_equal(OPERATORS["max_pool"](*shared, ceil_mode=ceil), want)
    want = F.avg_pool2d(torch.from_numpy(x), kernel, stride, sides, ceil, not excluded)
    got = OPERATORS["avg_pool"](*shared, exclude_padding_from_average=excluded, ceil_mode=ceil)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
