"""The integer program finds what trying everything finds."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="the extra 'fit' is not installed")

from edgeq.pipeline.allocate.solve import (
    Choices,
    Infeasible,
    Priced,
    best_within,
    smallest_within,
    total,
)
from tests.support.properties import examples

_OPTION = st.tuples(st.floats(1e-9, 1.0), st.integers(1, 5000))
_CHOICES = st.lists(st.lists(_OPTION, min_size=1, max_size=4), min_size=1, max_size=5)


def priced(raw: list[list[tuple[float, int]]]) -> Choices:
    return {
        str(i): [Priced(str(j), loss, size) for j, (loss, size) in enumerate(options)]
        for i, options in enumerate(raw)
    }


def everything(choices: Choices) -> list[tuple[float, int]]:
    return [
        (math.fsum(o.loss for o in picked), sum(o.bytes for o in picked))
        for picked in itertools.product(*choices.values())
    ]


@examples(60)
@given(_CHOICES, st.floats(0, 1))
def test_no_choice_within_the_bytes_loses_less(
    raw: list[list[tuple[float, int]]], share: float
) -> None:
    choices = priced(raw)
    sizes = [size for _, size in everything(choices)]
    limit = round(min(sizes) + share * (max(sizes) - min(sizes)))
    loss, size = total(best_within(choices, limit))
    assert size <= limit
    least = min(each for each, taken in everything(choices) if taken <= limit)
    assert loss == pytest.approx(least, rel=1e-6)


@examples(60)
@example([[(1.0, 1), (1.192092896e-07, 2), (1e-09, 3)]], 0.5)
@given(_CHOICES, st.floats(0, 1))
def test_no_choice_within_the_loss_is_smaller(
    raw: list[list[tuple[float, int]]], share: float
) -> None:
    choices = priced(raw)
    losses = [loss for loss, _ in everything(choices)]
    asked = min(losses) + share * (max(losses) - min(losses))
    limit = asked * (1 + 1e-5)  # a solver's tolerance must not decide
    loss, size = total(smallest_within(choices, limit))
    assert loss <= limit * (1 + 1e-6)
    assert size <= min(taken for each, taken in everything(choices) if each <= asked)


def test_the_same_question_has_the_same_answer() -> None:
    choices = priced([[(0.1, 10), (0.2, 5)], [(0.1, 10), (0.2, 5)], [(0.1, 10), (0.2, 5)]])
    assert best_within(choices, 25) == best_within(choices, 25)


def test_losses_far_apart_do_not_drown() -> None:
    """Solvers take a ten-millionth of a sum for nothing; a loss may be less than that."""
    choices = priced([[(1e-9, 8), (1e-6, 4)], [(2e-9, 8), (1e-3, 4)]])
    picked = best_within(choices, 12)
    assert [picked["0"].bytes, picked["1"].bytes] == [4, 8]


@pytest.mark.parametrize("ask", ["bytes", "loss", "both"])
def test_what_cannot_be_kept_is_told(ask: str) -> None:
    choices = priced([[(0.1, 10), (0.2, 5)]])
    with pytest.raises(Infeasible):
        if ask == "bytes":
            best_within(choices, 4)
        else:
            smallest_within(choices, 0.1 if ask == "both" else 0.05, 7 if ask == "both" else None)


_MANY = """
import random
from edgeq.pipeline.allocate.solve import Priced, best_within, total

draw = random.Random(0)
for _ in range(8):
    choices = {
        str(i): [
            Priced(str(j), draw.lognormvariate(-6 - j, 1), draw.randint(10**8, 2 * 10**8) << j)
            for j in range(6)
        ]
        for i in range(40)
    }
    sizes = [sum(own[end].bytes for own in choices.values()) for end in (0, -1)]
    limit = round(sizes[0] + 0.3 * (sizes[1] - sizes[0]))
    assert total(best_within(choices, limit))[1] <= limit
"""


def test_large_files_stay_within_and_the_solver_prints_nothing() -> None:
    """Standard output is the solver's only in a process of its own: C flushes it at the end."""
    command = [sys.executable, "-c", _MANY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
