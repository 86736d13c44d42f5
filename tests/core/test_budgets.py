"""What every budget is measured in, by which pass, and in which direction."""

from __future__ import annotations

import pytest

from edgeq.core.budgets import BUDGETS, Budget
from edgeq.core.errors import InvalidInput

BY_SECTION = {
    "memory": ({"bytes"}, {"at most"}, "memory"),
    "latency": ({"seconds"}, {"at most"}, "latency"),
    "speed": ({"tokens/s"}, {"at least"}, "latency"),
    "size": ({"bytes"}, {"at most"}, None),
    "placement": ({"share"}, {"at least"}, "latency"),
}
AT_LEAST = {"cosine", "spearman", "top1", "agreement", "order"}


def test_a_section_has_its_unit_direction_and_pass() -> None:
    for budget in BUDGETS.values():
        if budget.section == "quality":
            assert budget.measured_by == "quality"
            assert budget.bound == ("at least" if budget.key in AT_LEAST else "at most")
        else:
            units, bounds, measured_by = BY_SECTION[budget.section]
            assert budget.unit in units
            assert budget.bound in bounds
            assert budget.measured_by == measured_by
        assert budget.needs_compute_units == (budget.section == "placement")
        assert budget.is_upper == (budget.bound == "at most")
        assert BUDGETS.named(f"{budget.section}.{budget.key}") is budget
        assert budget.words


@pytest.mark.parametrize(
    ("change", "place"),
    [({"section": "sise"}, "size"), ({"unit": "byte"}, "bytes"), ({"bound": "most"}, "at most")],
)
def test_a_word_that_verdicts_do_not_know_is_refused(change: dict[str, str], place: str) -> None:
    known = {"section": "size", "key": "app", "unit": "bytes", "bound": "at most", "words": "it"}
    Budget(**known)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=place) as refused:
        Budget(**(known | change))  # type: ignore[arg-type]
    assert repr(next(iter(change.values()))) in str(refused.value)
    assert "the budget" in str(refused.value)
