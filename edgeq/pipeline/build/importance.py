"""The importance matrix of a model: how strong each input of each weight is on calibration text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.formats.gguf.convert import column_order
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.names import gguf_names
from edgeq.models.architectures import FAMILIES, decoder_of
from edgeq.models.architectures.experts import expert_of, of_all_experts
from edgeq.models.graphs.statistics import input_powers
from edgeq.models.huggingface import ModelDirectory
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed


def importance_of(
    float_directory: Path, directory: ModelDirectory, feeds: Sequence[Feed], dataset: str
) -> Importance:
    """The statistics of llama.cpp's `llama-imatrix`, from the float graph: sums of squared inputs.

    float_directory: the ONNX graph in float32. feeds: windows of calibration text, all of the same
    length. dataset: the name of the text, which the matrix carries.
    """
    powers = input_powers(float_directory, feeds)
    # Some experts may not have been chosen.
    experts = (name for name in directory.tensors if of_all_experts(name) and "weight" in name)
    names = gguf_names(directory.config, {**powers, **dict.fromkeys(experts)})
    stacks: dict[str, list[tuple[Floats, int]]] = {}
    is_decoder = directory.config.get("model_type") in FAMILIES
    decoder = decoder_of(directory.config, str(directory.path)) if is_decoder else None
    for name in sorted(names, key=expert_of):
        power, rows = powers.get(name) or (np.zeros(directory.tensors[name].shape[-1]), 0)
        columns = column_order(decoder, name)
        power = power if columns is None else power[columns]
        stacks.setdefault(names[name], []).append(((power * rows).astype(np.float32), rows))
    sums: dict[str, Floats] = {}
    counts: dict[str, Any] = {}
    for name, each in stacks.items():
        of_each, rows_of_each = zip(*each, strict=True)
        sums[name] = np.stack(of_each) if len(each) > 1 else of_each[0]
        counts[name] = np.array(rows_of_each) if len(each) > 1 else rows_of_each[0]
    window = feeds[0]["input_ids"].shape[-1]
    return Importance(
        sums=sums,
        counts=counts,
        datasets=(dataset,),
        chunks=len(feeds),
        chunk_tokens=window,
    )
