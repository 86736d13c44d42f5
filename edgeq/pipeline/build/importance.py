"""The importance matrix of a model: how strong each input of each weight is on calibration text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.names import gguf_names
from edgeq.models.graphs.statistics import input_powers
from edgeq.models.huggingface import ModelDirectory
from edgeq.quantize.statistics import Feed


def importance_of(
    float_directory: Path, directory: ModelDirectory, feeds: Sequence[Feed], dataset: str
) -> Importance:
    """The statistics of llama.cpp's `llama-imatrix`, from the float graph: sums of squared inputs.

    float_directory: the ONNX graph in float32. feeds: windows of calibration text, all of the same
    length. dataset: the name of the text, which the matrix carries.
    """
    powers = input_powers(float_directory, feeds)
    names = gguf_names(directory.config, dict.fromkeys(powers, ()))
    window = feeds[0]["input_ids"].shape[-1]
    return Importance(
        sums={names[n]: (power * rows).astype(np.float32) for n, (power, rows) in powers.items()},
        counts={names[name]: rows for name, (_, rows) in powers.items()},
        datasets=(dataset,),
        chunks=len(feeds),
        chunk_tokens=window,
    )
