"""How far one language model's predictions are from another's, token by token, on the same text.

The custom is llama.cpp's perplexity tool's: a text is cut into windows, the first token of each is
the beginning-of-text token where the tokenizer adds one, and only predictions from the second half
of a window are scored, so that each has context. KL(reference ‖ candidate) = Σ p·(ln p − ln q) over
the vocabulary, in nats, in float64. No value is clipped: where two models are equal, rounding
leaves divergences of ±1e-16, and a negative one is kept as it is, since clipping would bias means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.sampling import spread
from edgeq.core.terms import Progress
from edgeq.formats.language import LanguageModel
from edgeq.measure import clusters
from edgeq.measure.disagreement import Disagreement, Histogram, Worst, histogram
from edgeq.measure.predictions import Floats, LivePredictions, Predictions, following
from edgeq.measure.scoring import Scores, score

DEFAULT_WINDOW = 256
DEFAULT_WINDOWS = 40
"""With windows of 256, 5,080 scored tokens: five of them lie beyond the 99.9 % quantile."""
_NOISE_WINDOWS = 2


class KL(Frozen):
    """KL(reference ‖ candidate) of the next token's distribution over the scored tokens, nats."""

    mean: float
    mean_se: float = Field(description="Standard error of the mean, clustered by window.")
    median: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float


class KLErrors(Frozen):
    """Standard errors of the quantiles in `KL`, clustered by window."""

    median: float
    p90: float
    p95: float
    p99: float
    p999: float


class Perplexity(Frozen):
    """exp of the mean negative log-likelihood of the text's tokens; or standard errors of it."""

    a: float = Field(description="Of the reference.")
    b: float = Field(description="Of the candidate.")
    ratio: float = Field(description="b / a.")


class Divergence(Frozen):
    """Distance of a candidate from its reference on one text."""

    kl: KL
    same_top1: float = Field(description="Share of tokens with the same likeliest next token.")
    perplexity: Perplexity
    noise_floor: float = Field(
        description="Mean KL of the reference from itself when the text goes through the KV cache "
        "token by token, on two of the windows. A mean KL near it means nothing."
    )
    tokens: int = Field(description="Predictions scored.")
    kl_se: KLErrors
    same_top1_se: float
    perplexity_se: Perplexity
    rms_dp: float = Field(
        description="Root mean square of the difference of the probability that candidate and "
        "reference give the token that follows in the text."
    )
    rms_dp_se: float
    candidate_noise_floor: float = Field(
        description="The candidate's own, taken as the reference's. Kernels for quantized weights "
        "round activations, so it is often the larger one."
    )
    windows: int
    window: int = Field(description="Tokens of a window; the predictions of half of it count.")
    histogram: Histogram | None = Field(default=None, description="Of the KL of every token.")
    worst: tuple[Disagreement, ...] = Field(
        default=(), description="Where the two disagree most, the largest KL first."
    )
    how: Literal["measured"] = "measured"


def token_windows(ids: Sequence[int], size: int, bos: int | None) -> list[list[int]]:
    """`ids` cut into windows of `size`, a shorter rest left out; `bos` replaces each first token.

    Raises InvalidInput for windows of fewer than 4 tokens and for a text shorter than two windows.
    """
    if size < 4:
        raise InvalidInput(Problem("window", f"{size} tokens leave none to score", "give ≥ 4"))
    if len(ids) < 2 * size:
        what = f"the text has {len(ids)} tokens, and two windows of {size} are the least"
        raise InvalidInput(Problem("text", what, "give a longer text, or a shorter window"))
    windows = [list(ids[start : start + size]) for start in range(0, len(ids) - size + 1, size)]
    if bos is not None:
        for window in windows:
            window[0] = bos
    return windows


