"""What is bundled without a check follows one rule: nearest to the original that fits."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.core.errors import InvalidInput
from edgeq.formats.file_format import TensorPlan
from edgeq.pipeline.bundle.unchecked import RULE, choose_unchecked
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.quantize.presets import Variant

VARIANT = Variant(name="v", weights="Q8_0", activations="float32", method="nearest", ranges=None)


def planned(name: str, bytes: int, activations: str = "float32", **changes: Any) -> ArtifactPlan:
    tensor = TensorPlan(
        name="w",
        shape=(100, 80),
        number_format="",
        method="",
        reason="",
        bytes=bytes,
        activations=activations,
    )
    return ArtifactPlan(
        name=name,
        format="gguf",
        variant=VARIANT,
        tensors=(tensor,),
        weight_bytes=bytes,
        download_bytes=bytes + 500,
        devices=(),
        **changes,
    )


SMALL, LARGE, ACTIVE = planned("Q2", 2000), planned("Q8", 8500), planned("A8", 8500, "int8")


@pytest.mark.parametrize("order", [(SMALL, LARGE, ACTIVE), (ACTIVE, LARGE, SMALL)])
def test_the_order_in_the_recipe_does_not_matter(order: tuple[ArtifactPlan, ...]) -> None:
    assert choose_unchecked(order, None) == ("Q8", f"{RULE}: 8.50")
    assert choose_unchecked(order, 9000)[0] == "Q8"
    assert choose_unchecked(order, 8999)[0] == "Q2"


def test_what_the_plan_cannot_tell_is_asked_for() -> None:
    with pytest.raises(InvalidInput, match=r"size budget of .*\n +choose one with --artifact: Q2"):
        choose_unchecked([SMALL], 100)
    chosen = planned("fit", 1, pending="chosen when it is built")
    with pytest.raises(InvalidInput, match="fit is not known before it is built"):
        choose_unchecked([SMALL, chosen], None)
    assert choose_unchecked([chosen], None) == ("fit", "the only one")
