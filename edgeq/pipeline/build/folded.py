"""ONNX artifacts by AWQ: rounded in a float graph that is folded first and computes the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgeq.core.terms import Progress
from edgeq.formats.onnx import write
from edgeq.formats.onnx.folded import fold_graph
from edgeq.models.graphs.weights import Weight
from edgeq.pipeline.build.stages import Stages
from edgeq.quantize.decide import Decision, decide
from edgeq.quantize.number_formats.groups import GRIDS, Grid
from edgeq.quantize.spec import Intent

_FOLDED_FILE = "folded.json"


def write_folded(stages: Stages, name: str, intent: Intent, destination: Path) -> write.Written:
    """Fold, round to the nearest code, and write; the record names the weights that were folded.

    Raises InvalidInput as `onnx.write_quantized` does.
    """

    def progress(step: str) -> None:
        stages.progress(f"{name}: {step}")

    graph = _folded(stages, intent, progress)
    written = write.write_quantized(graph, destination, _nearest(intent), [], progress)
    folded = set(json.loads((graph / _FOLDED_FILE).read_text(encoding="utf-8")))
    records = {
        tensor: record.model_copy(update={"method": "awq"}) if tensor in folded else record
        for tensor, record in written.tensors.items()
    }
    return replace(written, tensors=records)


def _folded(stages: Stages, intent: Intent, progress: Progress) -> Path:
    """A directory with the folded graph, made once for all that round the same weights alike."""
    tensors = stages.planned.model.tensors
    decisions = {n: decide(n, shape, intent) for n, shape in tensors.items()}
    wanted = {n: decision.grid for n, decision in decisions.items() if _is_by_awq(decision)}
    key = {**stages.float_key(), "grids": wanted, "calibration": stages.calibration_key()}

    def grid_of(weight: Weight) -> Grid | None:
        decision = decide(weight.name, weight.shape_by_rows, intent)
        return GRIDS[decision.grid] if _is_by_awq(decision) else None

    def make(place: Path) -> None:
        graph = stages.float_graph()
        progress("find factors of columns")
        folds = fold_graph(graph, place, grid_of, stages.feeds(graph))
        names = sorted(weight for fold in folds for weight in fold.weights)
        (place / _FOLDED_FILE).write_text(json.dumps(names), encoding="utf-8")

    return stages.store.stage("folded", key, make, describe=stages.planned.plan.source)


def _is_by_awq(decision: Decision) -> bool:
    return decision.method == "awq"


def _nearest(intent: Intent) -> Callable[[str, tuple[int, ...]], Decision]:
    """What is left to do once a graph is folded: AWQ rounds to the nearest code."""

    def decided(name: str, shape: tuple[int, ...]) -> Decision:
        decision = decide(name, shape, intent)
        if decision.choice is None or not _is_by_awq(decision):
            return decision
        return Decision(replace(decision.choice, method="nearest"), decision.reason)

    return decided
