"""Starts the process that runs the original, and prepares its requests."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.terms import TextOrPair
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.measure.reference import OWN_READING
from edgeq.models.graphs.decoder_rope import rotations
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.model import DescribedModel
from edgeq.models.original.network import is_installed, unknown_architecture
from edgeq.pipeline.proof.request import AnswersRequest, ProofRequest, SpeechRequest
from edgeq.pipeline.proof.samples import TEXTS, decoder_samples, proof_texts
from edgeq.places.process import PassFailed, run_worker
from edgeq.recipe import data_sets
from edgeq.recipe.query_sets import read_queries

_PACKAGES = ("transformers", "torch", "sentence-transformers", "tokenizers")
_CORPUS = 20_000  # characters of calibration text to take samples from


def versions(model: DescribedModel) -> dict[str, str]:
    """Versions of the runtime of a model's original; empty if the original cannot be run."""
    if model.gguf is not None:
        from edgeq.quantize.ggml.llama_api import chosen_build

        return {"llama.cpp": chosen_build()}
    return {
        name: importlib.metadata.version(name)
        for name in _PACKAGES
        if is_installed() and importlib.util.find_spec(name.replace("-", "_"))
    }


def reference_of(model: DescribedModel) -> str:
    """The runtime of a model's original here, for a plan."""
    if model.images is not None:
        return ", ".join(f"{name} {versions(model)[name]}" for name in ("transformers", "torch"))
    if model.directory is None:
        return f"onnxruntime {importlib.metadata.version('onnxruntime')}, on the file as it is"
    if model.gguf is not None:
        return f"llama.cpp of {versions(model)['llama.cpp']}, on the file's weights in float32"
    unknown = unknown_architecture(model.directory)
    if unknown is not None:
        return f"{unknown.what}; before you build, {unknown.remedy}"
    by = versions(model)
    if model.decoder is not None or not (model.directory.path / "modules.json").is_file():
        by.pop("sentence-transformers", None)
    by.pop("tokenizers", None)
    return ", ".join(f"{name} {by[name]}" for name in by) or OWN_READING


def require_known(model: DescribedModel) -> None:
    """Raise InvalidInput for a model whose original the installed library is too old for."""
    if model.directory is not None and model.gguf is None:
        unknown = unknown_architecture(model.directory)
        if unknown is not None:
            raise InvalidInput(unknown)


def run_original(request: ProofRequest | AnswersRequest | SpeechRequest) -> dict[str, Any]:
    """The reply of a process that runs the original.

    Raises InvalidInput if it ends without a reply.
    """
    try:
        return run_worker(request, module="edgeq.pipeline.proof.worker")
    except PassFailed as error:
        what = f"the original could not be run: {error}"
        remedy = "see that its own library runs it by itself, or free some memory"
        raise InvalidInput(Problem(str(request.directory), what, remedy)) from None


def proof_request(
    model: DescribedModel, task: str, graph: Path, calibration: Path | None
) -> ProofRequest:
    """Samples of the calibration data, and some built-in ones, for the model's float graph."""
    directory = model.directory
    assert directory is not None
    paths = {"directory": directory.path.absolute(), "graph": graph.absolute()}
    if model.decoder is None:
        texts: Sequence[TextOrPair] = ()
        if calibration:
            ranks = task_of(task).ranks
            texts = read_queries(calibration).pairs if ranks else data_sets.read_texts(calibration)
        samples = proof_texts(texts, directory.max_tokens, task_of(task))
        dimension = directory.head.truncate
        return ProofRequest(**paths, task=task, texts=samples, dimension=dimension)
    corpus = data_sets.read_corpus(calibration)[:_CORPUS] if calibration else ""
    ids, first = _tokens(directory, [*TEXTS, corpus])
    turned = rotations(model.decoder)
    switch = turned.switch if turned.beyond is not None else None
    windows = decoder_samples(ids, first, model.decoder, switch)
    return ProofRequest(**paths, gguf=model.gguf, windows=windows)


def _tokens(directory: ModelDirectory, texts: Sequence[str]) -> tuple[list[int], int | None]:
    """Ids of the texts, and the token that the model expects before a text."""
    tokenizer = DecoderTokenizer(directory.tokenizer_json())
    around = tokenizer.ids("", True)
    return tokenizer.ids(" ".join(texts), False), around[0] if around else None
