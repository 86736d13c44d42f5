"""Presets: words and settings say the same thing, and impossible settings are refused."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from edgeq.quantize import presets
from edgeq.quantize.gguf_words import GgufType
from edgeq.quantize.presets import (
    ACTIVATIONS,
    MIXES,
    PRESETS,
    Variant,
    grid_of,
    make_variant,
    preset,
)

SETTINGS = st.tuples(
    st.sampled_from(get_args(presets.Weights)),
    st.none() | st.sampled_from(get_args(presets.Activations)),
    st.none() | st.sampled_from(get_args(presets.Method)),
    st.none() | st.sampled_from(get_args(presets.Ranges)),
)


def test_every_word_has_a_variant_of_its_own_name() -> None:
    assert set(PRESETS) == set(get_args(presets.PresetWord))
    assert all(variant.name == word for word, variant in PRESETS.items())
    assert preset("int8", "onnx", "tensor") is PRESETS["int8-dynamic"]
    assert preset("int8", "gguf", "sentence-embedding") is PRESETS["int8-b32"]
    assert preset("int8", "onnx", "text-generation") is PRESETS["int8-b32"]
    assert preset("int4", "onnx", "tensor") is PRESETS["int4-b32"]


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


def test_a_rule_can_name_every_grid_and_type_of_its_format() -> None:
    grids, types = get_args(presets.Grid), get_args(GgufType)
    for word in get_args(presets.Use):
        on_onnx = grid_of(word, "onnx", "tensor")
        on_gguf = grid_of(word, "gguf", "text-generation")
        assert (on_onnx in grids) == (word not in types)
        assert on_onnx is not None or on_gguf == word
    assert all(grid_of(grid, "onnx", "tensor") == grid for grid in grids)
    assert grid_of("int8-dynamic", "gguf", "text-generation") is None


def test_a_mix_is_for_gguf_and_codes_of_ours_for_both() -> None:
    for variant in PRESETS.values():
        assert ("onnx" in variant.formats) == (variant.weights not in MIXES)
    assert PRESETS["int4-b32"].formats == ("onnx", "gguf")
    assert PRESETS["int8-static"].formats == ("onnx",)


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
        assert variant.activations in ACTIVATIONS[variant.weights]
        assert (variant.ranges is not None) == (variant.activations == "static-uint8")
    if len(made) == 2:
        assert (made[0].name == made[1].name) == (made[0] == made[1])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"weights": "int4-b32", "activations": "static-uint8"}, "do not run with"),
        ({"weights": "int8", "ranges": "minmax"}, "static ranges"),
        ({"weights": "float32", "method": "gptq"}, "nothing to round"),
        ({"weights": "int8", "name": "int4-b32"}, "belongs to a preset"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(PydanticCustomError, match=what):
        make_variant(**settings)
