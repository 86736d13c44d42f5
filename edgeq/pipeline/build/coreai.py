"""One artifact as a Core AI model: compared with its graph, written, run once, recorded."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.core import canonical
from edgeq.core.artifact import COREAI_ASSET, MODEL_FILE, ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats.apple.decoder import IDS, LOGITS, POSITION, ROWS
from edgeq.formats.apple.plan import apple_decisions
from edgeq.formats.coreai.file_format import COREAI
from edgeq.formats.coreai.trial import answers_of
from edgeq.formats.coreai.write import export_decoder_coreai, export_graph_coreai
from edgeq.formats.onnx.write import value_info
from edgeq.formats.written import Made, copy_tokenizer, settings_of
from edgeq.models.graphs.opened import load_graph
from edgeq.pipeline.build.apple import (
    apple_codes,
    apple_records,
    each_size,
    files_in,
    named_sizes,
    require_shapes,
)
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.coreml import compute_of
from edgeq.pipeline.plan.images import fixed_shape
from edgeq.pipeline.plan.tensors import planned_tensors
from edgeq.pipeline.proof.onnx_original import open_original
from edgeq.pipeline.proof.onnx_prove import distance
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.spec import Intent

Array = npt.NDArray[np.generic]
Feed = dict[str, Array]
Shapes = dict[str, Sequence[tuple[int, ...]]]

TOLERANCE = 1e-4
"""Relative difference of an output: float32 sums may be taken in different orders."""
_PROOF_FILE = "proof.json"
_FREE = ((1, 1), (1, 2))  # texts: two shapes, so that their length stays free


def write_coreai(stages: Stages, name: str, intent: Intent, destination: Path) -> Made:
    """Write the model and, for texts, the tokenizer into the directory `destination`.

    Raises InvalidInput for operators that Core AI cannot have, and if answers are not finite.
    """
    model, recipe = stages.planned.model, stages.planned.recipe
    compute = compute_of(recipe, intent)
    plans = tuple(planned_tensors(model, intent, compute))
    asset = destination / COREAI_ASSET
    longest = None
    if model.decoder is not None:
        assert model.directory is not None
        codes = apple_codes(stages, name, apple_decisions(model, intent))
        stages.progress(f"{name}: write the model")
        context = recipe.workload.context
        export_decoder_coreai(model.directory, asset, codes, context=context, compute=compute)
        two = np.arange(2, dtype=np.int32)
        sample: Feed = {IDS: two[None], POSITION: two[:1], ROWS: two}
        inputs, outputs = _decoder_values(model.decoder.vocabulary)
    else:
        graph, shapes = stages.float_graph(), _shapes(stages)
        require_shapes(stages, shapes, "coreai")
        _prove(stages, shapes)
        codes = apple_codes(stages, name, apple_decisions(model, intent))
        stages.progress(f"{name}: write the model")
        export_graph_coreai(graph, asset, codes, shapes=shapes, compute=compute)
        sample = _narrow(_sample(stages, shapes))
        inputs, outputs = _values(graph, shapes)
        longest = model.text.max_tokens if model.text else None
    stages.progress(f"{name}: run it once")
    _refuse_overflow(stages, asset, sample)
    files = files_in(asset, destination)
    if model.text is not None:
        # Swift's tokenizer requires its settings next to it.
        files += copy_tokenizer(model.text, destination, settings=True, max_tokens=longest)
    first = COREAI.first_release
    return Made(
        files=files,
        tensors=apple_records(plans, codes, compute, FLOAT16.name),
        inputs=inputs,
        outputs=outputs,
        settings={
            **settings_of(intent),
            "compute": compute,
            "deployment_target": {"ios": first.ios, "macos": first.macos},
        },
        max_tokens=longest,
    )


def _shapes(stages: Stages) -> Shapes:
    """The shapes of every input; texts may have any length."""
    given = stages.planned.recipe.coreai.inputs
    shapes: Shapes = {}
    for value in load_graph(stages.float_graph()).graph.inputs:
        own = fixed_shape(value.shape or (), stages.calibration.file_settings)
        is_text = stages.planned.model.text is not None
        shapes[value.name or ""] = _FREE if is_text else given.get(value.name or "", [own])
    return shapes


def _prove(stages: Stages, shapes: Shapes) -> None:
    """Compare the program in float32 with its graph, once for a model and its shapes.

    Raises InvalidInput where it is not the model.
    """
    graph = stages.float_graph()

    def make(destination: Path) -> None:
        stages.progress("compare Core AI's program with the original")
        with TemporaryFolder() as folder:
            asset = Path(folder, COREAI_ASSET)
            export_graph_coreai(graph, asset, {}, shapes=shapes)
            worst = max(_difference(graph, asset, feed) for feed in _samples(stages, shapes))
        if not worst <= TOLERANCE:
            what = f"its Core AI program is not the model: outputs differ by {worst:.1e}"
            remedy = "target another format; or report it with this line"
            raise InvalidInput(Problem(COREAI_ASSET, what, remedy))
        content = canonical.to_json({"difference": worst})
        (destination / _PROOF_FILE).write_text(content, encoding="utf-8")

    key = {
        **stages.float_key(),
        "shapes": {name: [list(shape) for shape in each] for name, each in shapes.items()},
        "calibration": stages.calibration.key(),
        "coreai-core": importlib.metadata.version("coreai-core"),
    }
    stages.store.stage("coreai-proof", key, make, describe=stages.planned.plan.source)


def _difference(graph: Path, asset: Path, sample: Feed) -> float:
    """The largest difference of an output from the graph's."""
    answer = answers_of(asset, _narrow(sample))
    original = open_original(graph / MODEL_FILE)
    names = [value.name for value in original.outputs]
    wanted = dict(zip(names, original.run(sample), strict=True))
    return max(distance(answer[n].astype(wanted[n].dtype), wanted[n]) for n in names)


