"""One artifact as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.artifact import DATA_FILE, MODEL_FILE
from edgeq.core.known_settings import SAMPLE_KEY, SESSION_BY_CPU, SESSION_BY_CPU_KEY, STATE_KEY
from edgeq.formats.onnx import write
from edgeq.formats.onnx.genai import write_genai
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.formats.written import Made, copy_tokenizer, settings_of
from edgeq.models.huggingface import TextFiles
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.proof.onnx_request import SAMPLE_FILE
from edgeq.pipeline.recover.recovered import Recovered
from edgeq.quantize.decide import decide
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.spec import Intent

_LOUDEST = 0.08
"""Relative error of answers that coded inputs and weights may make; what is worse stays in floats.

Vectors are compared with each other and the best label counts, so what matters of these is how they
differ from their mean."""


def write_onnx(stages: Stages, name: str, intent: Intent, destination: Path) -> Made:
    """Write graph, weights and, for texts, the tokenizer into `destination`."""
    variant, task = intent.variant, stages.task
    recovered = Recovered()
    graph = stages.float_graph()
    if variant.weights == "float32":
        written = write.copy_float(graph, destination)
    elif rounding_method(variant.method).folds_graph:
        from edgeq.pipeline.build.folded import write_folded

        written = write_folded(stages, name, intent, destination)
    elif stages.planned.model.decoder is not None:
        tensors = stages.planned.model.tensors
        decisions = {n: decide(n, shape, intent) for n, shape in tensors.items()}
        codes = stages.codes(decisions, name)
        if variant.recover:
            from edgeq.pipeline.recover.stage import recover_codes

            recovered = recover_codes(stages, name, variant.recover, codes)
        written = write.write_codes(
            graph, destination, lambda n, _: decisions[n], codes, recovered.adapter
        )
    else:
        written = write.write_quantized(
            graph,
            destination,
            lambda tensor, shape: decide(tensor, shape, intent),
            stages.feeds(graph),
            lambda step: stages.progress(f"{name}: {step}"),
            lambda codes, trained: stages.trained(codes, trained, name),
            _LOUDEST,
            around_mean=task.classifies or task.embeds or task.ranks,
            observed=stages.observed,
        )
    files = [file for file in (MODEL_FILE, DATA_FILE) if (destination / file).exists()]
    text = stages.planned.model.text
    if text is not None:
        decoder = stages.planned.model.decoder
        longest = None if decoder else text.max_tokens
        files += copy_tokenizer(text, destination, settings=decoder is not None, max_tokens=longest)
        if decoder is not None:
            files += write_genai(destination, decoder, _begin(text))
    state = stages.planned.recipe.model.carried
    settings = {
        **settings_of(intent),
        SESSION_BY_CPU_KEY: {name: dict(SESSION_BY_CPU[name]) for name in SESSION_BY_CPU},
        "inputs": written.input_codes,
        **recovered.settings,
        **({STATE_KEY: state} if state else {}),
        **({} if text else {SAMPLE_KEY: _sample(stages.onnx_proof() / SAMPLE_FILE)}),
    }
    records = {**written.tensors, **recovered.tensors}
    return Made(files, records, written.inputs, written.outputs, settings)


def _begin(text: TextFiles) -> int | None:
    """The token that the tokenizer puts in front of a text."""
    around = DecoderTokenizer(text.tokenizer_json()).ids("")
    return around[0] if around else None


def _sample(path: Path) -> dict[str, dict[str, Any]]:
    """What a record says of the sample in `path`, so that later probes run on what is allowed."""
    with np.load(path) as arrays:
        return {name: _known(arrays[name][0]) for name in arrays.files}


def _known(array: np.ndarray) -> dict[str, Any]:
    known: dict[str, Any] = {"shape": list(array.shape)}
    if array.dtype.kind in "iu" and array.size:
        known["integer"] = int(array.flat[0])
    return known
