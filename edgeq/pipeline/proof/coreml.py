"""Compares a Core ML program in float32 with the graph it was written from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.constants import identifier
from edgeq.formats.coreml.executor import Evaluated, load
from edgeq.pipeline.proof.onnx_original import OnnxOriginal, open_original, watched
from edgeq.pipeline.proof.onnx_prove import distance

Array = npt.NDArray[Any]
TOLERANCE = 1e-4
"""Relative difference of a tensor: float32 sums may be taken in different orders."""
_REMEDY = "target another format; or report it with this line"


def prove_package(
    graph: Path, package: Path, feed: Mapping[str, Array], given: Mapping[str, Array]
) -> float:
    """Run the float graph in the directory `graph` on `feed`, and the package on `given`.

    given: the same sample in the package's inputs. Returns the largest difference of an output.
    Raises InvalidInput if one exceeds `TOLERANCE`, naming the first operator that differs.
    """
    original = open_original(graph / MODEL_FILE)
    names = [value.name for value in original.outputs]
    seen: dict[str, Array] = {}

    def look(each: Evaluated) -> None:
        if len(each.outputs) == 1:
            seen[each.operation.name] = np.asarray(each.outputs[0])

    program = load(package)
    answer = program.predict(given, program.make_state(), watch=look)
    wanted = dict(zip(names, original.run(feed), strict=True))
    worst = max(
        distance(np.asarray(answer[name]).astype(wanted[name].dtype), wanted[name])
        for name in names
    )
    if not worst <= TOLERANCE:
        part = _parting(original, feed, seen)
        what = f"its Core ML program is not the model: outputs differ by {worst:.1e}; {part}"
        raise InvalidInput(Problem(package.name, what, _REMEDY))
    return worst


def _parting(original: OnnxOriginal, feed: Mapping[str, Array], seen: Mapping[str, Array]) -> str:
    """The first operator of the graph whose namesake in the program gives another result."""
    model = onnx.load(original.path, load_external_data=False)
    pairs = [
        (node, seen[identifier(node.name)])
        for node in model.graph.node
        if identifier(node.name) in seen and node.output[0]
    ]
    if pairs:
        wanted = watched(original.path, [node.output[0] for node, _ in pairs]).run(feed)
        for (node, found), value in zip(pairs, wanted, strict=True):
            if distance(found.astype(value.dtype), value) > TOLERANCE:
                return f"they diverge at {node.op_type} {node.name!r}"
    return "no operator with the same name differs"
