"""What edgeq-runner is given for a pass of a language model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import default_rng

from edgeq.core.artifact import MODEL_FILE, TOKENIZER_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.known_settings import KV_KEY
from edgeq.core.kv_cache import BYTES_PER_VALUE, QUANTIZED
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.cache import PROMPT, cache_facts, cache_type
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.onnx.decoder import OnnxDecoder, caches
from edgeq.formats.package import Package
from edgeq.formats.samples import made_up
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.onnx_session import PRODUCT_MODEL
from edgeq.places.process import Request
from edgeq.places.runner.job import Job, session_lines, write_feeds
from edgeq.quantize.ggml.llama_abi import GGML_TYPES
from edgeq.recipe.budgets import Workload

_IDS = "ids.npy"
_WHOLE = 1 << 30  # tokens: more than a text has


def make_text_job(request: Request, package: Package, folder: Path) -> Job:
    """The lines and files of a pass; the file's header is read here first.

    Raises InvalidInput for a quality pass other than the logits of tokens.
    """
    work = request.workload
    assert work is not None  # present in every request for a language model
    if request.work == "quality" and not request.ids:
        what = "edgeq-runner gives logits of tokens, and compares nothing"
        raise InvalidInput(Problem(package.artifact.name, what, "measure it with Python there"))
    context = len(request.ids) if request.work == "quality" else work.context
    is_onnx = package.model_name == MODEL_FILE
    model = (_onnx if is_onnx else _gguf)(request, package, context, folder)
    return Job(
        base=(
            *model.lines,
            *(f"ids {_IDS}", f"context {context}"),
            *(f"prompt {work.prompt}", f"generate {work.generate}"),
        ),
        lines=(
            *_limits(request, work),
            *(f"effort {request.effort}", f"last {request.last or _WHOLE}"),
            *([f"piece {request.piece}"] if request.piece else []),
        ),
        files=(folder / _IDS, *model.files),
        facts={"inputs": _words(request, work, context, model.cache_type)}
        | ({"cache_bytes": model.cache_bytes} if request.work == "memory" else {}),
    )


@dataclass(frozen=True)
class _Model:
    """What a runtime needs: lines and files; the type and the bytes of its cache."""

    lines: tuple[str, ...]
    files: tuple[Path, ...]
    cache_type: str
    cache_bytes: int


def _gguf(request: Request, package: Package, context: int, folder: Path) -> _Model:
    header = read_whole(runtime_cache.model_file(package))
    kind = cache_type(header, package.artifact.settings.get(KV_KEY))
    text = folder / "text"
    text.write_text(request.text, encoding="utf-8", newline="")
    np.save(folder / _IDS, np.array(request.ids, np.int32))
    return _Model(
        lines=(
            f"text {text.name}",
            f"cache_type {GGML_TYPES[kind]}",
            f"flash {int(kind in QUANTIZED)}",
        ),
        files=(text,),
        cache_type=kind,
        cache_bytes=cache_facts(header).bytes(context, BYTES_PER_VALUE[kind], min(PROMPT, context)),
    )


def _onnx(request: Request, package: Package, context: int, folder: Path) -> _Model:
    """Texts become token ids here: the runner has no tokenizer but llama.cpp's."""
    artifact = package.artifact
    ids = request.ids or DecoderTokenizer(package.read(TOKENIZER_FILE)).ids(request.text, True)
    np.save(folder / _IDS, np.array(ids, np.int32))
    feeds, probe = folder / "feeds.npy", folder / "probe.onnx"
    probe.write_bytes(PRODUCT_MODEL)
    # What a copy with packed weights is compared by.
    write_feeds(feeds, artifact, [made_up(artifact.inputs, artifact.settings, default_rng(0))])
    held = list(caches({value.name: value.shape for value in artifact.inputs}, context))
    logits = next(value for value in artifact.outputs if value.name == "logits")
    return _Model(
        lines=(
            *(f"probe {probe.name}", f"feeds {feeds.name}", f"vocabulary {logits.shape[-1]}"),
            *session_lines(artifact),
            *(f"cache {c.past} {c.present} {' '.join(map(str, c.shape))}" for c in held),
        ),
        files=(feeds, probe),
        cache_type=OnnxDecoder.cache_type,
        cache_bytes=sum(cache.nbytes(context) for cache in held),
    )


def _limits(request: Request, work: Workload) -> Iterator[str]:
    """Limits on seconds, as `edgeq.measure.generation.targets` has them."""
    limits = request.limits
    if "first_token" in limits:
        yield f"limit 0.9 {limits['first_token']!r}"
    if "prompt" in limits:
        yield f"limit 0.5 {work.prompt / limits['prompt']!r}"
    if "generation" in limits:
        yield f"rest_limit 0.5 {work.generate / limits['generation']!r}"


def _words(request: Request, work: Workload, context: int, kind: str) -> str:
    around = f"context {context} in {kind}"
    if request.work == "quality":
        return f"{context} tokens, {around}"
    steps = work.generate
    prompt = work.prompt
    if request.work == "memory":
        steps = min(steps, context - 1)
        prompt = context - steps
    return f"prompt {prompt}, generate {steps}, {around}"
