"""Presets: words and settings say the same thing, and impossible settings are refused."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from edgeq.quantize import presets
from edgeq.quantize.presets import ACTIVATIONS, PRESETS, Variant, grid_of, make_variant, preset

SETTINGS = st.tuples(
    st.sampled_from(get_args(presets.Grid)),
    st.none() | st.sampled_from(get_args(presets.Activations)),
    st.none() | st.sampled_from(get_args(presets.Method)),
    st.none() | st.sampled_from(get_args(presets.Ranges)),
)


def test_every_word_has_a_variant_of_its_own_name() -> None:
    assert set(PRESETS) == set(get_args(presets.PresetWord))
    assert all(variant.name == word for word, variant in PRESETS.items())
    assert preset("int8", "onnx") is PRESETS["int8-dynamic"]
    assert preset("int4", "onnx") is PRESETS["int4-b32"]


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
    assert needing == {"int8-static", "int4-b32"}


def test_a_rule_can_name_every_grid_and_preset() -> None:
    assert all(grid_of(word) in get_args(presets.Grid) for word in get_args(presets.Use))
    assert all(grid_of(grid) == grid for grid in get_args(presets.Grid))


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
