"""GPTQ changes a layer's output less than rounding to nearest, on the same grid and bytes."""

import numpy as np
import pytest

from edgeq.quantize.methods import Statistics
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.integers import INT4_B32, INTEGERS, IntegerFormat


def gptq(weight: np.ndarray, hessian: np.ndarray, grid: IntegerFormat) -> QuantizedTensor:
    return GPTQ.round(weight, Statistics.of(Moments(hessian)), grid)


def correlated_inputs(rows: int, columns: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((columns, columns)) * np.linspace(2, 0.05, columns)[:, None]
    return (generator.standard_normal((rows, columns)) @ mixing).astype(np.float32)


@pytest.mark.parametrize("grid", INTEGERS, ids=lambda each: each.name)
def test_output_error_on_unseen_inputs_is_less_than_nearest(grid: IntegerFormat) -> None:
    inputs, unseen = (correlated_inputs(2048, 96, 0)[part::2] for part in (0, 1))
    weight = np.random.default_rng(2).standard_normal((48, 96)).astype(np.float32)
    hessian = inputs.T.astype(np.float64) @ inputs / len(inputs)
    wanted = unseen @ weight.T

    def output_error(dequantized: np.ndarray) -> float:
        return float(np.square(unseen @ dequantized.T - wanted).sum())

    nearest = output_error(NEAREST.round(weight, None, grid).dequantize())
    assert output_error(gptq(weight, hessian, grid).dequantize()) < 0.8 * nearest


def test_independent_equal_inputs_leave_nothing_to_make_up_for() -> None:
    weight = np.random.default_rng(3).standard_normal((16, 64)).astype(np.float32)
    tensor = gptq(weight, np.eye(64), INT4_B32)
    assert np.array_equal(tensor.codes, INT4_B32.encode(weight, tensor.scales))


def test_dead_inputs_do_not_break_it() -> None:
    weight = np.random.default_rng(4).standard_normal((16, 64)).astype(np.float32)
    for hessian in (np.zeros((64, 64)), np.diag([1.0] * 32 + [0.0] * 32)):
        assert np.isfinite(gptq(weight, hessian, INT4_B32).dequantize()).all()
