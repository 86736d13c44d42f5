"""Estimated speeds: what the published figures allow to say, and that nothing absurd is said."""

import functools
import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest

from edgeq.core.errors import InvalidInput
from edgeq.estimate.calibrate import Measured
from edgeq.estimate.fitting import DecodeFit, fit, without_each_chip
from edgeq.estimate.kinds import backend_kind, bits_per_weight, family, range_for
from edgeq.estimate.prompt import fit_prompt, prompt_without_each_chip
from edgeq.estimate.speed import constants, decode_speed, estimate_decode, estimate_prompt
from edgeq.estimate.spread import (
    Miss,
    calibrated_misses,
    decode_misses,
    prompt_misses,
    range_of,
    ranges,
)
from edgeq.estimate.table import points
from edgeq.quantize.ggml.mixes import MIXES
from edgeq.quantize.ggml.types import TYPES

BACKENDS = ("Metal", "CPU", "Vulkan", "HTP NPU", "CPU (no dotprod)", "something new")
ONE_TABLE = "discussions/4167"  # one model, one procedure, nine chips


Fits = Mapping[str, DecodeFit]


@pytest.fixture(scope="module")
def fits() -> Fits:
    return without_each_chip(points())


def errors(misses: list[Miss], source: str = "") -> np.ndarray:
    return np.array([miss.error for miss in misses if source in miss.point.source])


def test_unseen_chips_of_one_procedure_are_told_to_a_few_per_cent(fits: Fits) -> None:
    found = errors(decode_misses(points(), fits), ONE_TABLE)
    assert len(found) > 40
    assert np.median(found) <= 0.05
    assert np.quantile(found, 0.9) <= 0.14


def test_two_points_of_a_device_tell_its_others(fits: Fits) -> None:
    found = errors(calibrated_misses(points(), fits), ONE_TABLE)
    assert len(found) > 30
    assert np.median(found) <= 0.027
    assert np.quantile(found, 0.9) <= 0.085


def test_every_backend_is_told_better_than_by_bandwidth_alone(fits: Fits) -> None:
    used = points()
    for kind in ("metal", "cpu", "gpu"):
        own = [point for point in used if backend_kind(point.backend) == kind]
        told = errors(decode_misses(own, fits))
        alone = [abs(p.bandwidth / p.bytes / p.decode - 1) for p in own]
        assert np.median(told) < 0.7 * np.median(alone)


def test_intervals_hold_nine_in_ten_of_chips_that_no_range_knew(fits: Fits) -> None:
    misses = decode_misses(points(), fits)
    inside = 0
    for chip in fits:
        known = ranges([miss for miss in misses if miss.point.chip != chip])
        for miss in misses:
            if miss.point.chip == chip:
                low, high = range_for(known, miss.point.backend, miss.point.quant)
                inside += low <= miss.log_ratio <= high
    assert inside / len(misses) >= 0.9


