"""Recovery as a build stage: made once for the same values, whatever file holds them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgeq.core.artifact import ADAPTER_FILE, GGUF_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.threads import default_threads
from edgeq.models.weights import open_weights
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.recover.record import Recovery, versions
from edgeq.pipeline.recover.recovered import Recovered
from edgeq.quantize.adapter import load_adapter, planned_factors, save_adapter
from edgeq.quantize.number_formats import Floats, QuantizedTensor
from edgeq.quantize.recover_spec import LEAST, RecoverSpec, too_few
from edgeq.quantize.statistics import Feed

Values: TypeAlias = Iterator[tuple[str, Floats]]
"""Matrices by their Hugging Face names, float32 `(rows, columns)`, one at a time."""

_ADAPTER, _RECORD = "adapter.npz", "recovery.json"


def recover_gguf(stages: Stages, describe: str, spec: RecoverSpec, destination: Path) -> Recovered:
    """Train an adapter for the GGUF file that a build has just written to `destination`, next to
    it.

    Raises what `recover_codes` does.
    """
    from edgeq.formats.gguf.adapter import values_of_file, write_adapter

    decoder, names = stages.planned.model.decoder, _matrices(stages)
    assert decoder is not None
    file = destination / GGUF_FILE
    found = _recover(stages, describe, spec, lambda: values_of_file(file, decoder, names))
    if not found.adapter:
        return found
    write_adapter(destination / ADAPTER_FILE, found.adapter, decoder)
    return replace(found, files=(ADAPTER_FILE,))


def recover_codes(
    stages: Stages, describe: str, spec: RecoverSpec, codes: Mapping[str, QuantizedTensor]
) -> Recovered:
    """Train an adapter for weights that a file will hold as `codes`, the others in float32.

    Raises InvalidInput for calibration text too short for a holdout.
    """
    directory = stages.planned.model.directory
    assert directory is not None
    weights, names = open_weights(directory), _matrices(stages)

    def values() -> Values:
        for name in names:
            yield name, codes[name].dequantize() if name in codes else weights.read(name)

    return _recover(stages, describe, spec, values)


def _recover(
    stages: Stages, describe: str, spec: RecoverSpec, values: Callable[[], Values]
) -> Recovered:
    """Train, or return the stored result of training on the same values."""
    key = {
        **stages.float_key(),
        "values": _digest(values()),
        "recover": spec.model_dump(mode="json"),
        "calibration": stages.calibration.key(),
        "tools": {**stages.tools, **versions()},
    }

    def make(destination: Path) -> None:
        # Read once, when torch's OpenMP loads: threads that spin while they wait for others make a
        # busy machine ten times slower (seen on two cores).
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from edgeq.pipeline.recover.train import train

        model = stages.planned.model
        assert model.directory is not None and model.decoder is not None
        samples = _samples(stages)
        with stages.store.workplace("recover", key) as steps:
            adapter, record = train(
                model.directory,
                model.decoder,
                values(),
                list(planned_factors(model.tensors, spec.rank)),
                samples,
                spec,
                steps,
                lambda step: stages.progress(f"{describe}: {step}"),
                default_threads(),
            )
        save_adapter(destination / _ADAPTER, adapter)
        (destination / _RECORD).write_text(record.model_dump_json(), encoding="utf-8")

    place = stages.store.stage("recover", key, make, describe=describe)
    record = Recovery.model_validate_json((place / _RECORD).read_bytes())
    found = Recovered(load_adapter(place / _ADAPTER), record)
    for note in found.notes:
        stages.progress(f"{describe}: {note}")
    return found


def _samples(stages: Stages) -> list[Feed]:
    feeds = stages.feeds(stages.float_graph())
    if len(feeds) < LEAST:
        remedy = f"give text for {LEAST} or more, or remove 'recover'"
        raise InvalidInput(Problem("data.calibration", too_few(len(feeds)), remedy))
    return [{"input_ids": feed["input_ids"]} for feed in feeds]


def _matrices(stages: Stages) -> list[str]:
    return [name for name, shape in stages.planned.model.tensors.items() if len(shape) == 2]


def _digest(values: Values) -> str:
    """SHA-256 of names and values: GGUF and ONNX files of the same codes share an adapter."""
    digest = hashlib.sha256()
    for name, rows in values:
        digest.update(f"{name}\0{rows.shape}\0".encode())
        # Zero and negative zero are treated as one: which one a product gives depends on its order.
        digest.update(np.ascontiguousarray(rows + np.float32(0), "<f4").data)
    return digest.hexdigest()
