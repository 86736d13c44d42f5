"""One artifact as a Core ML package: written, run once in search of infinities, recorded."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.artifact import COREML_PACKAGE, ValueInfo
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats.apple.decoder import IDS, POSITION, ROWS
from edgeq.formats.apple.plan import apple_decisions
from edgeq.formats.apple.weights import find_coded_apple
from edgeq.formats.coreml.deployment_targets import Target
from edgeq.formats.coreml.executor import Program, load
from edgeq.formats.coreml.executor.images import pixels
from edgeq.formats.coreml.lengths import filled, fitted
from edgeq.formats.coreml.overflow import not_finite, refuse_overflow
from edgeq.formats.coreml.write import export_decoder_coreml, export_graph_coreml
from edgeq.formats.onnx.write import codes_summary
from edgeq.formats.written import Made, copy_tokenizer, settings_of
from edgeq.models.graphs.rounding import Found
from edgeq.pipeline.build.apple import (
    apple_codes,
    apple_records,
    files_in,
    named_sizes,
    require_shapes,
)
from edgeq.pipeline.build.coreml_proof import prove_coreml
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.coreml import compute_of, lengths_of, target_of
from edgeq.pipeline.plan.images import fixed_shape, image_of, labels_of
from edgeq.pipeline.plan.tensors import planned_tensors
from edgeq.quantize.decide import Decision
from edgeq.quantize.model import Quantized
from edgeq.quantize.spec import Intent

DECODER_TOKENS = (1, 32)
"""How many tokens one call of a language model can have: the next one, or a piece of a prompt."""
_SCANNED = 4  # samples that are run in search of infinities
_SCANNED_TOKENS = 128  # of each, for a language model
Call = dict[str, Any]


def write_coreml(stages: Stages, name: str, intent: Intent, destination: Path) -> Made:
    """Write the package and, for texts, the tokenizer into the directory `destination`.

    Raises InvalidInput for operators that Core ML cannot have, and where NaN or infinity begins in
    one on calibration data.
    """
    planned = stages.planned
    spec = planned.recipe.coreml
    compute = compute_of(planned.recipe, intent)
    plans = tuple(planned_tensors(planned.model, intent, compute))
    target, *_ = target_of(planned.recipe, plans)
    if planned.model.decoder is None:
        shapes = _shapes(stages, stages.float_graph())
        require_shapes(stages, shapes, "coreml")
        prove_coreml(stages, shapes)
    found = _found(stages, name, intent)
    codes = {tensor: quantized.tensor for tensor, quantized in found.weights.items()}
    package = destination / COREML_PACKAGE
    stages.progress(f"{name}: write the package")
    _export(stages, package, found, intent, target)
    stages.progress(f"{name}: look for infinities")
    texts = _texts(stages, load(package).inputs())
    where = planned.document.place(("coreml", "float32"))
    refuse_overflow(package, texts, where, spec.float32, lambda: _own_infinities(stages, texts))
    files = files_in(package, destination)
    text = planned.model.text
    longest = None
    if text is not None:
        if planned.model.decoder is None:
            longest = max(lengths_of(spec, text.max_tokens))
        # Swift's tokenizer requires its settings next to it.
        files += copy_tokenizer(text, destination, settings=True, max_tokens=longest)
    program = load(package)
    return Made(
        files=files,
        tensors=apple_records(plans, codes, compute, compute),
        inputs=_inputs(program),
        outputs=_outputs(program),
        settings={
            **settings_of(intent),
            "compute": compute,
            "float32": list(spec.float32),
            "image": spec.image.model_dump(mode="json") if spec.image else None,
            "labels": bool(spec.labels),
            "deployment_target": {"ios": target.ios, "macos": target.macos},
            "scanned": sum(map(len, texts)),
            "inputs": {
                tensor: codes_summary(quantized)
                for tensor, quantized in found.weights.items()
                if quantized.input_codes
            },
        },
        max_tokens=longest,
    )


def _found(stages: Stages, name: str, intent: Intent) -> Found:
    """Codes of every weight that gets any, and of what it multiplies where that is coded."""
    model = stages.planned.model
    decisions = apple_decisions(model, intent)
    if any(decision.activations != "float32" for decision in decisions.values()):
        graph = stages.float_graph()
        return find_coded_apple(
            graph,
            lambda tensor, _: decisions.get(tensor, Decision(None, "not asked for")),
            stages.feeds(graph),
            lambda step: stages.progress(f"{name}: {step}"),
            stages.observed,
        )
    codes = apple_codes(stages, name, decisions)
    return Found(
        {n: Quantized(quantized, None, None, "float32") for n, quantized in codes.items()}, {}
    )


def _export(
    stages: Stages,
    package: Path,
    found: Found,
    intent: Intent,
    target: Target,
) -> None:
    planned = stages.planned
    spec, model = planned.recipe.coreml, planned.model
    compute = compute_of(planned.recipe, intent)
    float32 = spec.float32 if compute == "float16" else ()
    if model.decoder is not None:
        assert model.directory is not None
        export_decoder_coreml(
            model.directory,
            package,
            {name: quantized.tensor for name, quantized in found.weights.items()},
            context=planned.recipe.workload.context,
            tokens=DECODER_TOKENS,
            compute=compute,
            float32=float32,
            target=target,
        )
        return
    graph = stages.float_graph()
    export_graph_coreml(
        graph,
        package,
        found,
        shapes=_shapes(stages, graph),
        compute=compute,
        float32=float32,
        target=target,
        image=image_of(spec),
        labels=labels_of(planned.recipe, planned.path),
    )


def _shapes(stages: Stages, graph: Path) -> dict[str, Sequence[tuple[int, ...]]]:
    """The shapes of every input that the graph leaves open."""
    from edgeq.models.graphs.opened import load_graph

    planned = stages.planned
    spec, text = planned.recipe.coreml, planned.model.text
    shapes: dict[str, Sequence[tuple[int, ...]]] = {}
    for value in load_graph(graph).graph.inputs:
        assert value.name is not None
        if text is not None:
            shapes[value.name] = [(1, n) for n in lengths_of(spec, text.max_tokens)]
        elif value.name in spec.inputs:
            shapes[value.name] = spec.inputs[value.name]
        else:
            given = stages.calibration.file_settings
            shapes[value.name] = [fixed_shape(value.shape or (), given)]
    return shapes


def _texts(stages: Stages, inputs: dict[str, Any]) -> list[list[Call]]:
    """Inputs to look for infinities with: the first calibration samples, or made up ones.

    A language model gets the beginning of each in several calls.
    """
    model = stages.planned.model
    feeds: list[Call] = [dict(feed) for feed in stages.feeds(stages.float_graph())[:_SCANNED]]
    image = stages.planned.recipe.coreml.image
    if image is not None:
        for feed in feeds:
            feed[image.input] = pixels(feed[image.input], image.scale, image.bias)
    if model.decoder is not None:
        context = min(stages.planned.recipe.workload.context, model.decoder.context)
        longest = min(_SCANNED_TOKENS, context)
        rows = [feed["input_ids"][:, :longest] for feed in feeds]
        return [_pieces(row, inputs[IDS]) for row in rows or [np.arange(longest)[None]]]
    if not feeds:
        return [[{name: _made_up(value) for name, value in inputs.items()}]]
    return [
        [{name: fitted(array, inputs[name]) for name, array in feed.items() if name in inputs}]
        for feed in feeds
    ]


def _own_infinities(stages: Stages, texts: list[list[Call]]) -> Container[str]:
    """Operators where NaN or infinity begins without codes, in float32."""
    if stages.planned.model.decoder is not None:
        return ()
    graph, image = stages.float_graph(), image_of(stages.planned.recipe.coreml)
    with TemporaryFolder() as folder:
        package, shapes = Path(folder, COREML_PACKAGE), _shapes(stages, graph)
        export_graph_coreml(graph, package, {}, shapes=shapes, compute="float32", image=image)
        return not_finite(load(package), texts)


def _pieces(ids: Any, value: Any) -> list[Call]:
    """A text as calls of as many tokens as one can have; a rest that fills none is left out."""
    count = max(shape[-1] for shape in value.shapes or [tuple(low for low, _ in value.ranges)])
    starts = range(0, ids.shape[-1] - count + 1, count)
    rows = np.arange(count, dtype=np.int32)
    calls = [
        {IDS: ids[:, at : at + count], POSITION: np.array([at], np.int32), ROWS: rows}
        for at in starts
    ]
    return calls or [{IDS: filled(ids, count), POSITION: np.zeros(1, np.int32), ROWS: rows}]


def _made_up(value: Any) -> Any:
    """Ones of the first shape an input can have."""
    shape = value.shapes[0] if value.shapes else tuple(low for low, _ in value.ranges)
    return np.ones(shape, np.float32)


def _inputs(program: Program) -> tuple[ValueInfo, ...]:
    """The inputs; sizes of which there are several have names."""
    found = []
    for name, value in program.inputs().items():
        lows = tuple(low for low, _ in value.ranges)
        shape = named_sizes(value.shapes or (lows,))
        dtype = "int32" if "int" in str(value.type) else "float32"
        found.append(ValueInfo(name=name, dtype=dtype, shape=shape))
    return tuple(found)


def _outputs(program: Program) -> tuple[ValueInfo, ...]:
    function = program.functions[program.default]
    types = {
        output.name: output.type
        for operation in function.block.operations
        for output in operation.outputs
    }
    found = []
    for name in program.outputs():
        element = types[name].element
        if element is None or element.name == "string":
            continue  # a classifier's label and shares, which follow from its first output
        shape = named_sizes([types[name].shape])
        dtype = "int32" if "int" in str(types[name]) else "float32"
        found.append(ValueInfo(name=name, dtype=dtype, shape=shape))
    return tuple(found)
