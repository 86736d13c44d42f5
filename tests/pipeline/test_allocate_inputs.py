"""What a runtime loses by rounding inputs is shared out whole, and to layers only."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="the extra 'fit' is not installed")

from edgeq.pipeline.allocate.inputs import kernels_of, shared_out, widest_of
from edgeq.pipeline.allocate.options import Option, Options
from edgeq.pipeline.allocate.sensitivity import Cost

OLD = (
    Option("Q4_0", "int4-b32", "gptq", 100, "inputs-32"),
    Option("Q8_0", "int8-b32", "gptq", 200, "inputs-32"),
)
K = (
    Option("Q2_K", "q2_k", "gptq", 50, "inputs-256"),
    Option("Q6_K", "q6_k", "gptq", 150, "inputs-256"),
)
FLOAT = Option("F16", "F16", "none", 400, "")
ABLE, UNABLE = (*K, *OLD), OLD


def costs(options: Options, losses: list[float]) -> dict[str, dict[str, Cost]]:
    return {
        name: {
            o.use: Cost(loss=loss / o.bytes, error=None, local=1.0, how="interpolated")
            for o in own
            if o.method != "none"
        }
        for (name, own), loss in zip(options.items(), losses, strict=True)
    }


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=3, max_size=3),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_all_that_was_measured_is_shared_out(
    losses: list[float], blocks_32: float, more: float
) -> None:
    options = {"a": ABLE, "b": UNABLE, "c": (*ABLE, FLOAT)}
    assert kernels_of(options) == ["inputs-32", "inputs-256"]
    seen = {"inputs-32": blocks_32, "inputs-256": blocks_32 + more}
    found = shared_out(costs(options, losses), options, seen)
    for kernel, loss in seen.items():
        widest = widest_of(options, kernel)
        parts = [found[name][use].inputs for name, use in widest.items()]
        assert math.fsum(parts) == pytest.approx(loss, rel=1e-9, abs=1e-15)
    for name, own in found.items():
        for use, cost in own.items():
            assert cost.inputs >= 0
            assert cost.loss == costs(options, losses)[name][use].loss
        if name != "b":
            assert own["Q2_K"].inputs == own["Q6_K"].inputs


def test_a_table_that_multiplies_nothing_has_no_part() -> None:
    options = {"table": ABLE, "layer": ABLE}
    layers = {"layer": ABLE}
    found = shared_out(costs(options, [1.0, 1.0]), layers, {"inputs-32": 0.5})
    assert all(cost.inputs == 0 for cost in found["table"].values())
    assert found["layer"]["Q8_0"].inputs == 0.5


def test_the_widest_codes_of_a_kernel_or_of_any() -> None:
    options = {"a": (*ABLE, FLOAT), "b": UNABLE}
    assert widest_of(options, "inputs-256") == {"a": "Q6_K", "b": "Q8_0"}
    assert widest_of(options, "inputs-32") == {"a": "Q8_0", "b": "Q8_0"}
