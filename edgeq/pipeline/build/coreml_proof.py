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
from edgeq.pipeline.build.apple import each_size
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.images import image_of
from edgeq.pipeline.proof.coreml import prove_package

Array = npt.NDArray[Any]
_PROOF_FILE = "proof.json"


def prove_coreml(stages: Stages, shapes: Mapping[str, Any]) -> None:
    """Compare once for a model and its shapes: on a sample, or one of each size.

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
            difference = max(
                prove_package(graph, package, *_in_pixels(feed, image))
                for feed in _samples(stages, load(package).inputs())
            )
        content = canonical.to_json({"difference": difference})
        (destination / _PROOF_FILE).write_text(content, encoding="utf-8")

    key = {
        **stages.float_key(),
        "shapes": {name: [list(shape) for shape in each] for name, each in shapes.items()},
        "image": stages.planned.recipe.coreml.model_dump(mode="json")["image"],
        "calibration": stages.calibration.key(),
        "coremltools": importlib.metadata.version("coremltools"),
    }
    stages.store.stage("coreml-proof", key, make, describe=stages.planned.plan.source)


def _samples(stages: Stages, inputs: Mapping[str, Any]) -> list[dict[str, Array]]:
    """The first calibration sample, a text filled up to a length that the package takes; for every
    other size of arrays random numbers.
    """
    samples = stages.feeds(stages.float_graph())[:1]
    seen = [{name: np.asarray(feed[name]) for name in inputs} for feed in samples]
    is_text = stages.planned.model.text is not None
    if is_text and seen:
        return [{n: fitted(feed[n], value) for n, value in inputs.items()} for feed in seen]
    possible = {
        name: value.shapes or (tuple(low for low, _ in value.ranges),)
        for name, value in inputs.items()
    }
    sizes = each_size(possible)[: 1 if is_text else None]
    kinds = {name: "int" if "int" in str(value.type) else "float" for name, value in inputs.items()}
    return [_sample(shapes, kinds, seen) for shapes in sizes]


def _sample(
    shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, str], seen: list[dict[str, Array]]
) -> dict[str, Array]:
    for feed in seen:
        if all(feed[name].shape == shape for name, shape in shapes.items()):
            return feed
    rng = np.random.default_rng(0)
    return {
        name: np.ones(shape, np.int64)
        if kinds[name] == "int"
        else rng.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }


def _in_pixels(feed: dict[str, Array], image: Image | None) -> tuple[dict[str, Array], ...]:
    """A sample of the graph, and the same for the package."""
    if image is None:
        return feed, feed
    found, own = _both(feed[image.input], image)
    return {**feed, image.input: own}, {**feed, image.input: found}


def _both(array: Array, image: Image) -> tuple[Array, Array]:
    """Pixels, and what the model takes for exactly these."""
    found = pixels(array, image.scale, image.bias)
    scale, bias = (
        np.array(part, np.float32).reshape(1, -1, 1, 1) for part in (image.scale, image.bias)
    )
    return found, found * scale + bias
