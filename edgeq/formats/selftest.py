"""The answers of a bundle's model when it was bundled, so that a port can be verified.

`selftest.json` needs no edgeq: it names an input, the token ids, and numbers of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeq.core.artifact import Frozen

SELFTEST_FILE = "selftest.json"
ARRAYS_FILE = "selftest.npz"
"""Inputs of a model of arrays, by their names."""
IMAGE_FILE = "selftest.png"
"""An image with odd sides, for a model that takes images."""

SAME_CPU = 1e-3
"""Room for another build of the runtime, which sums in another order. Chosen, not measured."""
OTHER_CPU = 0.05
"""Room for kernels that round inputs differently. Chosen, not measured."""
_MOST = 512


class Output(Frozen):
    """Some values of one output."""

    name: str = Field(description="The output's name.")
    shape: tuple[int, ...] = Field(description="Its shape, for this input.")
    at: tuple[int, ...] = Field(description="Positions in the flattened output, from 0.")
    values: tuple[float, ...] = Field(description="The values there.")


class Object(Frozen):
    """What a detector found; box: left, top, right and bottom in pixels of the image."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Case(Frozen):
    """One input and the answer to it."""

    text: str | None = Field(default=None, description="The text; null for arrays.")
    query: str | None = Field(
        default=None, description="The query that the text is scored for; null for other models."
    )
    token_ids: tuple[int, ...] | None = Field(
        default=None,
        description="The tokenizer's ids for it, including special tokens and the default prompt.",
    )
    arrays: str | None = Field(
        default=None, description="The .npz file with the inputs by name; null for a text."
    )
    image: str | None = Field(
        default=None, description="The file of an image, to be prepared as `image` in the record."
    )
    outputs: tuple[Output, ...] = Field(description="The answer.")
    labels: tuple[str, ...] | None = Field(
        default=None,
        description="The labels that a classifier gives the text; null for other models, and where "
        "outputs within the tolerance can give others.",
    )
    found: tuple[Object, ...] | None = Field(
        default=None,
        description="What a detector finds in the image. Near the threshold, outputs within the "
        "tolerance can give more or fewer.",
    )


class TokenizedText(Frozen):
    """A text, and the ids that `Case.token_ids` would have for it."""

    text: str
    token_ids: tuple[int, ...]


class SelfTest(Frozen):
    """`selftest.json`: a port is correct if it has the same ids and values within the tolerance.

    The distance of an output is the norm of the difference divided by the norm of the values, both
    over the listed values.
    """

    edgeq: Literal[1] = Field(default=1, description="The version of this record.")
    kind: Literal["selftest"] = Field(default="selftest", description="The kind of this record.")
    runtime: str = Field(description="The runtime that answered.")
    cpu: str = Field(description="The CPU that answered.")
    largest_distance_same_cpu: float = Field(
        default=SAME_CPU, description="Allowed on a CPU with the same instruction sets."
    )
    largest_distance_other_cpu: float = Field(
        default=OTHER_CPU, description="Allowed on any other CPU."
    )
    cases: tuple[Case, ...] = Field(description="Inputs and answers.")
    ordinary_texts: tuple[TokenizedText, ...] = Field(
        default=(),
        description="Writing of every kind that people use. A port with other ids for one gives "
        "other answers than those that were checked.",
    )
    odd_texts: tuple[TokenizedText, ...] = Field(
        default=(), description="What people hardly write; a port may have other ids for these."
    )


def listed(name: str, output: npt.NDArray[Any]) -> Output:
    """All values of a small output; for a large one, the values farthest from zero and an even
    sample."""
    flat = output.astype(np.float32).ravel()
    at: Sequence[int] = range(flat.size)
    if flat.size > _MOST:
        farthest = np.argsort(-np.abs(flat), kind="stable")[: _MOST // 2]
        between = np.linspace(0, flat.size - 1, _MOST // 2).astype(int)
        at = sorted({*farthest.tolist(), *between.tolist()})
    values = tuple(float(flat[i]) for i in at)
    return Output(name=name, shape=output.shape, at=tuple(at), values=values)
