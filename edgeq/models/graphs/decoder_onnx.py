"""A language model's float32 ONNX graph, directly from config.json and safetensors.

Nothing is traced: `DecoderGraph` builds the graph operator by operator, and weights are copied from
file to file a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import END_KEY
from edgeq.models.architectures import DEFAULT_CONTEXT, Decoder, decoder_of
from edgeq.models.graphs.decoder_graph import DecoderGraph, carried
from edgeq.models.graphs.decoder_rope import depends_on_length, rotations
from edgeq.models.graphs.rewriting import save_model
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.special_tokens import end_tokens
from edgeq.models.weights import open_weights
from edgeq.quantize.statistics import Feed


def export_decoder(
    directory: ModelDirectory, destination: Path, context: int = DEFAULT_CONTEXT
) -> None:
    """Write `model.onnx` and its external data: a float32 decoder with a KV cache, batch 1.

    context: maximum positions of the file, at most the trained length. It determines only the size
    of the rotary tables: context × rope_dim × 4 bytes, 33 MB for the 131,072 positions of Llama 3.2
    1B and 1 MB for the default.

    Inputs: `input_ids` int64 (1, tokens); `past_length` int64 (1,), how many positions of the cache
    are filled; `logits_to_keep` int64 (1,), how many last tokens to return logits for, 0 for all;
    if a text's length changes its rotary angles (longrope), `text_length` int64 (1,), of the whole
    text; `past_key_values.{i}.key` and `.value` float32 (1, kv_heads, capacity, head_dim), capacity
    being the caller's choice except in layers with a short window; of a layer with a convolution
    instead `past_key_values.{i}.conv` float32 (1, taps - 1, hidden), of one with linear attention
    also `.state` float32 (1, value heads, key width, value width). Outputs: `logits` float32 (1,
    kept, vocabulary); `present.{i}.key` and `.value` float32 (1, kv_heads, max(capacity,
    past_length + tokens), head_dim), and `present.{i}.conv` and `.state`, which may share memory
    with the past ones if everything fits their capacity.

    Raises InvalidInput for weights that are missing or differ in shape from config.json.
    """
    decoder = decoder_of(directory.config, str(directory.path / "config.json"))
    check_weights(directory, decoder)
    ends = end_tokens(directory.path, directory.config, str(directory.path))
    positions = min(context, decoder.context)
    graph = DecoderGraph(decoder, open_weights(directory), positions)
    model = graph.build(rotations(decoder))
    model.metadata_props[END_KEY] = " ".join(map(str, ends))
    save_model(model, destination / MODEL_FILE)


def check_weights(directory: ModelDirectory, decoder: Decoder) -> None:
    problems = []
    for name, shape in decoder.tensors().items():
        found = directory.tensors.get(name)
        if found is None or found.shape != shape:
            what = "is missing" if found is None else f"has the shape {found.shape}, not {shape}"
            problems.append(Problem(f"{directory.path}: {name}", what, "download the model again"))
    if problems:
        raise InvalidInput(problems)


def decoder_feeds(decoder: Decoder, windows: Sequence[Sequence[int]]) -> list[Feed]:
    """Inputs of `export_decoder`'s graph for each window of token ids, from an empty cache."""
    caches = {}
    for layer in range(decoder.layers):
        for name, shape in carried(decoder, layer).items():
            sizes = [size if isinstance(size, int) else 0 for size in shape]
            caches[f"past_key_values.{layer}.{name}"] = np.zeros(sizes, np.float32)
    none = np.zeros(1, np.int64)
    feeds: list[Feed] = []
    for window in windows:
        feed: dict[str, NDArray[np.generic]] = {
            "input_ids": np.array([window], np.int64),
            "past_length": none,
            "logits_to_keep": none,
            **caches,
        }
        if depends_on_length(decoder):
            feed["text_length"] = np.array([len(window)], np.int64)
        feeds.append(feed)
    return feeds
