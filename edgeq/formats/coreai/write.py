"""Write a float graph, or codes of its weights, as a Core AI model (`.aimodel`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeq.formats.apple import layers, operators  # noqa: F401  (they register)
from edgeq.formats.apple.graph import Translator, graph_inputs, load_graph, program_weights
from edgeq.formats.apple.writer import Compute
from edgeq.formats.coreai.write_program import ProgramWriter
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
