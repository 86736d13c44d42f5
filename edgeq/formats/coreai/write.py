"""Write a model's weights, or their codes, as a Core AI model (`.aimodel`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeq.formats.apple.decoder import LOGITS, DecoderProgram, decoder_inputs
from edgeq.formats.apple.graph import Translator, graph_inputs, program_weights
from edgeq.formats.apple.write import read_decoder
from edgeq.formats.apple.writer import Compute
from edgeq.formats.coreai.write_program import ProgramWriter
from edgeq.models.graphs.opened import load_graph
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.weights import open_weights
from edgeq.quantize.model import Quantized
from edgeq.quantize.number_formats import QuantizedTensor


def export_graph_coreai(
    float_directory: Path,
    destination: Path,
    codes: Mapping[str, QuantizedTensor],
    *,
    shapes: Mapping[str, Sequence[tuple[int, ...]]],
    compute: Compute = "float32",
) -> None:
    """Write the float ONNX graph of an encoder or a net as the model `destination`, a directory.

    codes: of the quantized weights, by the graph's names; the others are float, in `compute`.
    shapes: of every input with free dimensions; a size that differs between several stays free.

    Inputs are the graph's own, integers as int32; outputs are float32, or int32.

    Raises InvalidInput for operators that edgeq does not support for Core AI, naming them, and for
    inputs without a shape.
    """
    model = load_graph(float_directory)
    found = {name: Quantized(each, None, None, "float32") for name, each in codes.items()}
    with ProgramWriter(graph_inputs(model, shapes), compute) as writer:
        weights = program_weights(model, found, {})
        writer.finish(Translator(model, writer, weights, {}).outputs())
    writer.save(destination)


def export_decoder_coreai(
    directory: ModelDirectory,
    destination: Path,
    codes: Mapping[str, QuantizedTensor],
    *,
    context: int,
    compute: Compute = "float32",
) -> None:
    """Write a language model with a stateful KV cache as the model `destination`, a directory.

    codes: of the quantized weights, by Hugging Face names. context: positions in its states.

    Inputs: `input_ids` int32 (1, tokens), any number of them, `position` int32 (1,), how many
    positions of the cache are filled, and `rows` int32 (rows,), the tokens of this call whose
    logits are wanted; position + tokens must not exceed `context`. Output: `logits` float32
    (1, rows, vocabulary). States are float16, two for every layer.

    Raises InvalidInput for weights that are missing or differ in shape from config.json, and for
    contexts beyond the length at which rotary angles change.
    """
    facts = read_decoder(directory, context)
    decoder, context = facts.decoder, facts.context
    with ProgramWriter(decoder_inputs(decoder, context, (1, 2)), compute) as writer:
        weights = open_weights(directory)
        built = DecoderProgram(decoder, weights, codes, writer, context)
        writer.finish({LOGITS: built.build(facts.rotations)})
    writer.save(destination, facts.metadata)
