"""One artifact as a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeq.core.artifact import GGUF_FILE, TensorRecord, ValueInfo
from edgeq.formats.gguf.decide import GgufDecision
from edgeq.formats.gguf.file_format import gguf_decisions
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.unread import write_unread
from edgeq.formats.gguf.write import write_gguf_model
from edgeq.formats.written import Made, settings_of
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.recover.recovered import Recovered
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods.importance import IMPORTANCE
from edgeq.quantize.methods.judged import with_fall_back
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.spec import Intent


def write_gguf(stages: Stages, name: str, intent: Intent, destination: Path) -> Made:
    """Write the file and, where the recipe asks for it, its adapter into `destination`."""
    model = stages.planned.model
    directory = model.directory
    assert directory is not None
    decisions = gguf_decisions(model, intent)
    own = {
        tensor: Decision(Choice(d.number_format, d.method, "float32", None), d.reason)
        for tensor, d in decisions.items()
        if d.has_own_codes
    }
    codes = stages.codes(own, name) if own else {}
    weighted = any(d.method == IMPORTANCE.name and not d.has_own_codes for d in decisions.values())
    importance = stages.importance() if weighted else None
    if stages.model.unread is not None:
        return _of_file(stages, name, intent, destination, decisions, codes, importance)
    written = write_gguf_model(
        directory,
        destination / GGUF_FILE,
        decisions,
        codes,
        importance,
        mix=intent.variant.weights,
        progress=lambda step: stages.progress(f"{name}: {step}"),
        name=Path(stages.planned.recipe.model.source.value).name,
    )
    files, recovered = [GGUF_FILE], Recovered()
    if intent.variant.recover:
        from edgeq.pipeline.recover.stage import recover_gguf

        recovered = recover_gguf(stages, name, intent.variant.recover, destination)
        files += recovered.files
    notes = {"notes": [*written.notes, *recovered.notes]}
    settings = {**settings_of(intent), **recovered.settings, **notes}
    inputs: tuple[ValueInfo, ...] = ()
    outputs: tuple[ValueInfo, ...] = ()
    if model.decoder is None:  # what the same model has as an ONNX file
        width = directory.dimension
        inputs = (ValueInfo(name="input_ids", dtype="int64", shape=(1, "tokens")),)
        outputs = (ValueInfo(name="sentence_embedding", dtype="float32", shape=(1, width)),)
    records = {**written.tensors, **recovered.tensors}
    return Made(files, records, inputs, outputs, settings)


def _of_file(
    stages: Stages,
    name: str,
    intent: Intent,
    destination: Path,
    decisions: Mapping[str, GgufDecision],
    codes: Mapping[str, QuantizedTensor],
    importance: Importance | None,
) -> Made:
    """Write a file of an architecture that only llama.cpp knows."""
    source, weights = stages.model.unread, intent.variant.weights
    assert source is not None
    write_unread(
        source,
        destination / GGUF_FILE,
        decisions,
        codes,
        importance,
        weights,
        lambda step: stages.progress(f"{name}: {step}"),
    )
    records = {
        tensor: TensorRecord(
            shape=stages.planned.model.tensors[tensor],
            number_format=decision.number_format,
            method=codes[tensor].method if tensor in codes else decision.method,
            bytes=decision.bytes,
            note=with_fall_back(decision.reason, decision.method, codes.get(tensor)),
        )
        for tensor, decision in decisions.items()
    }
    return Made([GGUF_FILE], records, (), (), {**settings_of(intent), "notes": []})
