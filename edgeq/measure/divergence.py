"""Divergence of one language model's predictions from another's, token by token, on the same text.

The conventions are those of llama.cpp's perplexity tool: a text is cut into windows, the first
token of each is the beginning-of-text token if the tokenizer adds one, and only predictions from
the second half of a window are scored, so that each has context. KL(reference ‖ candidate) = Σ
p·(ln p − ln q) over the vocabulary, in nats, in float64. No value is clipped: if two models are
equal, rounding leaves divergences of ±1e-16, and negative ones are kept, since clipping would bias
means.
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

    a: float = Field(description="Perplexity of the reference.")
    b: float = Field(description="Perplexity of the candidate.")
    ratio: float = Field(description="b / a.")


class Divergence(Frozen):
    """Distance of a candidate from its reference on one text."""

    kl: KL
    same_top1: float = Field(description="Share of tokens with the same most likely next token.")
    perplexity: Perplexity
    noise_floor: float = Field(
        description="Mean KL of the reference from itself when the text is run token by token "
        "through the KV cache, on two of the windows. A mean KL near it is meaningless."
    )
    tokens: int = Field(description="Number of predictions scored.")
    kl_se: KLErrors
    same_top1_se: float
    perplexity_se: Perplexity
    rms_dp: float = Field(
        description="Root mean square of the difference in probability that candidate and "
        "reference give the next token of the text."
    )
    rms_dp_se: float
    candidate_noise_floor: float = Field(
        description="The candidate's noise floor, measured like the reference's. Kernels for "
        "quantized weights round activations, so it is often the larger one."
    )
    windows: int
    window: int = Field(description="Tokens per window; predictions of its second half are scored.")
    histogram: Histogram | None = Field(
        default=None, description="Histogram of the KL of every token."
    )
    worst: tuple[Disagreement, ...] = Field(
        default=(), description="Places where the two disagree most, largest KL first."
    )
    how: Literal["measured"] = "measured"


def token_windows(ids: Sequence[int], size: int, bos: int | None) -> list[list[int]]:
    """Cut `ids` into windows of `size`, without a shorter rest; `bos` replaces each first token.

    Raises InvalidInput for windows of fewer than 4 tokens and for a text shorter than two windows.
    """
    if size < 4:
        raise InvalidInput(Problem("window", f"with {size} tokens, none can be scored", "give ≥ 4"))
    if len(ids) < 2 * size:
        what = f"the text has {len(ids)} tokens, and at least two windows of {size} are required"
        raise InvalidInput(Problem("text", what, "give a longer text, or a shorter window"))
    windows = [list(ids[start : start + size]) for start in range(0, len(ids) - size + 1, size)]
    if bos is not None:
        for window in windows:
            window[0] = bos
    return windows


def measure(
    reference: LanguageModel | Predictions,
    candidate: LanguageModel | LivePredictions,
    windows: Sequence[Sequence[int]],
    progress: Progress = lambda step: None,
) -> Divergence:
    """Run both models on every window (see `token_windows`) and compare their predictions.

    reference: a model, or its predictions for these windows.

    Memory: the logits of one window of both models; for every token five numbers are kept, and for
    the worst few their context. Raises InvalidInput if the vocabularies differ, a window does not
    fit a model's context, or a model gives values that are not numbers.
    """
    if reference.vocabulary != candidate.vocabulary:
        what = f"{candidate.vocabulary} tokens, and the reference {reference.vocabulary}"
        raise InvalidInput(Problem("vocabulary", what, "compare models of one tokenizer"))
    if len(windows) < 2:
        what = "a standard error requires at least two windows"
        raise InvalidInput(Problem("windows", what, "give more text, or a shorter window"))
    begun = time.monotonic()
    first = reference if isinstance(reference, Predictions) else LivePredictions(reference)
    second = candidate if isinstance(candidate, LivePredictions) else LivePredictions(candidate)
    both = (first, second)
    scores, noise, worst = [], [], Worst(second.model)
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
    """The indices among `count` windows on which noise floors are measured."""
    return spread(range(count), _NOISE_WINDOWS)


def summarise(
    windows: Sequence[Scores], window: int, noise_floors: tuple[float, float]
) -> Divergence:
    """Combine the figures of all windows; errors treat a window as one cluster.

    window: its number of tokens. noise_floors: of reference and candidate. Errors of perplexities,
    their ratio and the root mean square are computed from those of the mean by the delta method.
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
