"""A model in each format and preset, from its configuration alone: no weight is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.estimate.contents import Contents, Weight, guessed_tokenizer
from edgeq.estimate.kinds import bits_per_weight
from edgeq.estimate.sizes import Sizes, table_name
from edgeq.formats.registry import FILE_FORMATS, file_format
from edgeq.quantize.decide import decide, stored_bytes
from edgeq.quantize.presets import PRESETS
from edgeq.quantize.spec import Intent

_GRAPH_PER_WEIGHT = 600  # bytes of an .onnx graph
# Bits per weight of llama.cpp's mixes if its rules cannot be applied: from its Llama 3 8B files.
_MIX_BITS = {"Q2_K": 3.16, "Q3_K_M": 4.0, "Q4_0": 4.64, "Q4_K_M": 4.89, "Q5_K_M": 5.7, "Q6_K": 6.56}


def variants(
    sizes: Sizes,
    config: Mapping[str, Any],
    formats: Sequence[str],
    tokenizer_bytes: int,
    task: str,
) -> Iterator[Contents]:
    """The model in every preset of `formats`.

    config: the model's config.json. tokenizer_bytes: 0 if unknown.
    """
    offered = [each for each in FILE_FORMATS.values() if each.name in formats]
    for own in sorted(offered, key=lambda each: not each.has_mixes):
        format = own.name
        for label in own.decoder_presets if sizes.is_decoder else own.encoder_presets:
            weights = _weights(sizes, config, Intent(PRESETS[label], format, task))
            tokenizer = tokenizer_bytes or guessed_tokenizer(sizes)
            added = (
                tokenizer + _GRAPH_PER_WEIGHT * len(weights)
                if own.tokenizer_is_added
                else tokenizer // 2  # without the quotes and indentation of JSON
            )
            yield Contents(
                format=format,
                label=label,
                task=task,
                weights=weights,
                file_bytes=sum(weight.bytes for weight in weights.values()) + added,
                sizes=sizes,
                tokenizer_bytes=tokenizer,
                max_tokens=sizes.longest,
            )


def _weights(sizes: Sizes, config: Mapping[str, Any], intent: Intent) -> dict[str, Weight]:
    if not file_format(intent.format).has_mixes:
        return _in_onnx(sizes, intent)
    try:
        from edgeq.formats.gguf.decide import decide_gguf
        from edgeq.formats.gguf.names import gguf_names, mix_facts

        shapes = dict(sizes.shapes)
        names = gguf_names(config, shapes)
        decisions = decide_gguf(shapes, names, mix_facts(config), intent)
        return {
            name: Weight(shapes[name], made.number_format, made.bytes)
            for name, made in decisions.items()
        }
    except (EdgeqError, ImportError, KeyError):
        return _by_bits(sizes, intent.variant.name)  # an architecture that edgeq does not write yet


def _in_onnx(sizes: Sizes, intent: Intent) -> dict[str, Weight]:
    table = table_name(sizes.shapes)
    found = {}
    for name, shape in sizes.shapes.items():
        decision = decide(name, shape, intent)
        is_table = name == table and not (sizes.is_decoder and sizes.tied)
        size = stored_bytes(decision, shape, is_table=is_table)
        found[name] = Weight(shape, decision.number_format, size)
    return found


def _by_bits(sizes: Sizes, label: str) -> dict[str, Weight]:
    bits = _MIX_BITS.get(label, bits_per_weight(label))
    return {
        name: Weight(shape, label if len(shape) > 1 else "F32", _stored(shape, bits))
        for name, shape in sizes.shapes.items()
    }


def _stored(shape: tuple[int, ...], bits: float) -> int:
    return math.ceil(math.prod(shape) * (bits if len(shape) > 1 else 32) / 8)
