"""Observations of the quality budgets, each with its interval and sample count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from edgeq.measure.divergence import Divergence
from edgeq.measure.intervals import (
    Bounds,
    effective_count,
    samples_for_share,
    share_bounds,
    student_95,
)
from edgeq.measure.records import LanguageQuality, OutputQuality, Score
from edgeq.pipeline.check.standpoint import Standpoint
from edgeq.pipeline.check.subject import Observation


class QualityObservations(Standpoint):
    """Reads the quality pass of a subject for one device."""

    def cosine(self) -> Observation:
        """Mean cosine with the full-precision outputs."""
        return self.worst_output(lambda o: (o.cosine_mean, o.cosine_mean_bounds), min)

    def error(self) -> Observation:
        """Relative RMS error of the outputs."""
        return self.worst_output(lambda o: (o.relative_rms_error, o.relative_rms_error_bounds), max)

    def spearman(self) -> Observation:
        """Spearman correlation with the scores of the evaluation data."""
        quality = self.measured.quality
        if quality is None:
            return self.no_quality()
        how, reason = self.how(quality.conditions)
        if quality.spearman is None:
            reason = "the evaluation data have no scores that vary"
            remedy = "add a column 'score' to them, or remove this budget"
            return Observation(how="not run", reason=reason, remedy=remedy)
        bounds = quality.spearman_bounds
        pairs = min(output.samples for output in quality.outputs.values()) // 2
        return Observation(
            value=quality.spearman,
            low=bounds.low if bounds else None,
            high=bounds.high if bounds else None,
            float_value=quality.float_spearman,
            how=how,
            reason=reason,
            samples=pairs,
            noun="pairs",
        )

    def kl(self) -> Observation:
        """The mean KL divergence, with the noise floor due to rounding."""
        seen = self._divergence(lambda found: (found.kl.mean, found.kl.mean_se))
        quality = self.measured.language
        if quality is None:
            return seen
        found = quality.divergence
        floors = (found.noise_floor, found.candidate_noise_floor)
        noise = f"noise floor {floors[0]:.1e} of full precision, {floors[1]:.1e} of its own"
        return replace(seen, reason="; ".join(filter(None, [noise, seen.reason])))

    def kl_p99(self) -> Observation:
        """The 99 % quantile of the KL divergence over tokens."""
        seen = self._divergence(lambda found: (found.kl.p99, found.kl_se.p99))
        quality = self.measured.language
        if quality is None or quality.divergence.tokens >= (samples_for_share(0.99) or 0):
            return seen
        return replace(seen, high=None)  # with so few tokens, all may lie below it

    def perplexity(self) -> Observation:
        """Perplexity divided by that of full precision."""
        return self._divergence(lambda found: (found.perplexity.ratio, found.perplexity_se.ratio))

    def top1(self) -> Observation:
        """The share of largest outputs, or most likely tokens, that stay the same."""
        if self.measured.quality is not None:
            return self.worst_output(lambda o: (o.top1_agreement, o.top1_bounds), min)
        quality = self.measured.language
        if quality is None:
            return self.no_quality()
        found = quality.divergence
        worth = effective_count(found.same_top1, found.same_top1_se, found.tokens)
        return self._in_windows(quality, found.same_top1, share_bounds(found.same_top1, worth))

    def score(self, metric: str) -> Observation:
        """A metric of the task."""
        quality = self.measured.quality or self.measured.language
        if quality is None:
            return self.no_quality()
        how, reason = self.how(quality.conditions)
        found = quality.scores.get(metric)
        if found is None and quality is self.measured.language:
            reason, remedy = "no questions were asked", "add data.questions, or remove this budget"
            return Observation(how="not run", reason=reason, remedy=remedy)
        if found is None:
            reason, remedy = _without_score(metric, quality.scores)
            return Observation(how="not run", reason=reason, remedy=remedy)
        return Observation(
            value=found.value,
            low=found.bounds.low if found.bounds else None,
            high=found.bounds.high if found.bounds else None,
            float_value=found.original,
            how=how,
            reason=reason,
            samples=found.samples,
            noun=found.noun,
        )

    def worst_output(
        self,
        read: Callable[[OutputQuality], tuple[float | None, Bounds | None]],
        pick: Callable[[list[float]], float],
    ) -> Observation:
        """The worst of all outputs, which decides for the model."""
        quality = self.measured.quality
        if quality is None:
            return self.no_quality()
        how, reason = self.how(quality.conditions)
        found = [(*read(output), output.distinct) for output in quality.outputs.values()]
        known = [(value, bounds, count) for value, bounds, count in found if value is not None]
        if not known:
            reason = "no output has it: that takes rows of two or more floats, or varying values"
            return Observation(how="not run", reason=reason, remedy="remove this budget")
        bounds = [own for _, own, _ in known if own is not None]
        return Observation(
            value=pick([value for value, _, _ in known]),
            low=pick([own.low for own in bounds]) if bounds else None,
            high=pick([own.high for own in bounds]) if bounds else None,
            how=how,
            reason=reason,
            samples=min(count for _, _, count in known),
        )

    def _divergence(self, read: Callable[[Divergence], tuple[float, float]]) -> Observation:
        """A figure of a language model's divergence and its standard error, read by `read`."""
        quality = self.measured.language
        if quality is None:
            return self.no_quality()
        value, error = read(quality.divergence)
        half = student_95(quality.divergence.windows) * error
        return self._in_windows(quality, value, Bounds(low=value - half, high=value + half))

    def _in_windows(self, quality: LanguageQuality, value: float, bounds: Bounds) -> Observation:
        how, reason = self.how(quality.conditions)
        return Observation(
            value=value,
            low=bounds.low,
            high=bounds.high,
            how=how,
            reason=reason,
            samples=quality.divergence.windows,
            noun="windows",
        )

    def no_quality(self) -> Observation:
        """The observation for a missing quality result, with the reason."""
        absent = self.absent("quality", None)
        if absent is not None:
            return absent
        failure = self.measured.failures.get("quality", "")
        unknown = self.baseline.failures.get("quality")
        if failure:
            how, reason = self.how()
            return Observation(how=how, reason=reason, failure=failure)
        if unknown:
            reason = f"full precision has no results to compare with: {unknown}"
            return Observation(how="not run", reason=reason, remedy="rebuild the float model")
        remedy = "add data: {evaluation: {path: …}} to the recipe"
        return Observation(how="not run", reason="no evaluation data", remedy=remedy)