def test_the_constants_are_what_the_table_gives() -> None:
    used, held = points(), constants()
    again = fit(used)
    assert held.points == len(used)
    for backend in BACKENDS:
        for quant in ("F16", "Q4_0", "Q4_K_M"):
            given = (4e9, 1e11, backend_kind(backend), quant)
            assert held.decode.seconds(*given) == pytest.approx(again.seconds(*given), rel=1e-6)
    assert held.prompt.growth == pytest.approx(fit_prompt(used).growth, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("quant", ["F16", "q4_0", "Q4_K_M", "IQ2_XXS", "never heard of"])
def test_more_bytes_are_slower_and_more_bandwidth_is_faster(backend: str, quant: str) -> None:
    sizes = np.geomspace(1e6, 1e12, 30)
    for bandwidth in (1e9, 1e11, 4e12):
        speeds = [
            decode_speed(bytes_per_token=b, bandwidth=bandwidth, backend=backend, quant=quant)
            for b in sizes
        ]
        assert all(first > second for first, second in itertools.pairwise(speeds))
        assert all(speed < 1.5 * bandwidth / b for speed, b in zip(speeds, sizes, strict=True))
    speeds = [
        decode_speed(bytes_per_token=4e9, bandwidth=b, backend=backend, quant=quant)
        for b in np.geomspace(1e9, 1e13, 30)
    ]
    assert all(first < second for first, second in itertools.pairwise(speeds))


def test_names_are_taken_whatever_their_case() -> None:
    def speed(backend: str, quant: str) -> float:
        return decode_speed(bytes_per_token=4e9, bandwidth=1e11, backend=backend, quant=quant)

    assert speed("metal", "q4_k_m") == speed("Metal", "Q4_K_M")
    assert speed("CPU (Ollama)", "Q8_0") == speed("cpu", "Q8_0")
    assert speed("CUDA", "F16") == speed("vulkan", "F16")
    assert speed("CPU (no dotprod)", "Q4_0") < speed("CPU", "Q4_0") / 1.5


@pytest.mark.parametrize("name", ["bytes_per_token", "bandwidth"])
@pytest.mark.parametrize("number", [0, -1.0, math.nan, math.inf])
def test_what_is_no_size_is_refused(name: str, number: float) -> None:
    given = {"bytes_per_token": 4e9, "bandwidth": 1e11, name: number}
    with pytest.raises(InvalidInput, match=name):
        decode_speed(**given, backend="Metal", quant="Q4_0")


def test_an_interval_is_around_its_value_and_wider_far_from_what_was_fitted() -> None:
    def width(bytes_per_token: float) -> float:
        told = estimate_decode(
            bytes_per_token=bytes_per_token, bandwidth=1e11, backend="CPU", quant="Q4_K_M"
        )
        assert told.low < told.value < told.high
        return told.high / told.low

    assert width(4e9) < width(4e7) < width(4e6)
    assert width(4e9) < width(4e11)


def test_measured_points_draw_the_estimate_to_them_and_narrow_it() -> None:
    speed = functools.partial(decode_speed, bandwidth=1e11, backend="Metal")
    estimate = functools.partial(estimate_decode, bandwidth=1e11, backend="Metal")
    sizes = {"Q8_0": 7.2e9, "Q4_0": 3.8e9, "F16": 13.5e9}
    slow = [
        Measured(sizes[q], q, 0.7 * speed(bytes_per_token=sizes[q], quant=q))
        for q in ("Q8_0", "Q4_0")
    ]
    plain = estimate(bytes_per_token=sizes["F16"], quant="F16")
    one, two = (
        estimate(bytes_per_token=sizes["F16"], quant="F16", measured=slow[:n]) for n in (1, 2)
    )
    assert two.value == pytest.approx(0.7 * plain.value, rel=0.05)
    assert two.value < one.value < plain.value or one.value == pytest.approx(two.value, rel=0.03)
    widths = [told.high / told.low for told in (plain, one, two)]
    assert widths == sorted(widths, reverse=True)


def test_prompts_are_read_within_their_interval_on_most_unseen_chips() -> None:
    used = points()
    misses = prompt_misses(used, prompt_without_each_chip(used))
    low, high = range_of(misses)
    assert np.mean([low <= miss.log_ratio <= high for miss in misses]) >= 0.9
    told = estimate_prompt(parameters=8e9, bandwidth=1e11, backend="Metal", quant="Q4_K_M")
    assert told.low < told.value < told.high
    larger = estimate_prompt(parameters=16e9, bandwidth=1e11, backend="Metal", quant="Q4_K_M")
    assert larger.value == pytest.approx(told.value / 2)


def test_every_gguf_type_and_mix_has_a_family_and_bits_near_the_truth() -> None:
    for name, type in TYPES.items():
        if name.startswith(("Q", "IQ", "F", "BF", "MX", "TQ")):
            assert bits_per_weight(name) == pytest.approx(type.bits, rel=0.35)
    assert {family(mix) for mix in MIXES} == {"flat", "k", "low"}


def test_every_figure_has_a_source_and_a_sensible_value() -> None:
    for point in points():
        assert point.source
        # No more than memory can give, whatever the notes say of it.
        assert 0.02 < point.decode * point.bytes / point.bandwidth < 1.05
