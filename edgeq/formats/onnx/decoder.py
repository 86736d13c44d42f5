"""Language models as ONNX files on onnxruntime, with a KV cache that is written in place.

For graphs made by `edgeq.models.graphs.decoder_onnx`. Keys and values are float32 arrays for
`context` positions, a graph's input and output at the same time, so nothing is copied from step to
step and only used positions take memory.
"""

from __future__ import annotations

import math

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
        self._shapes: dict[str, tuple[int | str, ...]] = {}
        self._takes_length = False
        for value in session.get_inputs():
            if value.name == "text_length":
                self._takes_length = True
            if not value.name.startswith("past_key_values."):
                continue
            self._shapes[value.name] = tuple(value.shape)
            sizes = self._sizes(value.name, context)
            cache = onnx_session.array_value(np.zeros(sizes, np.float32))
            present = value.name.replace("past_key_values", "present")
            self._binding.bind_ortvalue_input(value.name, cache)
            self._binding.bind_ortvalue_output(present, cache)

    def nbytes(self, context: int) -> int:
        """Bytes that `context` positions use when filled; unwritten memory is not resident."""
        return 4 * sum(math.prod(self._filled(name, context)) for name in self._shapes)

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

    def _filled(self, name: str, context: int) -> tuple[int, ...]:
        sizes = self._sizes(name, context)
        if not name.endswith((".key", ".value")):
            return sizes
        _, heads, positions, width = sizes
        return heads, min(context, positions), width

    def _sizes(self, name: str, context: int) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else context for size in self._shapes[name])
