"""As many windows are judged as the original's predictions can be recorded of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.core.errors import InvalidInput
from edgeq.measure import arrays
from edgeq.measure.inputs import Evaluation
from edgeq.measure.reference import ANSWERS_FILE, same_windows
from edgeq.pipeline.check.reference import recordable

VOCABULARY = 262_144  # a window of 256 then has 128 MiB of predictions
TEXT = Path("evaluation.txt")


def windows(count: int, size: int = 256) -> list[list[int]]:
    return [[n] * size for n in range(count)]


def test_a_recipe_that_states_no_number_gets_as_many_as_fit_from_the_whole_text() -> None:
    few, many = windows(32), windows(400)
    assert recordable(few, VOCABULARY, Evaluation(TEXT)) == few
    found = recordable(many, VOCABULARY, Evaluation(TEXT))
    assert len(found) == 32 and all(window in many for window in found)
    assert found[0][0] < 40 and found[-1][0] > 360
    assert recordable(many, VOCABULARY, Evaluation(TEXT)) == found


def test_a_number_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(InvalidInput, match="'samples: 64'"):
        recordable(windows(65), VOCABULARY, Evaluation(TEXT, samples=65))
    with pytest.raises(InvalidInput, match="smaller context"):
        recordable(windows(2, 32_768), VOCABULARY, Evaluation(TEXT))


def test_an_artifact_is_judged_on_the_windows_that_were_drawn(tmp_path: Path) -> None:
    every = windows(400)
    chosen = recordable(every, VOCABULARY, Evaluation(TEXT))
    answers = (np.array(part) for window in chosen for part in (window, [0.0]))
    arrays.write_arrays(tmp_path / ANSWERS_FILE, answers)
    assert same_windows(every, tmp_path, "int8") == chosen
    assert same_windows(chosen, tmp_path, "int8") == chosen
    every[chosen[3][0]][7] += 1
    with pytest.raises(InvalidInput, match="in window 3"):
        same_windows(every, tmp_path, "int8")
