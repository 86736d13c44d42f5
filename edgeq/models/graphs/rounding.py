"""Round the weights of a float graph: which weights, with which statistics, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.regions import Region, inputs_of, region_of, result_of
from edgeq.models.graphs.sequential import goes_in_sequence, round_in_sequence
from edgeq.models.graphs.statistics import watch
from edgeq.models.graphs.weights import (
    SLOWER,
    STORED,
    Decide,
    Weight,
    find_weights,
    settle,
    small_filters,
)
from edgeq.quantize.activations import static_range
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods import plain_method
from edgeq.quantize.model import Choice, Quantized, SourceWeight, quantize_weights
from edgeq.quantize.number_formats import QuantizedTensor, number_format
from edgeq.quantize.number_formats.integers import INT8_STORED
from edgeq.quantize.statistics import Feed, InputStatistics, Observed, merged

FindRegion = Callable[
    [Iterable[Weight], Mapping[str, Decision]], tuple[Region, list[Weight], dict[str, Decision]]
]
SMALL = "small, and between convolutions in codes"
"""The reason for filters that are too small to save bytes, but not to save time."""


def find_codes(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
    settle: Callable[[Weight, Decide], Decision] = settle,
    kept: Steps | None = None,
) -> dict[str, QuantizedTensor]:
    """The codes of every weight that `decide` assigns a number format, by name.

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

    ranges: of tensors in the region of convolutions, by the tensor's name.
    """

    weights: dict[str, Quantized]
    ranges: dict[str, tuple[float, float]]


def find_quantized(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
    settle: Callable[[Weight, Decide], Decision] = settle,
    observed: Observed | None = None,
) -> Found:
    """Like `find_codes`, with the codes of activations if a choice requires them.

    observed: as for `watch`.
    """
    chosen = ChosenWeights(float_directory, decide, settle, observed=observed)
    statistics, found = chosen.quantize(feeds, progress)
    return Found(found, chosen.ranges(statistics))


def codes_from_end_to_end(
    weights: Iterable[Weight],
    decisions: Mapping[str, Decision],
    loud: Mapping[str, float] | None = None,
) -> tuple[Region, list[Weight], dict[str, Decision]]:
    """The region of convolutions whose inputs are to be coded, and what it changes.

    loud: tensors that must not be coded, with what that would change of the answers.

    Also returns small filters that are then in codes as well, since one float operator between two
    in codes costs more than it takes, and decisions for these, and for those for which codes are
    slower.
    """
    coded = _coded(weights, decisions)
    if not coded:
        return Region(), [], {}
    graph = coded[0].uses[0].node.graph
    assert isinstance(graph, ir.Graph)
    small = [w for w in small_filters(graph) if not w.obstacle]
    region = region_of([*coded, *small], loud or {})
    alike = decisions[coded[0].name].choice
    assert alike is not None
    in_codes = replace(alike, method=plain_method(number_format(alike.number_format)).name)
    in_floats = Choice(INT8_STORED.name, in_codes.method, "float32", None)
    changed = {
        weight.name: Decision(in_floats, _why_floats(weight, loud or {}))
        for weight in coded
        if _is_slower(weight, region)
    }
    joined = [weight for weight in small if not _is_slower(weight, region)]
    return region, joined, changed | {w.name: Decision(in_codes, SMALL) for w in joined}


def _why_floats(weight: Weight, loud: Mapping[str, float]) -> str:
    around = [v.name for use in weight.uses for v in (use.activation, result_of(use.node))]
    most = max((loud.get(name or "", 0.0) for name in around), default=0.0)
    if not most:
        return SLOWER
    return f"{STORED}: codes there change the answers by {most:.0%}"


def _is_slower(weight: Weight, region: Region) -> bool:
    return any(id(use.node) in region.slower for use in weight.uses)


def _only_inputs(
    weights: Iterable[Weight], decisions: Mapping[str, Decision]
) -> tuple[Region, list[Weight], dict[str, Decision]]:
    """For runtimes that choose by themselves what they compute in codes."""
    return inputs_of(_coded(weights, decisions)), [], {}


def _coded(weights: Iterable[Weight], decisions: Mapping[str, Decision]) -> list[Weight]:
    """The weights of convolutions whose inputs are to be coded."""
    chosen = [(weight, decisions[weight.name].choice) for weight in weights]
    return [w for w, choice in chosen if choice and choice.ranges and w.role == "convolution"]


class ChosenWeights:
    """A float graph and the decision for each of its weights.

    find_region: what to do with convolutions whose inputs are to be coded. observed: as for
    `watch`. model: the graph.
    all_weights, decisions: every weight, and its decision by name. weights: those
    that are rounded. Raises InvalidInput if there are none.
    """

    def __init__(
        self,
        float_directory: Path,
        decide: Decide,
        settle: Callable[[Weight, Decide], Decision] = settle,
        find_region: FindRegion = _only_inputs,
        observed: Observed | None = None,
    ) -> None:
        self._directory, self._observed = float_directory, observed
        self.model = load_graph(float_directory)
        self.all_weights = find_weights(self.model)
        self.decisions = {weight.name: settle(weight, decide) for weight in self.all_weights}
        self.region, joined, changed = find_region(self.all_weights, self.decisions)
        self.all_weights += joined
        self.decisions |= changed
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
        around = self.region.watched
        data = feeds, progress, around, self._observed
        seen = watch(self._directory, first, self.decisions, *data)
        sources = [_source(weight, choices[weight.name]) for weight in first]
        found = {}
        for name, quantized in quantize_weights(sources, {**seen, **_met_together(first, seen)}):
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
        """Static ranges of tensors in the region of convolutions; zero for tensors never seen."""
        chosen = [self._choice(weight).ranges for weight in self.weights]
        ranges = next((each for each in chosen if each), "")
        found = {
            name: static_range(statistics[name], ranges) if name in statistics else (0.0, 0.0)
            for name in self.region.watched
        }
        return found | {name: found[source] for name, source in self.region.same.items()}

    def _nothing(self, decide: Decide) -> InvalidInput:
        wanted = [w for w in self.all_weights if decide(w.name, w.shape_by_rows).choice is not None]
        if not wanted:
            return InvalidInput(
                Problem(
                    "quantize",
                    "no weight of this model is to be quantized: every one is small or kept "
                    "float32",
                    "write 'default: float32', or a rule that quantizes something",
                )
            )
        return InvalidInput(
            Problem(
                f"the weight {w.name!r}",
                self.decisions[w.name].reason,
                "write another variant, or 'default: float32'",
            )
            for w in wanted
        )


def _source(weight: Weight, choice: Choice) -> SourceWeight:
    return SourceWeight(weight.name, weight.matrix, " and ".join(_met(weight)) or None, choice)


def _met(weight: Weight) -> list[str]:
    """The tensors that it multiplies, where calibration can look."""
    uses = (use for use in weight.uses if use.role == "linear" and use.in_main_graph)
    return list(dict.fromkeys(use.activation.name or "" for use in uses))


def _met_together(
    weights: Sequence[Weight], seen: Mapping[str, InputStatistics]
) -> dict[str, InputStatistics]:
    """Statistics of what meets a weight that multiplies several tensors, by their joined names."""
    joined = {}
    for names in map(_met, weights):
        present = [seen[name] for name in names if name in seen]
        if len(names) > 1 and present:
            joined[" and ".join(names)] = merged(present)
    return joined


def _is_exact(weight: Weight, found: Mapping[str, Quantized]) -> bool:
    """Whether a weight's codes alone represent it, in its place in the graph."""
    is_matrix = weight.role in ("linear", "embedding", "tied")
    return is_matrix and found[weight.name].activations == "float32"
