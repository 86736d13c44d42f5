"""The process that runs .onnx originals: `python -m edgeq.pipeline.proof.onnx_worker`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.imports import do_without
from edgeq.core.tasks import task_of
from edgeq.formats.samples import fit
from edgeq.formats.text import TextEncoder
from edgeq.measure import arrays
from edgeq.measure.reference import ANSWERS_FILE, Recorded, write_record
from edgeq.measure.worker import serve
from edgeq.models.huggingface import TextFiles, read_text_files, with_dimension
from edgeq.models.original.network import is_installed, offline
from edgeq.models.original.tokenizer import open_tokenizer
from edgeq.pipeline.proof.onnx_original import OnnxOriginal, answers, made_up, open_original
from edgeq.pipeline.proof.onnx_prove import prove_onnx
from edgeq.pipeline.proof.onnx_request import (
    SAMPLE_FILE,
    OnnxAnswersRequest,
    OnnxProofRequest,
    OnnxRequest,
)
from edgeq.pipeline.proof.tokens import require_same_tokens
from edgeq.recipe import array_sets
from edgeq.recipe.sequences import carried, joined, require_state, sequences

_COMPARED = 3  # samples of calibration data
_REQUESTS: TypeAdapter[OnnxProofRequest | OnnxAnswersRequest] = TypeAdapter(
    OnnxProofRequest | OnnxAnswersRequest
)
Feed = Mapping[str, npt.NDArray[Any]]


def perform(given: bytes) -> dict[str, Any]:
    """Perform a request; the reply is plain JSON. Raises EdgeqError."""
    offline()
    request = _REQUESTS.validate_json(given)
    files = None
    if request.tokenizer is not None:
        files = read_text_files(request.tokenizer, str(request.tokenizer))
        files = with_dimension(files, request.dimension)
    head = files.head if files and task_of(request.task).has_sentence_head else None
    original = open_original(request.model, head)
    if request.images is not None:
        do_without("sklearn", "scipy")
        from edgeq.pipeline.proof.image_original import open_image_original

        original = open_image_original(request.images, request.model, task_of(request.task))
    require_state(original.inputs, original.outputs, request.state)
    if isinstance(request, OnnxProofRequest):
        return _prove(original, request, files)
    arrays.write_arrays(request.outputs / ANSWERS_FILE, _answers(original, request, files))
    recorded = Recorded(runtime=original.runtime)
    write_record(request.outputs, recorded)
    return recorded.model_dump(mode="json")


def _prove(
    original: OnnxOriginal, request: OnnxProofRequest, files: TextFiles | None
) -> dict[str, Any]:
    if files is not None:
        if is_installed():
            do_without("torch", "sklearn", "scipy")
            require_same_tokens(files, open_tokenizer(files))
        feeds = [*_tokenized(original, request, files)]
        found = prove_onnx(request.model, request.graph, feeds, original)
        return found.model_dump(mode="json")
    if request.arrays is None:
        feeds = [made_up(original)]
    else:
        feeds = list(itertools.islice(_feeds(original, request), _COMPARED))
    sample: dict[str, Any] = {name: array[None] for name, array in feeds[0].items()}
    np.savez(request.outputs / SAMPLE_FILE, **sample)
    return prove_onnx(request.model, request.graph, feeds, original).model_dump(mode="json")


def _tokenized(original: OnnxOriginal, request: OnnxRequest, files: TextFiles) -> Iterator[Feed]:
    encoder = TextEncoder(files.tokenizer_json(), files.max_tokens)
    names = [value.name for value in original.inputs]
    return (encoder.feeds(text, names) for text in request.texts)


def _answers(
    original: OnnxOriginal, request: OnnxAnswersRequest, files: TextFiles | None
) -> Iterator[npt.NDArray[Any]]:
    """Every output of every sample; of a model with a state, its steps along a first axis."""
    if files is not None:
        yield from answers(original, _tokenized(original, request, files))
        return
    if not request.state:
        yield from answers(original, _feeds(original, request))
        return
    names = [value.name for value in original.outputs]
    assert request.arrays is not None
    held = array_sets.read_arrays(request.arrays, request.samples)
    for steps in sequences(request.arrays, held, original.inputs, request.state):
        yield from joined(steps, original.named, request.state, names)


def _feeds(original: OnnxOriginal, request: OnnxRequest) -> Iterator[Feed]:
    path = request.arrays
    assert path is not None
    held = array_sets.read_arrays(path, request.samples)
    ranks = {value.name: len(value.shape) for value in original.inputs}
    try:
        if request.state:
            for steps in sequences(path, held, original.inputs, request.state):
                yield from (feed for feed, _ in carried(steps, original.named, request.state))
            return
        for feed in array_sets.feeds(path, held, ranks):
            yield {value.name: fit(feed[value.name], value) for value in original.inputs}
    except InvalidInput as error:
        file = str(path)
        raise InvalidInput(
            p if p.where == file else Problem(f"{file}: {p.where}", p.what, p.remedy)
            for p in error.problems
        ) from None


if __name__ == "__main__":
    sys.exit(serve(perform))
