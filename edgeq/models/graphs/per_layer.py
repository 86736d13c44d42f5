"""The operators that mix a second embedding of each token into every layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeq.models.architectures.per_layer import TABLE, PerLayer
from edgeq.models.graphs.decoder_parts import DecoderParts


def per_layer_inputs(
    parts: DecoderParts, own: PerLayer, ids: ir.Value, hidden: ir.Value
) -> Sequence[ir.Value]:
    """What each layer mixes in, (1, tokens, width). hidden: the tokens' usual embeddings."""
    layers = parts.decoder.layers
    shape = parts.numbers([1, -1, layers, own.width])
    rows = parts.append("Gather", [parts.matrix(TABLE), ids])
    rows = parts.append("Reshape", [parts.scaled(rows, own.width**0.5), shape])
    projected = parts.linear(hidden, "model.per_layer_model_projection", bias=False)
    projected = parts.scaled(projected, parts.decoder.hidden**-0.5)
    projected = parts.append("Reshape", [projected, shape])
    projected = parts.norm(projected, "model.per_layer_projection_norm.weight")
    both = parts.scaled(parts.append("Add", [projected, rows]), 2**-0.5)
    numbers = (parts.writer.constant("layer", np.array(n, np.int64)) for n in range(layers))
    return [parts.append("Gather", [both, number], {"axis": 2}) for number in numbers]


def mixed_in(parts: DecoderParts, stem: str, hidden: ir.Value, own: ir.Value) -> ir.Value:
    """What a layer adds to its output `hidden` on account of its own input."""
    gate = parts.activated(parts.linear(hidden, f"{stem}.per_layer_input_gate", bias=False))
    gated = parts.append("Mul", [gate, own])
    more = parts.linear(gated, f"{stem}.per_layer_projection", bias=False)
    return parts.norm(more, f"{stem}.post_per_layer_input_norm.weight")
