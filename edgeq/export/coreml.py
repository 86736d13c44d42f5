"""A model's weights, or their codes, as a Core ML package (`.mlpackage`, an ML Program)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy.typing as npt

from edgeq.coreml import NotFinite, load, scan
from edgeq.errors import InvalidInput, Problem
from edgeq.export import coreml_layers, coreml_operators  # noqa: F401  (they register)
from edgeq.export.coreml_decoder import LOGITS, DecoderProgram, decoder_inputs
from edgeq.export.coreml_graph import Translator, graph_inputs, load_graph, program_weights
from edgeq.export.coreml_package import write_package
from edgeq.export.coreml_program import Compute, ProgramWriter
from edgeq.export.coreml_targets import IOS18, SEVERAL_SHAPES, STATES, Target, needs_os
from edgeq.export.decoder_onnx import check_weights, end_tokens
from edgeq.export.decoder_rope import depends_on_length, rotations
from edgeq.models.architecture import decoder_of
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.weights import Weights
from edgeq.quantize.grids import QuantizedTensor
from edgeq.runners.metadata import CONTEXT_KEY, END_KEY


def export_decoder_coreml(
    directory: ModelDirectory,
    destination: Path,
    codes: Mapping[str, QuantizedTensor],
    *,
    context: int,
    tokens: tuple[int, ...] = (1, 32),
    compute: Compute = "float16",
    float32: Sequence[str] = (),
    target: Target = STATES,
) -> None:
    """Write a language model that keeps its own keys and values as the package `destination`.

    codes: by Hugging Face names, the weights that are on a grid; the others are written in
    `compute`. context: positions that its states hold. tokens: how many tokens one call may have.
    float32: patterns of operators that compute in float32, see `ProgramWriter`.

    Inputs: `input_ids` int32 (1, tokens), `position` int32 (1,), how many positions of the cache
    hold something; position + tokens must not be more than `context`. Tokens of no meaning may
    fill up the end of `input_ids`: none before them sees them, and the next call writes over them.
    Output: `logits` float32 (1, tokens, vocabulary).

    Raises InvalidInput for weights that are missing or of another shape than config.json says, for
    a target without states, and for patterns that match no operator.
    """
    decoder = decoder_of(directory.config, str(directory.path / "config.json"))
    check_weights(directory, decoder)
    if target < STATES:
        what = f"{target} has no states, which a language model keeps its cache in"
        raise InvalidInput(Problem(str(destination), what, f"target {STATES}"))
    context = min(context, decoder.context)
    turned = rotations(decoder, directory.config)
    if depends_on_length(decoder) and context > turned.switch:
        what = f"its rotary angles change with texts of more than {turned.switch} positions"
        remedy = f"build it for a context of at most {turned.switch}"
        raise InvalidInput(Problem(str(directory.path), what, remedy))
    counts = tuple(count for count in tokens if count <= context)
    writer = ProgramWriter(decoder_inputs(decoder, context, counts), target, compute, float32)
    with writer:
        weights = Weights(directory.weight_files)
        logits = DecoderProgram(decoder, weights, codes, writer, context).build(turned)
        program = writer.finish({LOGITS: logits})
    check_patterns(float32, writer)
    metadata = {
        CONTEXT_KEY: str(context),
        END_KEY: " ".join(map(str, end_tokens(directory))),
    }
    write_package(program, writer.constants.readers, target, metadata, destination)


def export_graph_coreml(
    float_directory: Path,
    destination: Path,
    codes: Mapping[str, QuantizedTensor],
    *,
    shapes: Mapping[str, Sequence[tuple[int, ...]]],
    compute: Compute = "float16",
    float32: Sequence[str] = (),
    target: Target = IOS18,
) -> None:
    """Write the float ONNX graph of an encoder or a classifier as the package `destination`.

    codes: by the names that the graph has, the weights that are on a grid. shapes: for every input
    whose shape the graph leaves open, the shapes it can have; a list of several becomes a choice
    (`EnumeratedShapes`), the first is the default. compute, float32: as for the decoder.

    Inputs are the graph's own, integers as int32; outputs are float32.

    Raises InvalidInput for operators that edgeq does not write for Core ML, naming them, for
    inputs without a shape, for several shapes where the target has none, and for patterns that
    match no operator.
    """
    model = load_graph(float_directory)
    inputs = graph_inputs(model, shapes)
    if target < SEVERAL_SHAPES and sum(len(value.shapes) > 1 for value in inputs) > 1:
        what = f"{target} takes one input of several shapes, this model has more"
        raise InvalidInput(Problem(str(destination), what, f"one shape, or {SEVERAL_SHAPES}"))
    for name, held in codes.items():
        if target < needs_os(held.grid.name):
            what = f"{target} does not run {held.grid.name}"
            raise InvalidInput(Problem(name, what, f"target {needs_os(held.grid.name)}"))
    with ProgramWriter(inputs, target, compute, float32) as writer:
        outputs = Translator(model, writer, program_weights(model, codes)).outputs()
        program = writer.finish(outputs)
    check_patterns(float32, writer)
    write_package(program, writer.constants.readers, target, {}, destination)


def refuse_overflow(package: Path, calls: Sequence[Mapping[str, npt.ArrayLike]]) -> None:
    """Run a package on some inputs and raise InvalidInput if NaN or infinity begins anywhere.

    calls: inputs by name; for a language model, one text each, from an empty cache. Every operator
    is named once, as patterns for `float32` name it.
    """
    program = load(package)
    found: dict[str, NotFinite] = {}
    for inputs in calls:
        for seen in scan(program, inputs, program.make_state()):
            found.setdefault(seen.operator, seen)
    if found:
        raise InvalidInput(
            Problem(name, str(seen), f'compute it in float32: add coreml: {{float32: ["{name}"]}}')
            for name, seen in found.items()
        )


def check_patterns(float32: Sequence[str], writer: ProgramWriter) -> None:
    """Raise InvalidInput for patterns that matched none of the writer's operators."""
    problems = [
        Problem(pattern, "matches no operator", "operators are named after the model's own layers")
        for pattern in float32
        if pattern not in writer.matched
    ]
    if problems:
        raise InvalidInput(problems)
