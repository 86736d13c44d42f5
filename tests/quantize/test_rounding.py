"""Codes for any grid: descent never makes them worse, and what is no gain is not taken."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.methods.gptq import feed_errors
from edgeq.quantize.methods.objective import Moments, MomentSums, objective
from edgeq.quantize.methods.refine import refine
from edgeq.quantize.methods.rounding import Seen, round_judged, round_tensor
from edgeq.quantize.number_formats.groups import INT8, Grid
from edgeq.quantize.number_formats.kquants import GGUF_GRIDS

pytest.importorskip("xllamacpp")
ALL = pytest.mark.parametrize("grid", GGUF_GRIDS.values(), ids=list(GGUF_GRIDS))


def inputs(rows: int, columns: int, seed: int) -> np.ndarray:
    """Correlated, as a layer's are, by a mixture that is the same for every seed."""
    mixing = np.random.default_rng(0).standard_normal((columns, columns))
    mixing *= np.linspace(2, 0.05, columns)[:, None]
    chosen = np.random.default_rng(seed)
    return (chosen.standard_normal((rows, columns)) @ mixing).astype(np.float32)


def moments(seen: np.ndarray, wanted: np.ndarray | None = None) -> Moments:
    sums = MomentSums()
    sums.add(seen if wanted is None else wanted, seen)
    found = sums.result()
    assert found is not None
    return found.as_if_whole() if wanted is None else found


def weights(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(9).standard_normal((rows, columns)).astype(np.float32)


def output_error(rounded: np.ndarray, weight: np.ndarray, x: np.ndarray) -> float:
    return float(np.square(x @ (rounded - weight).T).mean())


@ALL
def test_gptq_beats_the_librarys_weighted_search_on_unseen_inputs(grid: Grid) -> None:
    weight, unseen = weights(24, 256), inputs(512, 256, 3)
    seen = moments(inputs(4096, 256, 1))
    errors = [
        output_error(round_tensor(weight, seen, grid, method).dequantize(), weight, unseen)
        for method in ("importance", "gptq")
    ]
    assert errors[1] < 0.7 * errors[0]


@ALL
def test_descent_never_makes_the_objective_larger(grid: Grid) -> None:
    weight = weights(16, 512)
    target = objective(weight, moments(inputs(2048, 512, 2)), 0.1)

    def loss(codes: np.ndarray, scales: np.ndarray) -> float:
        left = weight - grid.decode(codes, scales)
        return float(((left @ target.hessian) * left).sum())

    scales = round_tensor(weight, None, grid, "nearest").scales
    codes = feed_errors(target, grid, scales)
    before = loss(codes, scales)
    for _ in range(2):
        codes, scales = refine(target, grid, codes, scales, sweeps=1)
        assert loss(codes, scales) <= before * (1 + 1e-4)
        before = loss(codes, scales)
    assert codes.min() >= grid.lowest
    assert codes.max() <= grid.highest


@ALL
def test_refined_numbers_are_what_a_file_can_hold(grid: Grid) -> None:
    from edgeq.quantize.ggml.blocks import STORED_AS, pack_codes, unpack_codes

    tensor = round_tensor(weights(8, 256), moments(inputs(512, 256, 5)), grid, "gptq")
    back = unpack_codes(pack_codes(tensor), STORED_AS[grid.name], "gptq")
    assert np.array_equal(back.dequantize(), tensor.dequantize())


def test_codes_make_up_for_what_the_layers_before_lost() -> None:
    """Where inputs have drifted, the float output on the float inputs is what counts."""
    grid, weight = GGUF_GRIDS["Q4_0"], weights(24, 128)
    drift = np.eye(128, dtype=np.float32) + 0.05 * weights(128, 128) / np.sqrt(128)

    def after(x: np.ndarray) -> np.ndarray:
        return x @ drift

    taught, unseen = inputs(4096, 128, 1), inputs(512, 128, 3)
    aware = round_tensor(weight, moments(after(taught), taught), grid, "gptq")
    unaware = round_tensor(weight, moments(after(taught)), grid, "gptq")

    def error(rounded: np.ndarray) -> float:
        return float(np.square(after(unseen) @ rounded.T - unseen @ weight.T).mean())

    assert error(aware.dequantize()) < 0.5 * error(unaware.dequantize())


@pytest.mark.parametrize("method", ["gptq", "importance"])
@pytest.mark.parametrize("grid", [GGUF_GRIDS["Q4_0"], GGUF_GRIDS["Q3_K"], INT8])
def test_what_is_worse_on_held_back_inputs_falls_back(grid: Grid, method: str) -> None:
    """Calibration that shows one direction alone says nothing of the inputs to come."""
    weight = weights(24, 256)
    direction = np.full((1, 256), 0.01, np.float32)
    direction[0, 0] = 10
    misled = np.random.default_rng(1).standard_normal((64, 1)).astype(np.float32) * direction
    judged = moments(np.random.default_rng(2).standard_normal((512, 256)).astype(np.float32))
    found = round_judged(weight, Seen(moments(misled), judged), grid, method)
    plain = round_tensor(weight, None, grid, "nearest")
    assert judged.error(weight, found.dequantize()) <= judged.error(weight, plain.dequantize())
    if grid is GGUF_GRIDS["Q4_0"]:
        assert found.method == "nearest"
    seen = moments(inputs(4096, 256, 1))
    assert round_judged(weight, Seen(seen, seen), grid, "gptq").method == "gptq"
