"""Learned rounding of a model: from codes that every weight has to better ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.steps import Steps
from edgeq.core.tasks import Task
from edgeq.core.terms import Progress
from edgeq.core.threads import default_threads
from edgeq.models.model import DescribedModel
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed

_SEED = 0


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

    feeds: calibration samples. steps: of this run, which is resumed after an interruption. Weights
    that torch neither multiplies by nor looks up keep their codes. All weights are in memory,
    several times: about 40 bytes for each that is trained. Raises InvalidInput for a model that is
    in no directory, and for one whose files name its layers in another way than transformers.
    """
    if model.directory is None:
        what = "learned rounding trains the layers of a model in a directory, and this is a file"
        raise InvalidInput(Problem("quantize", what, "write 'method: gptq'"))
    # Read once, when torch's OpenMP loads: threads that spin while they wait for others make a
    # busy machine ten times slower (seen on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from edgeq.models.original.reproducible import reproducible
    from edgeq.pipeline.distil.network import Answers, Network, Predictions
    from edgeq.pipeline.learn.train import train

    with reproducible(default_threads()):
        network: Network
        inputs: Sequence[Feed] = feeds
        if model.decoder:
            network = Predictions(model.directory, model.decoder)
            # a decoder's graph has a cache among its inputs
            inputs = [{"input_ids": feed["input_ids"]} for feed in feeds]
        else:
            network = Answers(model.directory, task)
        names = [name for name in start if name in trained and network.places(name)]
        return train(network, start, names, inputs, _SEED, steps, progress)


def digest(tensors: Mapping[str, QuantizedTensor]) -> str:
    """SHA-256 of names, codes and scales."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        shape = tensor.codes.shape, tensor.scales.shape
        found.update(f"{name}\0{tensor.number_format.name}\0{shape}\0".encode())
        found.update(np.ascontiguousarray(tensor.codes).data)
        found.update(np.ascontiguousarray(tensor.scales, "<f4").data)
    return found.hexdigest()