def _samples(stages: Stages, shapes: Shapes) -> list[Feed]:
    """One of each size that arrays may have; a text."""
    if stages.planned.model.text is not None:
        return [_sample(stages, shapes)]
    return [_sample(stages, {n: [s] for n, s in each.items()}) for each in each_size(shapes)]


def _refuse_overflow(stages: Stages, asset: Path, sample: Feed) -> None:
    """Run a sample; raise InvalidInput for NaN and infinities in its answer."""
    for name, array in answers_of(asset, sample).items():
        if not np.isfinite(array).all():
            where = stages.planned.document.place(("coreai", "compute"))
            what = f"its output {name!r} is NaN or infinite: values beyond float16"
            raise InvalidInput(Problem(where, what, "write coreai: {compute: float32}"))


def _decoder_values(vocabulary: int) -> tuple[tuple[ValueInfo, ...], tuple[ValueInfo, ...]]:
    """The inputs and outputs of a language model."""
    ids = ValueInfo(name=IDS, dtype="int32", shape=(1, "tokens"))
    position = ValueInfo(name=POSITION, dtype="int32", shape=(1,))
    rows = ValueInfo(name=ROWS, dtype="int32", shape=("rows",))
    logits = ValueInfo(name=LOGITS, dtype="float32", shape=(1, "rows", vocabulary))
    return (ids, position, rows), (logits,)


def _sample(stages: Stages, shapes: Shapes) -> Feed:
    """The shortest calibration sample of shapes that the model takes, else made-up numbers."""
    feeds = [
        {name: np.asarray(array) for name, array in feed.items()}
        for feed in stages.feeds(stages.float_graph())
    ]
    fitting = [
        feed for feed in feeds if all(_allows(shapes[name], feed[name].shape) for name in shapes)
    ]
    if fitting:
        return min(fitting, key=lambda feed: sum(each.size for each in feed.values()))
    rng = np.random.default_rng(0)
    made = {}
    for value in load_graph(stages.float_graph()).graph.inputs:
        shape, dtype = shapes[value.name or ""][0], np.dtype(value_info(value).dtype)
        is_float = dtype.kind == "f"
        made[value.name or ""] = (
            rng.standard_normal(shape).astype(dtype) if is_float else np.ones(shape, dtype)
        )
    return made


def _allows(allowed: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> bool:
    return allowed is _FREE or tuple(shape) in map(tuple, allowed)


def _narrow(feed: Mapping[str, Array]) -> Feed:
    """Inputs as the program takes them: integers as int32."""
    return {
        name: array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
        for name, array in feed.items()
    }


def _values(graph: Path, shapes: Shapes) -> tuple[tuple[ValueInfo, ...], tuple[ValueInfo, ...]]:
    """The inputs and outputs of the model, a length that is free by its name."""
    read = load_graph(graph).graph
    inputs = []
    for value in map(value_info, read.inputs):
        found = shapes[value.name]
        sizes = named_sizes(found)
        inputs.append(ValueInfo(name=value.name, dtype=_dtype(value.dtype), shape=sizes))
    outputs = [
        ValueInfo(name=value.name, dtype=_dtype(value.dtype), shape=value.shape)
        for value in map(value_info, read.outputs)
    ]
    return tuple(inputs), tuple(outputs)


def _dtype(dtype: str) -> str:
    return "float32" if np.dtype(dtype).kind == "f" else "int32"
