"""Calibration statistics of the tensors that are multiplied with a graph's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.terms import Progress
from edgeq.core.threads import threads_of_each
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.weights import Weight, find_weights
from edgeq.models.onnx_session import Session, open_graph
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.statistics import Feed, InputStatistics, Observed, collect

Power = tuple[NDArray[np.float64], int]
"""Mean square of each input column, float64 `(columns,)`, and the rows it is the mean of."""
_SHARED_BYTES = 1 << 29  # of one variant; more is observed again rather than held


def watch(
    float_directory: Path,
    chosen: Sequence[Weight],
    decisions: Mapping[str, Decision],
    feeds: Sequence[Feed],
    progress: Progress,
    around: Sequence[str] = (),
    observed: Observed | None = None,
) -> dict[str, InputStatistics]:
    """Statistics of every tensor that a choice depends on, by the tensor's name.

    around: tensors of the region of convolutions, which need no more than a range. observed: what
    is there is not observed again, and what is observed is added.
    """
    tensors = dict.fromkeys(around, 0)
    hessians: set[str] = set()
    samples: set[str] = set()
    labels: dict[str, str] = {}
    for weight in chosen:
        choice = decisions[weight.name].choice
        assert choice is not None
        reads = rounding_method(choice.method).reads
        for use in (use for use in weight.uses if use.in_main_graph):
            name = use.activation.name or ""
            if use.role == "linear" and (choice.activations != "float32" or reads != "nothing"):
                tensors[name] = weight.shape[0 if use.inputs_first else 1]
                labels.setdefault(name, input_of(weight.name))
                if reads == "moments":
                    hessians.add(name)
                if choice.activations != "float32":
                    samples.add(name)
    spread = frozenset(around) - samples
    kinds = {name: (name, name in hessians, name in samples, name in spread) for name in tensors}
    known = {} if observed is None else observed
    found = {name: known[kind] for name, kind in kinds.items() if kind in known}
    missing = {name: columns for name, columns in tensors.items() if name not in found}
    if missing and feeds:
        progress(f"calibrate on {len(feeds)} samples")
        session = open_watched(float_directory, list(missing))
        kept = frozenset(hessians & missing.keys()), frozenset(samples), spread
        found |= collect(session, missing, feeds, *kept, labels)
    if sum(each.nbytes for each in found.values()) <= _SHARED_BYTES:
        known.update((kinds[name], each) for name, each in found.items())
    return {name: found[name] for name in tensors if name in found}


def input_powers(float_directory: Path, feeds: Sequence[Feed]) -> dict[str, Power]:
    """The input power of each weight of `model.onnx`, as in llama.cpp's importance matrix.

    By the weight's name, for every weight of 4096 or more values that a node outside subgraphs
    multiplies by; power times rows is llama.cpp's sum of squares. A table that is also the output
    layer has the power of the output layer's input. destination: as for `watch`.
    """
    tensors: dict[str, int] = {}
    names: dict[str, str] = {}
    for weight in find_weights(load_graph(float_directory)):
        if weight.product is not None:
            name = weight.product.activation.name or ""
            names[weight.name] = name
            tensors[name] = weight.shape[0 if weight.product.inputs_first else 1]
    session = open_watched(float_directory, list(tensors))
    labels = {name: input_of(weight) for weight, name in names.items()}
    found = collect(session, tensors, feeds, frozenset(), frozenset(), labels=labels)
    return {
        weight: (found[name].power, found[name].count)
        for weight, name in names.items()
        if name in found
    }


def input_of(weight: str) -> str:
    """What an error calls the tensor that a weight is multiplied with."""
    return f"the input of the weight {weight!r}"


def open_watched(float_directory: Path, names: list[str]) -> Session:
    """The graph with the named tensors, unless they are inputs, as its only outputs."""
    model = ir.load(float_directory / MODEL_FILE)
    values = {value.name: value for node in model.graph for value in node.outputs}
    wanted = [values[name] for name in names if name in values]
    for value in wanted:
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    if wanted:  # otherwise all are inputs, and a graph needs an output
        model.graph.outputs[:] = wanted
    graph = ir.to_proto(model).SerializeToString()
    return open_graph(graph, float_directory, threads=threads_of_each())
