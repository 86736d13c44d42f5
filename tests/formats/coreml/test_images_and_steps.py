"""Operators of images and recurrent layers in numpy, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")

import torch

from edgeq.formats.coreml.executor.operators import OPERATORS
from edgeq.formats.coreml.executor.types import Array
from tests.support.executor_checks import ints, near, t

F = torch.nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32) * 2
Y = RNG.normal(size=(3, 4)).astype(np.float32)


def test_images_in_other_sizes() -> None:
    image = RNG.normal(size=(2, 3, 5, 4)).astype(np.float32)
    x = t(image)
    for aligned in (False, True):
        want = F.interpolate(x, (10, 12), mode="bilinear", align_corners=aligned)
        mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS"
        sizes = {"target_size_height": 10, "target_size_width": 12}
        near("resize_bilinear", want, x=image, sampling_mode=mode, **sizes)
        factors = {"scale_factor_height": 2, "scale_factor_width": np.float32(3)}
        near("upsample_bilinear", want, x=image, align_corners=aligned, **factors)
        near("resize", want, x=image, shape=ints(0, 10, 12), resized_dims=2, sampling_mode=mode)
    want = F.interpolate(x, (10, 12))
    near("upsample_nearest_neighbor", want, x=image, scale_factor_height=2, scale_factor_width=3)
    near("resize_nearest_neighbor", want, x=image, target_size_height=10, target_size_width=12)
    parts = {"crop_height": ints(1, 2), "crop_width": ints(0, 1)}
    near("crop", x[..., 1:3, :3], x=image, **parts)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("how", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["constant", "border", "reflection"])
def test_values_between_pixels(aligned: bool, how: str, padding: str) -> None:
    image = RNG.normal(size=(2, 3, 5, 4)).astype(np.float32)
    places = RNG.uniform(-1.6, 1.6, (2, 6, 7, 2)).astype(np.float32)
    word = {"constant": "zeros"}.get(padding, padding)
    want = F.grid_sample(t(image), t(places), how, word, aligned)
    ours = "symmetric" if padding == "reflection" and not aligned else padding
    got = OPERATORS["resample"](
        image, places, how, ours, 0.0, "normalized_minus_one_to_one", aligned
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    if how == "bilinear" and padding == "constant" and aligned:
        matrix = RNG.normal(size=(2, 6)).astype(np.float32)
        grid = F.affine_grid(t(matrix.reshape(2, 2, 3)), [2, 3, 6, 7], align_corners=True)
        want = F.grid_sample(t(image), grid, align_corners=True)
        rest = (how, ours, 0.0, "normalized_minus_one_to_one", aligned)
        got = OPERATORS["affine"](image, matrix, 6, 7, *rest)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_blocks_and_windows() -> None:
    image = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
    near("pixel_unshuffle", F.pixel_unshuffle(t(image), 2), x=image, downscale_factor=2)
    deep = OPERATORS["space_to_depth"](image, 2)
    # The place in a square is the slowest channel, and the fastest in torch.
    want = (
        F.pixel_unshuffle(t(image), 2).reshape(2, 3, 4, 2, 3).transpose(1, 2).reshape(2, 12, 2, 3)
    )
    np.testing.assert_array_equal(deep, want)
    np.testing.assert_array_equal(OPERATORS["depth_to_space"](deep, 2), image)
    parts = OPERATORS["space_to_batch"](image, ints(2, 3), np.zeros((2, 2), np.int32))
    np.testing.assert_array_equal(parts[4 * 2 : 5 * 2], image[:, :, 1::2, 1::3])
    back = OPERATORS["batch_to_space"](parts, ints(2, 3), np.zeros((2, 2), np.int32))
    np.testing.assert_array_equal(back, image)
    near("sliding_windows", t(X).unfold(2, 2, 2).movedim(-1, 3), x=X, axis=2, size=2, stride=2)
    turned = OPERATORS["reverse_sequence"](X, ints(2, 4), 2, 0)
    np.testing.assert_array_equal(turned[0], X[0][:, [1, 0, 2, 3]])
    np.testing.assert_array_equal(turned[1], X[1][:, ::-1])
    shaped = OPERATORS["reshape_like"](X, [X, Y], [0, 0], [1, 0], [False, True])
    assert shaped.shape == (2, 3, 4)
    near(
        "local_response_norm",
        F.local_response_norm(t(X), 3, 0.5, 0.75, 2),
        x=X,
        size=3,
        alpha=0.5,
        k=2,
    )
    want = F.lp_pool2d(t(image), 2.0, 2)
    near("l2_pool", want, x=image, kernel_sizes=ints(2, 2), strides=ints(2, 2))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_layers(direction: str) -> None:
    ways = 1 + (direction == "bidirectional")
    steps = RNG.normal(size=(5, 2, 4)).astype(np.float32)
    layer = torch.nn.LSTM(4, 3, bidirectional=ways == 2)
    state, cell = (RNG.normal(size=(ways, 2, 3)).astype(np.float32) for _ in range(2))
    with torch.no_grad():
        want, (last, memory) = layer(t(steps), (t(state), t(cell)))

    def ours(name: str) -> Array:
        """The output gate comes before the cell's."""
        gates = getattr(layer, name).detach().numpy().reshape(4, 3, -1)
        return np.asarray(gates[[0, 1, 3, 2]].reshape(12, -1))

    given: dict[str, Array] = {}
    for way, end in (("", ""), ("_reverse", "_back"))[:ways]:
        given |= {
            f"weight_ih{end}": ours(f"weight_ih_l0{way}"),
            f"weight_hh{end}": ours(f"weight_hh_l0{way}"),
            f"bias{end}": ours(f"bias_ih_l0{way}")[:, 0] + ours(f"bias_hh_l0{way}")[:, 0],
        }
    first = {"initial_h": np.concatenate(state, -1), "initial_c": np.concatenate(cell, -1)}
    found = OPERATORS["lstm"](x=steps, **first, **given, direction=direction, output_sequence=True)
    np.testing.assert_allclose(found[0], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], np.concatenate(last.numpy(), -1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[2], np.concatenate(memory.numpy(), -1), rtol=1e-4, atol=1e-5)


def test_recurrent_layers_of_one_state() -> None:
    steps = RNG.normal(size=(5, 2, 4)).astype(np.float32)
    state = RNG.normal(size=(1, 2, 3)).astype(np.float32)
    for kind, layer, order in (
        ("rnn", torch.nn.RNN(4, 3), [0]),
        ("gru", torch.nn.GRU(4, 3), [0, 2, 1]),
    ):
        torch.nn.init.zeros_(layer.bias_hh_l0)  # Core ML's GRU has none inside its reset
        with torch.no_grad():
            want, last = layer(t(steps), t(state))
        parts = [
            each.detach().numpy().reshape(len(order), 3, -1)[order].reshape(3 * len(order), -1)
            for each in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0)
        ]
        found = OPERATORS[kind](steps, state[0], *parts[:2], parts[2][:, 0], output_sequence=True)
        np.testing.assert_allclose(found[0], want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[1], last[0], rtol=1e-4, atol=1e-5)
