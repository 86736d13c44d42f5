"""Where two language models disagree: counted, and the worst places described."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.measure import divergence
from edgeq.measure.disagreement import Worst, histogram
from edgeq.measure.scoring import score
from tests.support.table_model import VOCABULARY, Table


@given(st.lists(st.floats(-1e-12, 1e4), min_size=1))
def test_every_value_is_counted_once_where_it_belongs(values: list[float]) -> None:
    found = histogram(np.array(values))
    assert found.below + sum(found.counts) == len(values)
    assert found.below == sum(value < found.lowest for value in values)
    # A power of ten away from an edge, no rounding of the edge decides.
    for decade in (-6, -3, 0):
        edge = 10.0**decade
        above = sum(found.counts[(decade + 9) * found.per_decade :])
        if all(abs(value / edge - 1) > 1e-9 for value in values):
            assert above == sum(value > edge for value in values)


def test_the_worst_places_of_all_windows_are_kept() -> None:
    a, b = Table(seed=1), Table(seed=2)
    rng = np.random.default_rng(0)
    windows = [rng.integers(0, VOCABULARY, 32).tolist() for _ in range(6)]
    found = divergence.measure(a, b, windows)
    every = []
    for index, window in enumerate(windows):
        p, q = (model.logits(window)[16:-1] for model in (a, b))
        kl = score(p, q, window[17:]).kl
        every += [(value, index, 17 + row) for row, value in enumerate(kl)]
    every.sort(reverse=True)
    assert [(w.kl, w.window, w.position) for w in found.worst] == every[: len(found.worst)]
    assert len(found.worst) == 8


def test_a_place_is_told_with_what_both_models_expected() -> None:
    a, b = Table(seed=1), Table(seed=2)
    window = list(range(20))
    logits = a.logits(window)[10:-1], b.logits(window)[10:-1]
    kl = score(*logits, window[11:]).kl
    worst = Worst(a)
    worst.add(4, window, logits, kl)
    for place in worst.found():
        row = place.position - 11
        assert (place.window, place.kl) == (4, kl[row])
        assert place.follows == a.text([window[place.position]])
        assert place.before == a.text(window[: place.position])
        for model, part in (("reference", logits[0][row]), ("candidate", logits[1][row])):
            p = np.exp(part - part.max()) / np.exp(part - part.max()).sum()
            told = {each.text: getattr(each, model) for each in place.candidates}
            assert told[a.text([int(p.argmax())])] == pytest.approx(p.max(), rel=1e-5)
            assert told[place.follows] == pytest.approx(p[window[place.position]], rel=1e-5)
        assert len({each.text for each in place.candidates}) == len(place.candidates)
        shown = [each.reference for each in place.candidates]
        assert shown == sorted(shown, reverse=True)


def test_what_repeats_is_told_once_for_each_place() -> None:
    a, b = Table(seed=1), Table(seed=2)
    window = [3] * 20
    logits = [model.logits(window)[10:-1] for model in (a, b)]
    worst = Worst(a)
    for index in range(3):  # the same divergences again: places differ, values do not
        worst.add(index, window, logits, np.ones(9))
    places = [(each.window, each.position) for each in worst.found()]
    assert len(places) == len(set(places)) == 8
    assert {window for window, _ in places} == {0}