_BESIDE_FILES = {
    "agreement": (
        "the original finds no object in the evaluation data",
        "choose images that show some, or lower model.detection.threshold",
    ),
    "wer_rise": (
        "the evaluation data have no texts",
        "write them into transcripts.tsv next to the recordings, or remove this budget",
    ),
    "map_drop": (
        "the evaluation data have no boxes",
        "describe them in annotations.json next to the images, or remove this budget",
    ),
}


def _without_score(metric: str, scores: Mapping[str, Score]) -> tuple[str, str]:
    """Why the data do not allow a metric, and the remedy."""
    if metric in _BESIDE_FILES:
        return _BESIDE_FILES[metric]
    if "accuracy" in scores:
        return f"too few classes for {metric}: it takes more than five", "remove this budget"
    nouns = {score.noun for score in scores.values()}
    if "queries" in nouns or not nouns:
        what = "the evaluation data have no query with several texts, or no relevance"
        return what, "add a column 'relevance' to them, or remove this budget"
    if "tokens" in nouns:
        what = "the evaluation data label no part of a text"
        return what, "give a .jsonl with 'entities', or remove this budget"
    given = "put each image into a directory named by its label"
    remedy = given if "images" in nouns else "add a column 'label' to them"
    return "the evaluation data have no labels", f"{remedy}, or remove this budget"
