"""What edgeq-runner is given for a pass of a language model in GGUF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.known_settings import KV_KEY
from edgeq.core.kv_cache import BYTES_PER_VALUE, QUANTIZED, KvType
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.cache import PROMPT, cache_facts, cache_type
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.package import Package
from edgeq.places.process import Request
from edgeq.places.runner.job import Job
from edgeq.quantize.ggml.llama_abi import GGML_TYPES
from edgeq.recipe.budgets import Workload

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
    header = read_whole(runtime_cache.model_file(package))
    kind = cache_type(header, package.artifact.settings.get(KV_KEY))
    context = len(request.ids) if request.work == "quality" else work.context
    feeds, text = folder / "feeds.npy", folder / "text"
    np.save(feeds, np.array(request.ids, np.int32))
    text.write_text(request.text, encoding="utf-8", newline="")
    size = min(PROMPT, context)
    cache_bytes = cache_facts(header).bytes(context, BYTES_PER_VALUE[kind], size)
    return Job(
        base=(
            *(f"feeds {feeds.name}", f"text {text.name}", f"context {context}"),
            *(f"prompt {work.prompt}", f"generate {work.generate}"),
            *(f"cache_type {GGML_TYPES[kind]}", f"flash {int(kind in QUANTIZED)}"),
        ),
        lines=(
            *_limits(request, work),
            *(f"effort {request.effort}", f"last {request.last or _WHOLE}"),
            *([f"piece {request.piece}"] if request.piece else []),
        ),
        files=(feeds, text),
        facts={"inputs": _words(request, work, context, kind)}
        | ({"cache_bytes": cache_bytes} if request.work == "memory" else {}),
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


def _words(request: Request, work: Workload, context: int, kind: KvType) -> str:
    around = f"context {context} in {kind}"
    if request.work == "quality":
        return f"{context} tokens, {around}"
    steps = work.generate
    prompt = work.prompt
    if request.work == "memory":
        steps = min(steps, context - 1)
        prompt = context - steps
    return f"prompt {prompt}, generate {steps}, {around}"
