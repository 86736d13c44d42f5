"""Learned rounding as a build stage, made once for the codes that it starts from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.core.steps import Steps
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.core.threads import default_threads
from edgeq.pipeline.recover.record import versions
from edgeq.quantize.codes import load_codes, save_codes
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed

if TYPE_CHECKING:
    from edgeq.pipeline.build.stages import Stages

_CODES_FILE = "codes.npz"
_SEED = 0


def learned_codes(
    stages: Stages, describe: str, start: Mapping[str, QuantizedTensor], trained: frozenset[str]
) -> dict[str, QuantizedTensor]:
    """`start` with the codes of the weights `trained` learned, in its order.

    Weights outside the repeated layers keep their codes: tables, the output layer. Raises
    InvalidInput for a model that is not a directory, or whose layers torch does not run one after
    the other.
    """
    key = {
        **stages.float_key(),
        "start": _digest(start),
        "trained": sorted(trained),
        "calibration": stages.calibration_key(),
        "tools": {**stages.tools, **versions()},
    }

    def make(destination: Path) -> None:
        with stages.store.workplace("learned", key) as steps:
            found = _learn(
                stages,
                _feeds(stages),
                start,
                trained,
                steps,
                lambda step: stages.progress(f"{describe}: {step}"),
            )
        save_codes(destination / _CODES_FILE, found)

    return load_codes(stages.store.stage("learned", key, make, describe=describe) / _CODES_FILE)


def _learn(
    stages: Stages,
    feeds: Sequence[Feed],
    start: Mapping[str, QuantizedTensor],
    trained: frozenset[str],
    steps: Steps,
    progress: Progress,
) -> dict[str, QuantizedTensor]:
    # Read once, when torch's OpenMP loads: threads that spin while they wait for others make a
    # busy machine ten times slower (seen on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from edgeq.models.original.blocks import Blocks
    from edgeq.models.original.reproducible import reproducible
    from edgeq.pipeline.learn.walk import Walk

    directory = stages.model.directory
    assert directory is not None
    with reproducible(default_threads()), TemporaryFolder() as folder:
        walk = Walk(Blocks(directory, stages.task), start, trained, Path(folder), _SEED)
        progress(f"learn: run the embeddings on {len(feeds)} samples")
        walk.begin(feeds)
        return walk.run(steps, progress)


def _feeds(stages: Stages) -> list[Feed]:
    """Inputs of the network in torch for each calibration sample."""
    feeds = stages.feeds(stages.float_graph())
    if stages.model.decoder is None:
        return feeds
    return [{"input_ids": feed["input_ids"]} for feed in feeds]


def _digest(tensors: Mapping[str, QuantizedTensor]) -> str:
    """SHA-256 of names, codes and scales."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        shape = tensor.codes.shape, tensor.scales.shape
        digest.update(f"{name}\0{tensor.number_format.name}\0{shape}\0".encode())
        digest.update(np.ascontiguousarray(tensor.codes).data)
        digest.update(np.ascontiguousarray(tensor.scales, "<f4").data)
    return digest.hexdigest()
