"""Learned rounding of a model: from codes that every weight has to better ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.steps import Steps
from edgeq.core.tasks import Task
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.core.threads import default_threads
from edgeq.models.model import DescribedModel
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed

_SEED = 0
_COSTS_FILE = "costs.npy"


def learn(
    model: DescribedModel,
    task: Task,
    feeds: Sequence[Feed],
    start: Mapping[str, QuantizedTensor],
    trained: frozenset[str],
    steps: Steps,
    progress: Progress,
) -> dict[str, QuantizedTensor]:
    """`start` with the codes of the weights `trained` learned, in its order.

    feeds: calibration samples. steps: of this run; the codes of finished blocks are found there
    after an interruption. Weights outside the repeated layers keep their codes: tables, the output
    layer. Raises InvalidInput for a model whose layers torch does not run one after the other.
    """
    if model.directory is None:
        what = "learned rounding trains a model's layers, and an .onnx file has none"
        raise InvalidInput(Problem("quantize", what, "write 'method: gptq'"))
    # Read once, when torch's OpenMP loads: threads that spin while they wait for others make a
    # busy machine ten times slower (seen on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from edgeq.models.original.blocks import Blocks
    from edgeq.models.original.reproducible import reproducible
    from edgeq.pipeline.learn.costs import output_costs
    from edgeq.pipeline.learn.walk import Walk

    # a decoder's graph has a cache among its inputs
    inputs: Sequence[Feed] = feeds
    if model.decoder:
        inputs = [{"input_ids": feed["input_ids"]} for feed in feeds]
    with reproducible(default_threads()), TemporaryFolder() as folder:
        blocks, pooling = Blocks(model.directory, task), model.directory.head.pooling
        if not (stored := steps.find(_COSTS_FILE)):
            progress("learn: measure what errors of each block cost")
            costs = output_costs(blocks, task, pooling, inputs, Path(folder) / "costs", _SEED)
            with steps.writing(_COSTS_FILE) as partial:
                np.save(partial, costs)
            stored = steps.find(_COSTS_FILE)
            assert stored is not None
        costs = np.load(stored)
        walk = Walk(blocks, start, trained, Path(folder), costs, _SEED)
        walk.begin(inputs)
        return walk.run(steps, progress)


def digest(tensors: Mapping[str, QuantizedTensor]) -> str:
    """SHA-256 of names, codes and scales."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        shape = tensor.codes.shape, tensor.scales.shape
        found.update(f"{name}\0{tensor.number_format.name}\0{shape}\0".encode())
        found.update(np.ascontiguousarray(tensor.codes).data)
        found.update(np.ascontiguousarray(tensor.scales, "<f4").data)
    return found.hexdigest()
