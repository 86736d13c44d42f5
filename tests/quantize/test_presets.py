"""Presets: words and settings say the same thing, and impossible settings are refused."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from edgeq.quantize import presets
from edgeq.quantize.ggml.words import GgufType
from edgeq.quantize.methods import ROUNDING_METHODS
from edgeq.quantize.number_formats.integers import INTEGERS
from edgeq.quantize.number_formats.palettes import PALETTES
from edgeq.quantize.presets import MIXES, NEUTRAL, PRESETS, Variant, activations_of, make_variant
from edgeq.quantize.storage import STORAGES, number_format_of, preset

WEIGHTS = [*(each.name for each in presets.portable_formats()), *MIXES]
SETTINGS = st.tuples(
    st.sampled_from(WEIGHTS),
    st.none() | st.sampled_from(get_args(presets.Activations)),
    st.none() | st.sampled_from(list(ROUNDING_METHODS)),
    st.none() | st.sampled_from(get_args(presets.Ranges)),
)


def test_every_word_has_a_variant_of_its_own_name() -> None:
    # int8 alone is no preset of one meaning, but on Core ML the variant is called so.
    assert set(PRESETS) == {*WEIGHTS, "int8-dynamic", "int8-static"}
    assert all(variant.name == word for word, variant in PRESETS.items())
    assert preset("int8", "onnx", "tensor") == PRESETS["int8-dynamic"]
    assert preset("int8", "gguf", "sentence-embedding") == PRESETS["int8-b32"]
    assert preset("int8", "onnx", "text-generation") == PRESETS["int8-b32"]
    assert preset("int4", "onnx", "tensor") == PRESETS["int4-b32"]
    assert preset("int8", "coreml", "text-generation") == PRESETS["int8"]
    assert preset("int4", "coreml", "tensor") == PRESETS["int4-b32"]


def test_presets_mean_what_the_readme_says() -> None:
    assert PRESETS["int8-static"] == Variant(
        name="int8-static",
        weights="int8",
        activations="static-uint8",
        method="nearest",
        ranges="error",
    )
    assert PRESETS["int4-b32"].method == "gptq"
    needing = {word for word, variant in PRESETS.items() if variant.needs_calibration}
    assert needing == {"int8-static", "int4-b32", *MIXES} - {"F16", "BF16", "Q8_0"}


def test_a_rule_can_name_every_number_format_and_type_of_its_format() -> None:
    number_formats, types = ("float32", *(each.name for each in INTEGERS)), get_args(GgufType)
    apples = {*(each.name for each in PALETTES), "float16"}
    for word in (*number_formats, *apples, *types, *NEUTRAL, "int8-dynamic", "int8-static"):
        on_onnx = number_format_of(word, "onnx", "tensor")
        on_gguf = number_format_of(word, "gguf", "text-generation")
        on_coreml = number_format_of(word, "coreml", "tensor")
        assert (on_onnx in number_formats) == (word not in types and word not in apples)
        assert on_onnx is not None or word in (on_gguf, on_coreml)
        by_apple = (word in apples or word in number_formats) and word not in (
            "int8-stored",
            "int4-stored",
        )
        assert (on_coreml == word) == by_apple
    assert all(
        number_format_of(number_format, "onnx", "tensor") == number_format
        for number_format in number_formats
    )
    assert number_format_of("int8-dynamic", "gguf", "text-generation") is None


def held_by(variant: Variant) -> tuple[str, ...]:
    return tuple(each.name for each in STORAGES.values() if each.holds(variant))


def test_a_mix_is_for_gguf_palettes_for_apple_and_blocks_of_ours_for_all() -> None:
    for variant in PRESETS.values():
        assert (held_by(variant) == ("gguf",)) == (variant.weights in MIXES)
        if variant.weights in (each.name for each in PALETTES):
            assert held_by(variant) == ("coreml", "coreai")
    for word in ("float32", "int8-b32", "int4-b32"):
        assert held_by(PRESETS[word]) == ("onnx", "gguf", "coreml", "coreai")
    assert held_by(PRESETS["int8"]) == held_by(PRESETS["float16"]) == ("coreml", "coreai")
    assert held_by(PRESETS["int8-static"]) == ("onnx", "coreml")
    assert held_by(PRESETS["int8-dynamic"]) == ("onnx",)


@given(SETTINGS, SETTINGS)
def test_one_name_is_one_set_of_settings(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    made = []
    for settings in (first, second):
        try:
            made.append(make_variant(*settings))
        except PydanticCustomError as refusal:
            assert refusal.context is not None
            assert refusal.context["remedy"]
    for variant in made:
        assert variant.activations in activations_of(variant.weights)
        assert (variant.ranges is not None) == (variant.activations == "static-uint8")
    if len(made) == 2:
        assert (made[0].name == made[1].name) == (made[0] == made[1])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"weights": "int4-b32", "activations": "static-uint8"}, "do not run with"),
        ({"weights": "int8", "ranges": "minmax"}, "static ranges"),
        ({"weights": "float32", "method": "gptq"}, "does not apply to"),
        ({"weights": "int8", "name": "int4-b32"}, "belongs to a preset"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(PydanticCustomError, match=what):
        make_variant(**settings)
