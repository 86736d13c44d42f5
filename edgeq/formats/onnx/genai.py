"""What makes a language model's directory one that onnxruntime-genai opens, next to our own graph.

`genai.onnx` is the same graph with that library's inputs, on the same file of weights, and
`genai_config.json` describes it. Layers with a short window keep every position there, since its
caches are all of one length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.models.architectures import DEFAULT_CONTEXT, Decoder
from edgeq.models.graphs.rewriting import GraphWriter

GRAPH_FILE, CONFIG_FILE = "genai.onnx", "genai_config.json"
_OWN_INPUTS = ("past_length", "logits_to_keep")


def write_genai(directory: Path, decoder: Decoder, begin: int | None) -> list[str]:
    """Write both files for the `model.onnx` in `directory`; returns their names.

    begin: the token in front of a text, if there is one. None are written for a model whose rotary
    angles depend on the text's length, which that library does not pass, nor for one that carries
    on more than keys and values, or whose layers borrow them or
    differ in heads.
    """
    model = ir.load(directory / MODEL_FILE)
    takes_length = any(value.name == "text_length" for value in model.graph.inputs)
    if takes_length or decoder.state_bytes or decoder.borrowed or decoder.whole_heads:
        return []
    _take_mask(model)
    _keep_every_position(model)
    ir.save(model, directory / GRAPH_FILE)
    config = _config(decoder, model.metadata_props, begin)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (directory / CONFIG_FILE).write_text(text, encoding="utf-8")
    return [GRAPH_FILE, CONFIG_FILE]


def _take_mask(model: ir.Model) -> None:
    """A mask of ones for the whole text instead of our two numbers; logits of every token."""
    graph, writer = model.graph, GraphWriter(model)
    inputs = {value.name: value for value in graph.inputs}
    mask = ir.Value(
        name="attention_mask", shape=ir.Shape([1, "total"]), type=ir.TensorType(ir.DataType.INT64)
    )
    first = graph[0]
    axis = writer.constant("mask_axis", np.array([1], np.int64))
    total = writer.emit(first, "ReduceSum", [mask, axis], {"keepdims": 0})
    count = writer.emit(first, "Shape", [inputs["input_ids"]], {"start": 1})
    past = writer.emit(first, "Sub", [total, count])
    every = writer.constant("every_logit", np.array([0], np.int64))
    for name, value in zip(_OWN_INPUTS, (past, every), strict=True):
        inputs[name].replace_all_uses_with(value)
        graph.inputs.remove(inputs[name])
    graph.inputs.insert(1, mask)


def _keep_every_position(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type == "GroupQueryAttention":
            node.attributes.pop("sliding_window_cache", None)
    for values, length in ((model.graph.inputs, "capacity"), (model.graph.outputs, "present")):
        for value in values:
            if value.shape is not None and len(value.shape) == 4:
                value.shape = ir.Shape([value.shape[0], value.shape[1], length, value.shape[3]])


def _config(decoder: Decoder, facts: dict[str, str], begin: int | None) -> dict[str, Any]:
    longest = int(facts[CONTEXT_KEY])
    ends = [int(end) for end in facts[END_KEY].split()]
    parts = ("key", "value")
    past = {f"past_{part}_names": f"past_key_values.%d.{part}" for part in parts}
    present = {f"present_{part}_names": f"present.%d.{part}" for part in parts}
    return {
        "model": {
            "type": "decoder",
            "context_length": longest,
            "vocab_size": decoder.vocabulary,
            "bos_token_id": ends[0] if begin is None else begin,
            "eos_token_id": ends,
            "pad_token_id": ends[0],
            "decoder": {
                "filename": GRAPH_FILE,
                "session_options": {"provider_options": []},
                "head_size": decoder.head_dim,
                "hidden_size": decoder.hidden,
                "num_attention_heads": decoder.heads,
                "num_hidden_layers": decoder.layers,
                "num_key_value_heads": decoder.kv_heads,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    **past,
                },
                "outputs": {"logits": "logits", **present},
            },
        },
        "search": {
            "do_sample": False,
            "max_length": min(longest, DEFAULT_CONTEXT),
            "past_present_share_buffer": True,
        },
    }
