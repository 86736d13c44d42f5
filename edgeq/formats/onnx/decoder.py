"""Language models as ONNX files on onnxruntime, with a KV cache that is written in place.

For graphs made by `edgeq.models.graphs.decoder_onnx`. Keys and values are float32 arrays for
`context` positions, a graph's input and output at the same time, so nothing is copied from step to
step and only used positions take memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.core.metadata_keys import SWITCH_KEY
from edgeq.formats.base import Floats
from edgeq.formats.language import Ids
from edgeq.formats.onnx.prepacked import open_model
from edgeq.formats.package import Package
from edgeq.formats.written_decoder import WrittenDecoder
from edgeq.models import onnx_session

_AT_ONCE = 512
"""Tokens in one run: attention holds heads × tokens × positions numbers, and logits are wide."""


def open_decoder(package: Package, threads: int, context: int | None = None) -> OnnxDecoder:
    """Open the language model in `package`, with a cache for `context` positions.

    Raises InvalidInput if the file supports fewer, or was made by another version of edgeq.
    """
    return OnnxDecoder(package, threads, context)


@dataclass(frozen=True)
class Cache:
    """What a layer carries on: the names of an input and an output, float32 of this shape."""

    past: str
    present: str
    shape: tuple[int, ...]

    def nbytes(self, context: int) -> int:
        """Bytes that `context` positions use when filled; unwritten memory is not resident."""
        if not self.past.endswith((".key", ".value")):
            return 4 * math.prod(self.shape)
        _, heads, positions, width = self.shape
        return 4 * heads * min(context, positions) * width


def caches(shapes: Mapping[str, Sequence[int | str | None]], context: int) -> Iterator[Cache]:
    """The caches among a graph's inputs, for `context` positions. shapes: of inputs, by name."""
    for name, shape in shapes.items():
        if name.startswith("past_key_values."):
            sizes = tuple(size if isinstance(size, int) else context for size in shape)
            yield Cache(name, name.replace("past_key_values", "present"), sizes)


class OnnxDecoder(WrittenDecoder):
    """A decoder on onnxruntime."""

    def __init__(self, package: Package, threads: int, context: int | None) -> None:
        model = open_model(package, threads)
        facts = model.session.get_modelmeta().custom_metadata_map
        super().__init__(package, facts, f"onnxruntime {onnx_session.version()}", threads, context)
        self.prepared = model.prepared
        self._model = model  # keeps the folder of an unpacked archive
        self._bound = BoundSession(model.session, self.context)
        self._switch = int(facts[SWITCH_KEY]) if SWITCH_KEY in facts else None
        self._seen: list[Ids] = []

    def cache_bytes(self, context: int) -> int:
        """Keys and values in float32, and what layers without them carry on; layers with a short
        window keep few positions."""
        return self._bound.nbytes(context)

    def _clear(self) -> None:
        self._seen.clear()

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        before = sum(map(len, self._seen))
        length = before + len(token_ids)
        if self._switch is not None and before <= self._switch < length:
            # Earlier keys were rotated by the angles of short texts: recompute them.
            self._run(np.concatenate([*self._seen, token_ids[:0]]), 0, length, every=False)
        self._seen.append(token_ids)
        return self._run(token_ids, before, length, every)

    def _run(self, token_ids: Ids, past: int, length: int, every: bool) -> Floats:
        """Logits of every one of `token_ids` or of the last; `length` as in `BoundSession.run`."""
        logits = np.empty((len(token_ids) if every else 1, self.vocabulary), np.float32)
        for start in range(0, len(token_ids), _AT_ONCE):
            piece = token_ids[start : start + _AT_ONCE]
            into = logits[start : start + len(piece)] if every else logits
            self._bound.run(piece, past + start, length, into)
        return logits


class BoundSession:
    """A session, bound to keys and values of `context` positions."""

    def __init__(self, session: onnx_session.Session, context: int) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._shapes = {value.name: tuple(value.shape) for value in session.get_inputs()}
        self._takes_length = "text_length" in self._shapes
        for cache in caches(self._shapes, context):
            array = onnx_session.array_value(np.zeros(cache.shape, np.float32))
            self._binding.bind_ortvalue_input(cache.past, array)
            self._binding.bind_ortvalue_output(cache.present, array)

    def nbytes(self, context: int) -> int:
        """See `Cache.nbytes`."""
        return sum(cache.nbytes(context) for cache in caches(self._shapes, context))

    def run(self, token_ids: Ids, past: int, length: int, into: Floats) -> None:
        """Run `token_ids` after `past` positions; logits of the last tokens go `into`.

        into: float32 (kept, vocabulary), one row per requested token. length: of the whole text,
        which determines its rotary angles.
        """
        feeds = {
            "input_ids": token_ids.astype(np.int64)[None],
            "past_length": np.array([past], np.int64),
            "logits_to_keep": np.array([len(into)], np.int64),
        }
        if self._takes_length:
            feeds["text_length"] = np.array([length], np.int64)
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, array)
        self._binding.bind_ortvalue_output("logits", onnx_session.array_value(into[None]))
        self._session.run_with_iobinding(self._binding)
