"""Codes for any number_format: descent never makes them worse, and what is no gain is not taken."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.methods import Statistics, rounding_method
from edgeq.quantize.methods.gptq import GPTQ, feed_errors
from edgeq.quantize.methods.judged import round_judged
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.objective import Moments, MomentSums, objective
from edgeq.quantize.methods.refine import refine
from edgeq.quantize.number_formats.integers import INT4_B32, INT8, IntegerFormat
from edgeq.quantize.number_formats.kquants import OF_TYPE

pytest.importorskip("xllamacpp")
ALL = pytest.mark.parametrize("number_format", OF_TYPE.values(), ids=list(OF_TYPE))


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


def test_an_expert_that_no_token_chose_is_rounded_plainly() -> None:
    matrix = weights(64, 64)
    found = round_judged(matrix, Statistics(), INT4_B32, GPTQ.name)
    plain = NEAREST.round(matrix, None, INT4_B32)
    np.testing.assert_array_equal(found.codes, plain.codes)
    assert found.method == NEAREST.name


def weights(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(9).standard_normal((rows, columns)).astype(np.float32)


def output_error(rounded: np.ndarray, weight: np.ndarray, x: np.ndarray) -> float:
    return float(np.square(x @ (rounded - weight).T).mean())


@ALL
def test_gptq_beats_the_librarys_weighted_search_on_unseen_inputs(
    number_format: IntegerFormat,
) -> None:
    weight, unseen = weights(24, 256), inputs(512, 256, 3)
    seen = Statistics.of(moments(inputs(4096, 256, 1)))
    errors = [
        output_error(
            rounding_method(method).round(weight, seen, number_format).dequantize(), weight, unseen
        )
        for method in ("importance", "gptq")
    ]
    assert errors[1] < 0.7 * errors[0]


@ALL
def test_descent_never_makes_the_objective_larger(number_format: IntegerFormat) -> None:
    weight = weights(16, 512)
    target = objective(weight, moments(inputs(2048, 512, 2)), 0.1)

    def loss(codes: np.ndarray, scales: np.ndarray) -> float:
        left = weight - number_format.decode(codes, scales)
        return float(((left @ target.hessian) * left).sum())

    scales = NEAREST.round(weight, None, number_format).scales
    codes = feed_errors(target, number_format, scales)
    before = loss(codes, scales)
    for _ in range(2):
        codes, scales = refine(target, number_format, codes, scales, sweeps=1)
        assert loss(codes, scales) <= before * (1 + 1e-4)
        before = loss(codes, scales)
    assert codes.min() >= number_format.lowest
    assert codes.max() <= number_format.highest


@ALL
def test_refined_numbers_are_what_a_file_can_hold(number_format: IntegerFormat) -> None:
    from edgeq.quantize.ggml.blocks import STORED_AS, pack_codes, unpack_codes

    tensor = GPTQ.round(weights(8, 256), Statistics.of(moments(inputs(512, 256, 5))), number_format)
    back = unpack_codes(pack_codes(tensor), STORED_AS[number_format.name], "gptq")
    assert np.array_equal(back.dequantize(), tensor.dequantize())


def test_codes_make_up_for_what_the_layers_before_lost() -> None:
    """Where inputs have drifted, the float output on the float inputs is what counts."""
    number_format, weight = INT4_B32, weights(24, 128)
    drift = np.eye(128, dtype=np.float32) + 0.05 * weights(128, 128) / np.sqrt(128)

    def after(x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ drift)

    taught, unseen = inputs(4096, 128, 1), inputs(512, 128, 3)
    aware = GPTQ.round(weight, Statistics.of(moments(after(taught), taught)), number_format)
    unaware = GPTQ.round(weight, Statistics.of(moments(after(taught))), number_format)

    def error(rounded: np.ndarray) -> float:
        return float(np.square(after(unseen) @ rounded.T - unseen @ weight.T).mean())

    assert error(aware.dequantize()) < 0.5 * error(unaware.dequantize())


@pytest.mark.parametrize("method", ["gptq", "importance"])
@pytest.mark.parametrize("number_format", [INT4_B32, OF_TYPE["Q3_K"], INT8])
def test_what_is_worse_on_held_back_inputs_falls_back(
    number_format: IntegerFormat, method: str
) -> None:
    """Calibration that shows one direction alone says nothing of the inputs to come."""
    weight = weights(24, 256)
    direction = np.full((1, 256), 0.01, np.float32)
    direction[0, 0] = 10
    misled = np.random.default_rng(1).standard_normal((64, 1)).astype(np.float32) * direction
    judged = moments(np.random.default_rng(2).standard_normal((512, 256)).astype(np.float32))
    found = round_judged(weight, Statistics.of(moments(misled), judged), number_format, method)
    plain = NEAREST.round(weight, None, number_format)
    assert judged.error(weight, found.dequantize()) <= judged.error(weight, plain.dequantize())
    if number_format is INT4_B32:
        assert found.method == "nearest"
    seen = moments(inputs(4096, 256, 1))
    assert round_judged(weight, Statistics.of(seen, seen), number_format, "gptq").method == "gptq"
