"""What a proof is made from; plain values, so that a process of its own can make it."""

from __future__ import annotations

from pathlib import Path

from edgeq.artifact import Frozen


class TextSample(Frozen):
    """Token ids of a text: the first `prefill` go in at once, the rest one by one."""

    ids: tuple[int, ...]
    prefill: int


class ProofRequest(Frozen):
    """A model directory, its float graph, and samples: texts of an encoder, tokens of a decoder."""

    directory: Path
    graph: Path
    texts: tuple[str, ...] = ()
    windows: tuple[TextSample, ...] = ()
