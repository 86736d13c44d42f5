"""Write a model's weights, or their codes, as a Core ML package (`.mlpackage`, an ML Program)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.decoder import LOGITS, DecoderProgram, decoder_inputs
from edgeq.formats.apple.graph import Translator, graph_inputs, program_weights
from edgeq.formats.apple.write import read_decoder
from edgeq.formats.apple.writer import Compute, Input
from edgeq.formats.coreml.deployment_targets import (
    CODED_INPUTS,
    IOS18,
    SEVERAL_SHAPES,
    STATES,
    Target,
    needs_os,
)
from edgeq.formats.coreml.write_images import (
    LABEL,
    PROBABILITIES,
    Image,
    classified,
    colour_layout,
    normalised,
)
from edgeq.formats.coreml.write_package import Classes, write_package
from edgeq.formats.coreml.write_program import ProgramWriter
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.rounding import Found
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.weights import open_weights
from edgeq.quantize.model import Quantized
from edgeq.quantize.number_formats import QuantizedTensor


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
    """Write a language model with a stateful KV cache as the package `destination`.

    codes: of the quantized weights, by Hugging Face names; the others are written in `compute`.
    context: positions in its states. tokens: possible numbers of tokens in one call.
    float32: patterns of operators that compute in float32, see `ProgramWriter`.

    Inputs: `input_ids` int32 (1, tokens), `position` int32 (1,), how many positions of the cache
    are filled, and `rows` int32 (1,) or (tokens,), the tokens of this call whose logits are wanted;
    position + tokens must not exceed `context`. `input_ids` may be padded at the end with arbitrary
    tokens: earlier tokens do not attend to them, and the next call overwrites them. Output:
    `logits` float32 (1, rows, vocabulary).

    Raises InvalidInput for weights that are missing or differ in shape from config.json, for a
    target without states, and for patterns that match no operator.
    """
    if target < STATES:
        what = f"{target} has no states, which a language model requires for its cache"
        raise InvalidInput(Problem(str(destination), what, f"target {STATES}"))
    facts = read_decoder(directory, context)
    decoder, context = facts.decoder, facts.context
    counts = tuple(count for count in tokens if count <= context)
    writer = ProgramWriter(decoder_inputs(decoder, context, counts), target, compute, float32)
    with writer:
        weights = open_weights(directory)
        built = DecoderProgram(decoder, weights, codes, writer, context)
        program = writer.finish({LOGITS: built.build(facts.rotations)})
    check_patterns(float32, writer)
    write_package(program, writer.constants.readers, target, facts.metadata, destination)


def export_graph_coreml(
    float_directory: Path,
    destination: Path,
    codes: Mapping[str, QuantizedTensor] | Found,
    *,
    shapes: Mapping[str, Sequence[tuple[int, ...]]],
    compute: Compute = "float16",
    float32: Sequence[str] = (),
    target: Target = IOS18,
    image: Image | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Write the float ONNX graph of an encoder or a classifier as the package `destination`.

    codes: of the quantized weights, by the graph's names; `Found` also has the codes of their
    inputs. shapes: the possible shapes of every input with free dimensions; a list of several
    becomes a choice (`EnumeratedShapes`), the first is the default. compute, float32: as for the
    decoder.

    image: the input that takes pixels. labels: names of the classes, for which the program then has
    two more outputs: `classLabel`, the most probable, and `classLabel_probs`, the probabilities of
    all.

    Inputs are the graph's own, integers as int32; outputs are float32.

    Raises InvalidInput for operators that edgeq does not support for Core ML, naming them, for
    inputs without a shape, for several shapes if the target does not support them, and for patterns
    that match no operator.
    """
    model = load_graph(float_directory)
    inputs = [_with_pixels(value, image) for value in graph_inputs(model, shapes)]
    if target < SEVERAL_SHAPES and sum(len(value.shapes) > 1 for value in inputs) > 1:
        what = f"{target} supports one input with several shapes, this model has more"
        raise InvalidInput(Problem(str(destination), what, f"one shape, or {SEVERAL_SHAPES}"))
    found = codes if isinstance(codes, Found) else _weights_alone(codes)
    for name, quantized in found.weights.items():
        _check_release(name, quantized, target)
    with ProgramWriter(inputs, target, compute, float32) as writer:
        weights = program_weights(model, found.weights, found.ranges)
        given = {image.input: normalised(writer, image)} if image else {}
        outputs = Translator(model, writer, weights, given).outputs()
        name, logits = next(iter(outputs.items()))
        last = functools.partial(classified, writer, name, logits, labels) if labels else None
        program = writer.finish(outputs, last)
    check_patterns(float32, writer)
    classes = Classes(tuple(labels), LABEL, PROBABILITIES) if labels else None
    write_package(program, writer.constants.readers, target, {}, destination, classes)


def _with_pixels(value: Input, image: Image | None) -> Input:
    if image is None or value.name != image.input:
        return value
    return replace(value, pixels=colour_layout(image))


def _weights_alone(codes: Mapping[str, QuantizedTensor]) -> Found:
    return Found(
        {name: Quantized(quantized, None, None, "float32") for name, quantized in codes.items()}, {}
    )


def _check_release(name: str, quantized: Quantized, target: Target) -> None:
    needs = {quantized.tensor.number_format.name: needs_os(quantized.tensor.number_format.name)}
    if quantized.activations != "float32":
        needs[quantized.activations] = CODED_INPUTS
    for what, needed in needs.items():
        if target < needed:
            raise InvalidInput(
                Problem(name, f"{target} does not support {what}", f"target {needed}")
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
