"""Nearest neighbours of embedded texts that change when the model is quantized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeq.core.artifact import Frozen

Array = npt.NDArray[Any]
_KEPT = 8
_ROWS = 512  # bytes of similarities in memory at once


class Neighbour(Frozen):
    """A text and its cosine to the queried text, in both models."""

    text: str
    reference: float
    candidate: float


class Change(Frozen):
    """A text whose nearest neighbour is another one in the quantized model."""

    text: str
    was: Neighbour = Field(description="Nearest text in full precision.")
    now: Neighbour = Field(description="Nearest text in the quantized model.")
    lost: float = Field(description="The difference of both neighbours' cosines in full precision.")


class Neighbours(Frozen):
    """Nearest neighbours among the evaluation texts, before and after quantization."""

    texts: int = Field(description="Number of different texts compared with each other.")
    changed: int = Field(description="Number of texts whose nearest neighbour changes.")
    changes: tuple[Change, ...] = Field(
        description="The changes with the largest loss, worst first."
    )


def neighbours(texts: Sequence[str], reference: Array, candidate: Array) -> Neighbours | None:
    """Nearest neighbours by cosine of `(texts, dimension)` vectors of both models.

    Of equal texts the first counts. None with fewer than three different ones, which leave no
    choice.
    """
    first = sorted({text: index for index, text in reversed(list(enumerate(texts)))}.values())
    if len(first) < 3:
        return None
    units = [_unit(vectors[first]) for vectors in (reference, candidate)]
    changes = []
    for start in range(0, len(first), _ROWS):
        near = [unit[start : start + _ROWS] @ unit.T for unit in units]
        for row in range(len(near[0])):
            p, q = near[0][row], near[1][row]
            own = start + row
            was, now = (_nearest(part, own) for part in (p, q))
            if was != now:
                found = [
                    Neighbour(text=texts[first[i]], reference=float(p[i]), candidate=float(q[i]))
                    for i in (was, now)
                ]
                lost = found[0].reference - found[1].reference
                changes.append(
                    Change(text=texts[first[own]], was=found[0], now=found[1], lost=lost)
                )
    changes.sort(key=lambda change: -change.lost)
    return Neighbours(texts=len(first), changed=len(changes), changes=tuple(changes[:_KEPT]))


def _nearest(likeness: Array, own: int) -> int:
    others = likeness.copy()
    others[own] = -np.inf
    return int(others.argmax())


def _unit(vectors: Array) -> Array:
    wide: Array = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Array = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    return unit
