"""Rows of tables that stand for several tensors say which."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeq.report.layers import kind_of, layers_of, ranges


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranges_name_every_number_once(numbers: set[int]) -> None:
    found: list[int] = []
    for part in ranges(numbers).split(", "):
        first, _, last = part.partition("–")
        found += range(int(first), int(last or first) + 1)
        assert not last or int(last) - int(first) >= 2
    assert found == sorted(numbers)


@given(st.sets(st.integers(0, 40), min_size=2))
def test_layers_of_like_tensors_are_told(layers: set[int]) -> None:
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in sorted(layers)]
    assert {kind_of(name) for name in names} == {"model.layers.*.mlp.up_proj.weight"}
    assert layers_of(names) == ranges(layers)
    assert layers_of(names[:1]) == ""


def test_of_experts_the_layers_are_told_and_all_are_counted() -> None:
    names = [f"blk.{layer}.experts.{expert}.w1" for layer in (1, 2, 3) for expert in range(8)]
    assert layers_of(names) == "1–3 (×24)"
    assert layers_of(names[:8]) == "0–7"
