"""Core ML's program of a model in float32, compared with its graph before anything is quantized."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core import canonical
from edgeq.core.artifact import COREML_PACKAGE
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.executor.images import pixels
from edgeq.formats.coreml.lengths import fitted
from edgeq.formats.coreml.write import export_graph_coreml
from edgeq.formats.coreml.write_images import Image
from edgeq.models.graphs.rounding import Found
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.images import image_of
from edgeq.pipeline.proof.coreml import prove_package

Array = npt.NDArray[Any]
_PROOF_FILE = "proof.json"


def prove_coreml(stages: Stages, shapes: Mapping[str, Any]) -> None:
    """Compare once for a model and its shapes, on one sample.

    Raises InvalidInput where the program is not the model, naming the first operator that differs.
    """
    graph, image = stages.float_graph(), image_of(stages.planned.recipe.coreml)

    def make(destination: Path) -> None:
        stages.progress("compare Core ML's program with the original")
        with TemporaryFolder() as folder:
            package = Path(folder, COREML_PACKAGE)
            nothing = Found({}, {})
            export_graph_coreml(
                graph, package, nothing, shapes=shapes, compute="float32", image=image
            )
            feed = _sample(stages, load(package).inputs())
            given = dict(feed)
            if image is not None:
                given[image.input], feed[image.input] = _both(feed[image.input], image)
            difference = prove_package(graph, package, feed, given)
        content = canonical.to_json({"difference": difference})
        (destination / _PROOF_FILE).write_text(content, encoding="utf-8")

    key = {
        **stages.float_key(),
        "shapes": {name: [list(shape) for shape in each] for name, each in shapes.items()},
        "image": stages.planned.recipe.coreml.model_dump(mode="json")["image"],
        "calibration": stages.calibration_key(),
        "coremltools": importlib.metadata.version("coremltools"),
    }
    stages.store.stage("coreml-proof", key, make, describe=stages.planned.plan.source)


def _sample(stages: Stages, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """The first calibration sample where the package takes its shapes, a text filled up to one of
    its lengths; else random numbers.
    """
    is_text = stages.planned.model.text is not None
    for feed in stages.feeds(stages.float_graph())[:1]:
        given = {name: np.asarray(feed[name]) for name in inputs}
        if is_text:
            given = {name: fitted(given[name], value) for name, value in inputs.items()}
        if all(value.allows(given[name].shape) for name, value in inputs.items()):
            return given
    rng = np.random.default_rng(0)
    found = {}
    for name, value in inputs.items():
        shape = value.shapes[0] if value.shapes else tuple(low for low, _ in value.ranges)
        is_integer = "int" in str(value.type)
        found[name] = (
            np.ones(shape, np.int64) if is_integer else rng.standard_normal(shape, np.float32)
        )
    return found


def _both(array: Array, image: Image) -> tuple[Array, Array]:
    """Pixels, and what the model takes for exactly these."""
    found = pixels(array, image.scale, image.bias)
    scale, bias = (
        np.array(part, np.float32).reshape(1, -1, 1, 1) for part in (image.scale, image.bias)
    )
    return found, found * scale + bias
