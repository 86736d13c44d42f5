"""Round the weights of a float graph: which weights, with which statistics, in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.models.graphs.sequential import goes_in_sequence, round_in_sequence
from edgeq.models.graphs.statistics import watch
from edgeq.models.graphs.weights import Decide, Weight, convolution_output, find_weights, settle
from edgeq.quantize.activations import static_range
from edgeq.quantize.decide import Decision
from edgeq.quantize.model import Choice, Quantized, SourceWeight, quantize_weights
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed, InputStatistics


def find_codes(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
    settle: Callable[[Weight, Decide], Decision] = settle,
    kept: Steps | None = None,
) -> dict[str, QuantizedTensor]:
    """The codes of every weight that `decide` assigns a grid, by name.

    For choices whose activations stay float32: codes are then the complete result for a weight.
    settle: a decision that the format at hand can carry out; by default ONNX's. kept: for this run;
    finished layers are stored there, and found after an interruption.
    """
    chosen = ChosenWeights(float_directory, decide, settle)
    _, found = chosen.quantize(feeds, progress, kept)
    return {name: quantized.tensor for name, quantized in found.items()}


@dataclass(frozen=True)
class Found:
    """Codes of weights and of their inputs, by the weight's name.

    ranges: of tensors around convolutions, which have their own range, by the tensor's name.
    """

    weights: dict[str, Quantized]
    ranges: dict[str, tuple[float, float]]


def find_quantized(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
    settle: Callable[[Weight, Decide], Decision] = settle,
) -> Found:
    """As `find_codes`, with the codes of activations if a choice requires them."""
    chosen = ChosenWeights(float_directory, decide, settle)
    statistics, found = chosen.quantize(feeds, progress)
    return Found(found, chosen.ranges(statistics))


class ChosenWeights:
    """A float graph and the decision for each of its weights.

    model: the graph. all_weights, decisions: every weight, and its decision by name. weights: those
    that are rounded. Raises InvalidInput if there are none.
    """

    def __init__(
        self,
        float_directory: Path,
        decide: Decide,
        settle: Callable[[Weight, Decide], Decision] = settle,
    ) -> None:
        self._directory = float_directory
        self.model = ir.load(float_directory / MODEL_FILE)
        self.all_weights = find_weights(self.model)
        self.decisions = {weight.name: settle(weight, decide) for weight in self.all_weights}
        self.weights = [weight for weight in self.all_weights if self.decisions[weight.name].choice]
        if not self.weights and not any(weight.stored for weight in self.all_weights):
            raise self._nothing(decide)

    def quantize(
        self, feeds: Sequence[Feed], progress: Progress, kept: Steps | None = None
    ) -> tuple[dict[str, InputStatistics], dict[str, Quantized]]:
        """Calibration statistics, by tensor, and codes, by weight."""
        choices = {weight.name: self._choice(weight) for weight in self.weights}
        later = [w for w in self.weights if feeds and goes_in_sequence(w, choices[w.name])]
        waiting = {weight.name for weight in later}
        first = [weight for weight in self.weights if weight.name not in waiting]
        seen = watch(self._directory, first, self.decisions, feeds, progress)
        sources = [_source(weight, choices[weight.name]) for weight in first]
        found = {}
        for name, quantized in quantize_weights(sources, seen):
            progress(f"quantize {name}")
            found[name] = quantized
        if later:
            fixed = {w.name: (w, found[w.name].tensor) for w in first if _is_exact(w, found)}
            pairs = [(weight, choices[weight.name]) for weight in later]
            codes = round_in_sequence(self._directory, pairs, fixed, feeds, progress, kept)
            found |= {name: Quantized(codes[name], None, None, "float32") for name in codes}
        return seen, {weight.name: found[weight.name] for weight in self.weights}

    def _choice(self, weight: Weight) -> Choice:
        choice = self.decisions[weight.name].choice
        assert choice is not None
        return choice

    def ranges(self, statistics: Mapping[str, InputStatistics]) -> dict[str, tuple[float, float]]:
        """Static ranges of the tensors around convolutions that have calibration statistics."""
        ranges = {}
        for weight in self.weights:
            choice = self.decisions[weight.name].choice
            if weight.role != "convolution" or choice is None or choice.ranges is None:
                continue
            for use in weight.uses:
                for value in (use.activation, convolution_output(use.node)):
                    name = value.name or ""
                    if name in statistics:
                        ranges[name] = static_range(statistics[name], choice.ranges)
        return ranges

    def _nothing(self, decide: Decide) -> InvalidInput:
        wanted = [w for w in self.all_weights if decide(w.name, w.shape_by_rows).choice is not None]
        if not wanted:
            return InvalidInput(
                Problem(
                    str(self._directory / MODEL_FILE),
                    "no weight of this model is to be quantized: every one is small or kept "
                    "float32",
                    "use the variant float32, or a rule that quantizes something",
                )
            )
        return InvalidInput(
            Problem(w.name, self.decisions[w.name].reason, "choose another variant, or float32")
            for w in wanted
        )


def _source(weight: Weight, choice: Choice) -> SourceWeight:
    met = weight.product.activation.name if weight.product is not None else None
    return SourceWeight(weight.name, weight.matrix, met, choice)


def _is_exact(weight: Weight, found: Mapping[str, Quantized]) -> bool:
    """Whether a weight's codes alone represent it, in its place in the graph."""
    is_matrix = weight.role in ("linear", "embedding", "tied")
    return is_matrix and found[weight.name].activations == "float32"
