"""ONNX artifacts of methods that fold: the float graph is changed first, and computes the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgeq.core.terms import Progress
from edgeq.formats.onnx import write
from edgeq.formats.onnx.folded import fold_graph
from edgeq.models.graphs.weights import Weight
from edgeq.pipeline.build.stages import Stages
from edgeq.quantize.decide import Decision, decide
from edgeq.quantize.methods import ROUNDING_METHODS, RoundingMethod, rounding_method
from edgeq.quantize.number_formats import NumberFormat, number_format
from edgeq.quantize.spec import Intent

_FOLDED_FILE = "folded.json"


def write_folded(stages: Stages, name: str, intent: Intent, destination: Path) -> write.Written:
    """Fold, round, and write; the record names the weights that were folded.

    Raises InvalidInput as `onnx.write_quantized` does.
    """

    def progress(step: str) -> None:
        stages.progress(f"{name}: {step}")

    def decided(tensor: str, shape: tuple[int, ...]) -> Decision:
        return decide(tensor, shape, intent)

    graph = _folded(stages, intent, progress)
    written = write.write_quantized(graph, destination, decided, [], progress)
    folded = set(json.loads((graph / _FOLDED_FILE).read_text(encoding="utf-8")))
    as_folded = {"method": intent.variant.method}
    records = {
        tensor: record.model_copy(update=as_folded) if tensor in folded else record
        for tensor, record in written.tensors.items()
    }
    return replace(written, tensors=records)


def _folded(stages: Stages, intent: Intent, progress: Progress) -> Path:
    """A directory with the folded graph, made once for all that round the same weights alike."""
    tensors = stages.planned.model.tensors
    decisions = {n: decide(n, shape, intent) for n, shape in tensors.items()}
    wanted = {
        n: [decision.number_format, decision.method]
        for n, decision in decisions.items()
        if _folds(decision)
    }
    key = {**stages.float_key(), "number_formats": wanted, "calibration": stages.calibration.key()}
    key |= stages.extensions

    def foldable(weight: Weight) -> tuple[RoundingMethod, NumberFormat] | None:
        decision = decide(weight.name, weight.shape_by_rows, intent)
        if not _folds(decision):
            return None
        return rounding_method(decision.method), number_format(decision.number_format)

    def make(place: Path) -> None:
        graph = stages.float_graph()
        progress("find factors of columns")
        folds = fold_graph(graph, place, foldable, stages.feeds(graph))
        names = sorted(weight for fold in folds for weight in fold.weights)
        (place / _FOLDED_FILE).write_text(json.dumps(names), encoding="utf-8")

    return stages.store.stage("folded", key, make, describe=stages.planned.plan.source)


def _folds(decision: Decision) -> bool:
    method = ROUNDING_METHODS.get(decision.method)
    return method is not None and method.folds_graph
