"""Divergence of two models: the figures themselves, their errors, windows of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.core.errors import InvalidInput
from edgeq.core.sampling import spread
from edgeq.formats.base import Floats
from edgeq.formats.language import Ids, LanguageModel
from edgeq.measure import clusters
from edgeq.measure.divergence import Divergence, measure, summarise, token_windows
from edgeq.measure.scoring import Scores, score
from tests.support.properties import examples

Doubles = npt.NDArray[np.float64]

finite = st.floats(-80, 80, width=32)
logit_pairs = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9).flatmap(
    lambda shape: st.tuples(*(hnp.arrays(np.float32, shape, elements=finite) for _ in range(2)))
)


class Bigrams(LanguageModel):
    """A model whose prediction depends on the last token alone, given as a table of logits."""

    def __init__(self, table: Floats, context: int = 64) -> None:
        super().__init__(
            name="bigrams",
            artifact=None,
            runtime="numpy",
            threads=1,
            vocabulary=len(table),
            context=context,
            end_tokens=frozenset(),
        )
        self._table = table

    def tokens(self, text: str, special: bool = True) -> list[int]:
        return [ord(letter) % self.vocabulary for letter in text]

    def _piece(self, token_id: int) -> bytes:
        return bytes([token_id])

    def cache_bytes(self, context: int) -> int:
        return 0

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        rows: Floats = self._table[token_ids if every else token_ids[-1:]]
        return rows

    def _clear(self) -> None:
        pass


def random_logits(seed: int, *shape: int, scale: float = 4.0) -> Floats:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


# -- one token after another


def test_figures_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="the build side is not installed")
    a, b = random_logits(1, 300, 5000), random_logits(2, 300, 5000)
    following = np.random.default_rng(3).integers(5000, size=300)
    found = score(a, b, following.tolist())
    log_p, log_q = (torch.from_numpy(x).double().log_softmax(1) for x in (a, b))
    kl = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-12)
    for values, log in ((found.nll_a, log_p), (found.nll_b, log_q)):
        wanted = torch.nn.functional.nll_loss(log, torch.from_numpy(following), reduction="none")
        np.testing.assert_allclose(values, wanted, rtol=1e-12)
    assert found.same.mean() == (a.argmax(1) == b.argmax(1)).mean()


@given(logit_pairs, st.data())
def test_what_a_divergence_is(pair: tuple[Floats, Floats], data: st.DataObject) -> None:
    a, b = pair
    following = data.draw(
        st.lists(st.integers(0, a.shape[1] - 1), min_size=len(a), max_size=len(a))
    )
    found = score(a, b, following)
    assert (found.kl > -1e-12).all()  # Gibbs; below zero there is nothing but rounding
    row = np.arange(len(a))
    log_p = a - np.logaddexp.reduce(a.astype(np.float64), 1)[:, None]
    np.testing.assert_allclose(-found.nll_a, log_p[row, following], atol=1e-9)
    np.testing.assert_allclose(found.dp, np.exp(-found.nll_b) - np.exp(-found.nll_a), atol=1e-12)
    np.testing.assert_array_equal(found.same, a.argmax(1) == b.argmax(1))
    own = score(a, a, following)
    assert not own.kl.any() and not own.dp.any() and own.same.all()


@given(logit_pairs, st.permutations(range(9)))
def test_the_order_of_the_vocabulary_means_nothing(
    pair: tuple[Floats, Floats], order: list[int]
) -> None:
    a, b = pair
    order = [place for place in order if place < a.shape[1]]
    kl = score(a, b, [0] * len(a)).kl
    np.testing.assert_allclose(score(a[:, order], b[:, order], [0] * len(a)).kl, kl, atol=1e-10)


def test_the_direction_is_from_the_reference() -> None:
    """By hand: p = (1/2, 1/2), q = (1/4, 3/4)."""
    p, q = np.log(np.array([[[1, 1]], [[1, 3]]], np.float32))
    assert score(p, q, [0]).kl[0] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert score(q, p, [0]).kl[0] == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert score(p, q, [0]).dp[0] == pytest.approx(-0.25)


def test_a_probability_that_vanishes_is_no_trouble() -> None:
    a, b = np.array([[[0, -2000]], [[-2000, 0]]], np.float32)
    assert score(a, b, [1]).kl[0] == 2000
    assert score(a, b, [1]).nll_a[0] == 2000


def test_large_vocabularies_are_taken_in_blocks() -> None:
    """More values than one block holds; rows do not depend on their neighbours."""
    a, b = random_logits(1, 20, 100_000), random_logits(2, 20, 100_000)
    whole = score(a, b, range(20))
    parts = [score(a[i : i + 1], b[i : i + 1], [i]) for i in range(20)]
    np.testing.assert_allclose(whole.kl, np.concatenate([part.kl for part in parts]), rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    good = np.zeros((2, 3), np.float32)
    bad = good.copy()
    bad[1, 1] = value
    with pytest.raises(InvalidInput, match="the candidate's logits: contain NaN or infinity"):
        score(good, bad, [0, 0])
    with pytest.raises(InvalidInput, match="the reference's logits"):
        score(bad, good, [0, 0])
    with pytest.raises(InvalidInput, match="cannot be compared"):
        score(good, good[:1], [0, 0])


# -- windows


@given(st.integers(4, 20), st.integers(0, 100), st.none() | st.just(-1))
def test_windows_are_cut_as_llama_cpp_cuts_them(size: int, length: int, bos: int | None) -> None:
    ids = list(range(length))
    if length < 2 * size:
        with pytest.raises(InvalidInput, match=f"has {length} tokens.*two windows of {size}"):
            token_windows(ids, size, bos)
        return
    windows = token_windows(ids, size, bos)
    assert [len(window) for window in windows] == [size] * (length // size)
    for index, window in enumerate(windows):
        start = index * size
        assert window[0] == (start if bos is None else bos)
        assert window[1:] == ids[start + 1 : start + size]
    assert ids == list(range(length))


def test_a_window_has_something_to_score() -> None:
    with pytest.raises(InvalidInput, match="with 3 tokens, none can be scored"):
        token_windows(range(100), 3, None)


@given(st.integers(1, 60), st.integers(1, 60))
def test_windows_are_spread_evenly(length: int, count: int) -> None:
    items = list(range(length))
    chosen = spread(items, count)
    assert len(chosen) == min(count, length)
    assert chosen == sorted(set(chosen))
    gaps = np.diff([-1 - chosen[0], *chosen, 2 * length - 1 - chosen[-1]])  # mirrored at both ends
    assert gaps.max() - gaps[1:-1].min(initial=gaps.max()) <= 2 or count == 1


# -- standard errors


@given(st.lists(st.lists(finite, min_size=3, max_size=3), min_size=2, max_size=8))
def test_the_error_of_equal_clusters_is_that_of_their_means(values: list[list[float]]) -> None:
    found = clusters.mean([np.array(part) for part in values])
    means = np.mean(values, axis=1)
    assert found.value == pytest.approx(np.mean(values), abs=1e-9)
    assert found.error == pytest.approx(means.std(ddof=1) / math.sqrt(len(means)), abs=1e-9)


def correlated(rng: np.random.Generator, count: int, size: int) -> list[Doubles]:
    """Clusters whose values share most of their variance."""
    return [rng.standard_normal() + 0.5 * rng.standard_normal(size) for _ in range(count)]


@pytest.mark.parametrize("share", [None, 0.5, 0.9])
def test_errors_are_what_repeated_samples_scatter_by(share: float | None) -> None:
    rng = np.random.default_rng(0)

    def estimate() -> clusters.Estimate:
        sample = correlated(rng, 60, 40)
        return clusters.mean(sample) if share is None else clusters.quantile(sample, share)

    found = [estimate() for _ in range(200)]
    scatter = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(scatter, rel=0.2)


@given(
    st.lists(st.lists(finite, min_size=1, max_size=5), min_size=2, max_size=8),
    st.floats(0, 1),
)
def test_quantiles(values: list[list[float]], share: float) -> None:
    parts = [np.array(part) for part in values]
    found = clusters.quantile(parts, share)
    assert found.value == np.quantile(np.concatenate(parts), share)
    assert found.error >= 0
    every = np.concatenate(parts)
    assert found.error <= (every.max() - every.min()) / 2


# -- two models


def expected(
    a: Floats, b: Floats, windows: Sequence[Sequence[int]]
) -> tuple[Doubles, Doubles, Doubles]:
    """kl and both nll of what is scored, from the tables of two bigram models."""
    rows = [
        (window[at], window[at + 1])
        for window in windows
        for at in range(len(window) // 2, len(window) - 1)
    ]
    last, following = np.array(rows).T
    scores = score(a[last], b[last], following)
    return scores.kl, scores.nll_a, scores.nll_b


@examples(25)
@given(st.integers(0, 2**32 - 1), st.integers(4, 13))
def test_measure_scores_the_second_half_of_each_window(seed: int, size: int) -> None:
    a, b = random_logits(seed, 12, 12), random_logits(seed + 1, 12, 12)
    ids = np.random.default_rng(seed).integers(12, size=size * 7).tolist()
    windows = token_windows(ids, size, 0)
    steps: list[str] = []
    found = measure(Bigrams(a), Bigrams(b), windows, steps.append)
    kl, nll_a, nll_b = expected(a, b, windows)
    assert found.perplexity.b == pytest.approx(math.exp(nll_b.mean()))
    assert found.tokens == len(kl) == 7 * (size - 1 - size // 2)
    assert found.kl.mean == pytest.approx(kl.mean())
    assert found.kl.max == kl.max()
    assert found.kl.p99 == np.quantile(kl, 0.99)
    assert found.perplexity.a == pytest.approx(math.exp(nll_a.mean()))
    assert found.perplexity.ratio == pytest.approx(found.perplexity.b / found.perplexity.a)
    assert found.same_top1 <= 1
    assert found.noise_floor == found.candidate_noise_floor == 0  # a table has no rounding
    assert len(steps) == found.windows == 7


def test_a_model_is_at_no_distance_from_itself() -> None:
    table = random_logits(0, 30, 30)
    windows = token_windows(list(range(30)) * 4, 10, None)
    found = measure(Bigrams(table), Bigrams(table), windows)
    assert found.kl.mean == found.kl.max == found.kl.mean_se == found.kl_se.p99 == found.rms_dp == 0
    assert found.same_top1 == found.perplexity.ratio == 1
    assert found.perplexity.a > 1
    assert found.perplexity_se.a > 0
    assert found.perplexity_se.ratio == 0


def test_other_vocabularies_are_refused() -> None:
    windows = token_windows(range(20), 4, None)
    with pytest.raises(InvalidInput, match="20 tokens, and the reference 30"):
        measure(Bigrams(random_logits(0, 30, 30)), Bigrams(random_logits(0, 20, 20)), windows)


def test_windows_longer_than_the_context_are_refused() -> None:
    model = Bigrams(random_logits(0, 30, 30), context=8)
    with pytest.raises(InvalidInput, match="do not fit"):
        measure(model, model, token_windows(range(30), 9, None))


def test_one_window_has_no_error() -> None:
    model = Bigrams(random_logits(0, 30, 30))
    with pytest.raises(InvalidInput, match="requires at least two windows"):
        measure(model, model, [range(8)])


def test_errors_follow_from_the_values_by_the_delta_method() -> None:
    """Against the scatter of many texts of the same source."""
    rng = np.random.default_rng(0)

    def text() -> list[Scores]:
        parts = []
        for _ in range(50):
            level = rng.normal(3, 0.3)
            nll_a = level + rng.normal(0, 0.5, 20)
            nll_b = nll_a + rng.normal(0.05, 0.02) + rng.normal(0, 0.1, 20)
            dp = rng.normal(0, 0.02, 20)
            same = (rng.random(20) < level / 4).astype(np.float64)
            parts.append(Scores(dp**2, nll_a, nll_b, dp, same))
        return parts

    found = [summarise(text(), 42, (0.0, 0.0)) for _ in range(150)]
    figures: list[tuple[Callable[[Divergence], float], Callable[[Divergence], float]]] = [
        (lambda d: d.perplexity.a, lambda d: d.perplexity_se.a),
        (lambda d: d.perplexity.ratio, lambda d: d.perplexity_se.ratio),
        (lambda d: d.rms_dp, lambda d: d.rms_dp_se),
        (lambda d: d.same_top1, lambda d: d.same_top1_se),
        (lambda d: d.kl.mean, lambda d: d.kl.mean_se),
    ]
    for value, error in figures:
        scatter = np.std([value(one) for one in found])
        assert np.mean([error(one) for one in found]) == pytest.approx(scatter, rel=0.2)
