"""GPTQ changes a layer's output less than rounding to nearest, in the same number format."""

import numpy as np
import pytest

from edgeq.quantize.methods import Statistics
from edgeq.quantize.methods.gptq import GPTQ, best_aim
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.objective import Factors, Moments, objective
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.integers import INT4_B32, INTEGERS, IntegerFormat


def gptq(weight: np.ndarray, hessian: np.ndarray, number_format: IntegerFormat) -> QuantizedTensor:
    return GPTQ.round(weight, Statistics.of(Moments(hessian)), number_format)


def correlated_inputs(rows: int, columns: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((columns, columns)) * np.linspace(2, 0.05, columns)[:, None]
    return (generator.standard_normal((rows, columns)) @ mixing).astype(np.float32)


@pytest.mark.parametrize("number_format", INTEGERS, ids=lambda each: each.name)
def test_output_error_on_unseen_inputs_is_less_than_nearest(number_format: IntegerFormat) -> None:
    inputs, unseen = (correlated_inputs(2048, 96, 0)[part::2] for part in (0, 1))
    weight = np.random.default_rng(2).standard_normal((48, 96)).astype(np.float32)
    hessian = inputs.T.astype(np.float64) @ inputs / len(inputs)
    wanted = unseen @ weight.T

    def output_error(dequantized: np.ndarray) -> float:
        return float(np.square(unseen @ dequantized.T - wanted).sum())

    nearest = output_error(NEAREST.round(weight, None, number_format).dequantize())
    assert output_error(gptq(weight, hessian, number_format).dequantize()) < 0.8 * nearest


def test_independent_equal_inputs_leave_nothing_to_make_up_for() -> None:
    weight = np.random.default_rng(3).standard_normal((16, 64)).astype(np.float32)
    tensor = gptq(weight, np.eye(64), INT4_B32)
    assert np.array_equal(tensor.codes, INT4_B32.encode(weight, tensor.scales))


def test_dead_inputs_do_not_break_it() -> None:
    weight = np.random.default_rng(4).standard_normal((16, 64)).astype(np.float32)
    for hessian in (np.zeros((64, 64)), np.diag([1.0] * 32 + [0.0] * 32)):
        assert np.isfinite(gptq(weight, hessian, INT4_B32).dequantize()).all()


def test_the_inverse_that_weights_share_is_the_inverse() -> None:
    inputs = correlated_inputs(500, 96, 5)
    moments = Moments(inputs.T @ inputs / len(inputs))
    rows = np.random.default_rng(6).standard_normal((7, 96)).astype(np.float32)
    for damping in (0.1, 3.0):
        damped = moments.factors.damped(damping)
        assert damped is moments.of_rows(slice(3)).factors.damped(damping)
        wanted = np.linalg.solve(damped.hessian.astype(np.float64), rows.T).T
        np.testing.assert_allclose(damped.times_inverse(rows), wanted, rtol=1e-3, atol=1e-3)


def test_factors_beyond_their_room_are_made_again() -> None:
    factors = Factors(np.eye(32, dtype=np.float32), room=2 * 4 * 32 * 32)
    first, second = factors.damped(0.1), factors.damped(0.3)
    assert factors.damped(0.1) is first and factors.damped(1.0) is not second
    assert factors.damped(0.3) is not second


def test_rows_of_a_large_table_do_not_know_of_each_other() -> None:
    inputs = correlated_inputs(500, 32, 7)
    statistics = Statistics.of(Moments(inputs.T @ inputs / len(inputs)))
    weight = np.random.default_rng(8).standard_normal((20_000, 32)).astype(np.float32)
    whole = GPTQ.round(weight, statistics, INT4_B32)
    for rows in (slice(0, 100), slice(9_950, 10_050), slice(19_900, 20_000)):
        part = GPTQ.round(weight[rows], statistics, INT4_B32)
        assert np.array_equal(whole.codes[rows], part.codes)
        assert np.array_equal(whole.scales[rows], part.scales)


def test_the_damping_that_is_best_on_what_was_held_back_is_found() -> None:
    """Against every damping tried: noisy drift wants more of it, clean drift less."""
    weight = np.random.default_rng(9).standard_normal((64, 64)).astype(np.float32)
    for rows, noise in ((80, 0.5), (4000, 0.05)):
        fit, held = (_drifted(rows, noise, seed) for seed in (10, 11))
        aimed, damping = best_aim(weight, Statistics.of(fit, held))
        assert aimed.drift is not None
        error = held.judge(weight)
        errors = {d: error(objective(weight, fit, d).weight) for d in (0.1, 0.3, 1.0, 3.0)}
        assert damping == min(errors, key=lambda d: errors[d])


def _drifted(rows: int, noise: float, seed: int) -> Moments:
    wanted = correlated_inputs(rows, 64, 12 + seed)
    generator = np.random.default_rng(seed)
    mixing = np.eye(64) + 0.1 * np.random.default_rng(1).standard_normal((64, 64))
    seen = (wanted @ mixing + noise * generator.standard_normal(wanted.shape)).astype(np.float32)
    square, lost = seen.T @ seen / rows, (wanted - seen).T @ seen / rows
    return Moments(square.astype(np.float32), lost.astype(np.float32))
