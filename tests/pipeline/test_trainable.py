"""A weight in training has the values that its stored codes stand for in a runtime."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="recovery is not installed")

import torch

from edgeq.pipeline.learn.trainable import Trainable, trainable
from edgeq.quantize.ggml.blocks import STORED_AS, pack_codes
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.methods.learned import LEARNED
from edgeq.quantize.number_formats import NUMBER_FORMATS, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.integers import INT4_B32, INT8
from edgeq.quantize.number_formats.kquants import BLOCKS

gguf = pytest.importorskip("gguf")

TRAINED = [each for each in NUMBER_FORMATS.values() if LEARNED.rounds_onto(each)]


def start(number_format: NumberFormat, columns: int = 512) -> QuantizedTensor:
    weight = np.random.default_rng(1).standard_normal((24, columns)).astype(np.float32)
    weight[3] = 0  # scales of zero
    found = rounding_method(LEARNED.starts_from(number_format))
    return found.round(weight, None, number_format)


def moved(number_format: NumberFormat, by: float) -> Trainable:
    """All parameters away from where they start, as training would leave them."""
    torch.manual_seed(0)
    found = trainable(start(number_format))
    with torch.no_grad():
        found.codes += torch.randn_like(found.codes)
        for scales in found.scales:
            scales += by * torch.randn_like(scales)
    found.confine()
    return found


@pytest.mark.parametrize("number_format", TRAINED, ids=lambda each: each.name)
def test_it_starts_at_the_codes_it_is_given(number_format: NumberFormat) -> None:
    tensor = start(number_format)
    found = trainable(tensor)
    assert np.array_equal(found.value().detach().numpy(), tensor.dequantize())
    kept = found.tensor("learned")
    assert np.array_equal(kept.dequantize(), tensor.dequantize())
    assert kept.method == "learned"


@pytest.mark.parametrize("by", (0.01, 1.0))
@pytest.mark.parametrize("number_format", TRAINED, ids=lambda each: each.name)
def test_stored_codes_have_the_trained_values(number_format: NumberFormat, by: float) -> None:
    found = moved(number_format, by)
    tensor = found.tensor("learned")
    before = start(number_format)
    assert (tensor.codes != before.codes).any() and (tensor.scales != before.scales).any()
    assert number_format.lowest <= tensor.codes.min() <= tensor.codes.max() <= number_format.highest
    assert np.array_equal(found.value().detach().numpy(), tensor.dequantize())


@pytest.mark.parametrize("by", (0.01, 1.0))
@pytest.mark.parametrize("name", STORED_AS)
def test_a_gguf_file_can_hold_what_was_trained(name: str, by: float) -> None:
    """llama.cpp's own reading of the blocks gives the trained values."""
    type = STORED_AS[name]
    found = moved(NUMBER_FORMATS[name], by)
    packed = pack_codes(found.tensor("learned"))
    known = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[type.name])
    assert np.array_equal(found.value().detach().numpy(), known)


@pytest.mark.parametrize("number_format", TRAINED, ids=lambda each: each.name)
def test_every_parameter_has_a_gradient(number_format: NumberFormat) -> None:
    found = trainable(start(number_format))
    wanted = torch.from_numpy(
        np.random.default_rng(2).standard_normal((24, 512)).astype(np.float32)
    )
    (found.value() - wanted).square().sum().backward()
    for parameter in found.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_a_short_last_group_is_trained_too() -> None:
    found = trainable(start(INT4_B32, columns=40))
    assert np.array_equal(found.value().detach().numpy(), start(INT4_B32, 40).dequantize())


def test_what_left_its_limits_comes_back() -> None:
    """Beyond them there are no gradients: a number would stay there for ever."""
    found = trainable(start(NUMBER_FORMATS["Q2_K"]))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 100
    found.confine()
    found.value().sum().backward()
    for parameter in found.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0


def test_formats_that_cannot_be_trained_are_refused_by_name() -> None:
    from pydantic_core import PydanticCustomError

    from edgeq.quantize.presets import make_variant

    assert not LEARNED.rounds_onto(INT8)
    with pytest.raises(PydanticCustomError, match="'int8' are not rounded by the method 'learned'"):
        make_variant("int8", method="learned")
    assert all(map(LEARNED.rounds_onto, BLOCKS))
