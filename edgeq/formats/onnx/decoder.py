"""Language models as ONNX files on onnxruntime, with a KV cache that is written in place.

For graphs made by `edgeq.models.graphs.decoder_onnx`. Keys and values are float32 arrays for
`context` positions, a graph's input and output at the same time, so nothing is copied from step to
step and only used positions take memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
        before = self._position
        length = before + len(token_ids)
        if self._switch is not None:
            if before <= self._switch < length:
                # Earlier keys were rotated by the angles of short texts: recompute them.
                self._run(np.concatenate([*self._seen, token_ids[:0]]), 0, length, every=False)
            self._seen.append(token_ids)
        return self._run(token_ids, before, length, every)

    def _run(self, token_ids: Ids, past: int, length: int, every: bool) -> Floats:
        """Logits of every one of `token_ids` or of the last; `length` as in `BoundSession.run`."""
        if len(token_ids) == 1:
            return self._bound.step(token_ids, past, length)
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
        self._shapes = {value.name: tuple(value.shape) for value in session.get_inputs()}
        (self._vocabulary,) = (v.shape[-1] for v in session.get_outputs() if v.name == "logits")
        self._caches = [
            (cache, onnx_session.array_value(np.zeros(cache.shape, np.float32)))
            for cache in caches(self._shapes, context)
        ]
        # Binding anew takes as long as a small model's step does.
        self._step = self._bind(np.zeros(1, np.int64), np.zeros((1, self._vocabulary), np.float32))

    def nbytes(self, context: int) -> int:
        """See `Cache.nbytes`."""
        return sum(cache.nbytes(context) for cache, _ in self._caches)

    def run(self, token_ids: Ids, past: int, length: int, into: Floats) -> None:
        """Run `token_ids` after `past` positions; logits of the last tokens go `into`.

        into: float32 (kept, vocabulary), one row per requested token. length: of the whole text,
        which determines its rotary angles.
        """
        bound = self._bind(token_ids.astype(np.int64), into)
        bound.past[0], bound.length[0] = past, length
        self._session.run_with_iobinding(bound.binding)

    def step(self, token_ids: Ids, past: int, length: int) -> Floats:
        """Run the one token in `token_ids`; its logits, float32 (1, vocabulary)."""
        bound = self._step
        bound.ids[...] = token_ids
        bound.past[0], bound.length[0] = past, length
        self._session.run_with_iobinding(bound.binding)
        return bound.logits.copy()

    def _bind(self, token_ids: npt.NDArray[np.int64], into: Floats) -> _Bound:
        """Arrays for a run of as many tokens, in the memory that the session reads and writes."""
        binding = self._session.io_binding()
        past, length = np.zeros(1, np.int64), np.zeros(1, np.int64)
        feeds = {
            "input_ids": token_ids[None],
            "past_length": past,
            "logits_to_keep": np.array([len(into)], np.int64),
            "text_length": length,
        }
        for name, array in feeds.items():
            if name in self._shapes:
                binding.bind_ortvalue_input(name, onnx_session.array_value(array))
        binding.bind_ortvalue_output("logits", onnx_session.array_value(into[None]))
        for cache, value in self._caches:
            binding.bind_ortvalue_input(cache.past, value)
            binding.bind_ortvalue_output(cache.present, value)
        return _Bound(binding, token_ids, past, length, into)


@dataclass(frozen=True)
class _Bound:
    """A binding, and the arrays behind it."""

    binding: Any
    ids: npt.NDArray[np.int64]
    past: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    logits: Floats