def measure(
    reference: LanguageModel | Predictions,
    candidate: LanguageModel,
    windows: Sequence[Sequence[int]],
    progress: Progress = lambda step: None,
) -> Divergence:
    """Run both models on every window (see `token_windows`) and compare their predictions.

    reference: a model, or its predictions of these windows.

    Memory: the logits of one window of both models; of every token five numbers are kept, and of
    the worst few their context.
    Raises InvalidInput where the vocabularies differ, a window does not fit a model's context, or
    a model gives values that are not numbers.
    """
    if reference.vocabulary != candidate.vocabulary:
        what = f"{candidate.vocabulary} tokens, and the reference {reference.vocabulary}"
        raise InvalidInput(Problem("vocabulary", what, "compare models of one tokenizer"))
    if len(windows) < 2:
        what = "two windows are the least that have an error"
        raise InvalidInput(Problem("windows", what, "give more text, or a shorter window"))
    begun = time.monotonic()
    first = reference if isinstance(reference, Predictions) else LivePredictions(reference)
    both = (first, LivePredictions(candidate))
    scores, noise, worst = [], [], Worst(candidate)
    noisy = noisy_windows(len(windows))
    for index, window in enumerate(windows):
        logits = [predictions.scored(window) for predictions in both]
        scores.append(score(logits[0], logits[1], following(window)))
        worst.add(index, window, logits, scores[-1].kl)
        if index in noisy:
            noise.append(_noise(both, index, window, logits))
        left = (time.monotonic() - begun) / (index + 1) * (len(windows) - index - 1)
        progress(f"compare: window {index + 1} of {len(windows)}, about {left:.0f} s left")
    floors = np.mean(noise, axis=0)
    found = summarise(scores, len(windows[0]), (float(floors[0]), float(floors[1])))
    return found.model_copy(update={"worst": worst.found()})


def _noise(
    both: Sequence[Predictions], index: int, window: Sequence[int], logits: Sequence[Floats]
) -> list[float]:
    pairs = zip(both, logits, strict=True)
    return [predictions.noise(index, window, whole) for predictions, whole in pairs]


def noisy_windows(count: int) -> list[int]:
    """Which of `count` windows noise floors are taken on."""
    return spread(range(count), _NOISE_WINDOWS)


def summarise(
    windows: Sequence[Scores], window: int, noise_floors: tuple[float, float]
) -> Divergence:
    """The figures of all windows together; their errors take a window as one cluster.

    window: its tokens. noise_floors: of reference and candidate. Errors of perplexities, their
    ratio and the root mean square are those of the mean they are a function of, times its slope
    (delta method).
    """
    kl = [scores.kl for scores in windows]
    nll_a, nll_b = [s.nll_a for s in windows], [s.nll_b for s in windows]
    mean_a, mean_b = clusters.mean(nll_a), clusters.mean(nll_b)
    ratio = clusters.mean([b - a for a, b in zip(nll_a, nll_b, strict=True)])
    perplexity = Perplexity(
        a=math.exp(mean_a.value), b=math.exp(mean_b.value), ratio=math.exp(ratio.value)
    )
    same, squared = (
        clusters.mean([s.same for s in windows]),
        clusters.mean([s.dp**2 for s in windows]),
    )
    rms = math.sqrt(squared.value)
    mean = clusters.mean(kl)
    quantiles = {
        name: clusters.quantile(kl, share)
        for name, share in (
            ("median", 0.5),
            ("p90", 0.9),
            ("p95", 0.95),
            ("p99", 0.99),
            ("p999", 0.999),
        )
    }
    return Divergence(
        kl=KL(
            mean=mean.value,
            mean_se=mean.error,
            max=max(float(part.max()) for part in kl),
            **{name: found.value for name, found in quantiles.items()},
        ),
        kl_se=KLErrors(**{name: found.error for name, found in quantiles.items()}),
        same_top1=same.value,
        same_top1_se=same.error,
        perplexity=perplexity,
        perplexity_se=Perplexity(
            a=perplexity.a * mean_a.error,
            b=perplexity.b * mean_b.error,
            ratio=perplexity.ratio * ratio.error,
        ),
        rms_dp=rms,
        rms_dp_se=squared.error / (2 * rms) if rms else 0.0,
        noise_floor=noise_floors[0],
        candidate_noise_floor=noise_floors[1],
        tokens=sum(map(len, kl)),
        windows=len(windows),
        window=window,
        histogram=histogram(np.concatenate(kl)),
    )
