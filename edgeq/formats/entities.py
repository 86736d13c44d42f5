"""From a label for each token to the labelled parts of a text, as transformers' pipeline does.

`Aggregation` has the pipeline's strategies. A part is labelled by what follows `B-` or `I-`; tokens
with the label `O` belong to none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Classes
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import suggest
from edgeq.formats.base import Aggregation, Entity

if TYPE_CHECKING:
    from tokenizers import Encoding

    from edgeq.formats.text import TextEncoder

NO_ENTITY = "O"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Piece:
    """A token or a word: its characters, and a probability for each label."""

    start: int
    end: int
    chances: Floats

    @property
    def best(self) -> int:
        return int(self.chances.argmax())


def entities(
    text: str,
    encoder: TextEncoder,
    encoded: Encoding,
    output: npt.NDArray[Any],
    classes: Classes,
    aggregation: Aggregation = "simple",
) -> tuple[Entity, ...]:
    """The labelled parts of `text`, which became `encoded`, with the scores (tokens, labels).

    Raises InvalidInput for another aggregation.
    """
    if aggregation not in get_args(Aggregation):
        what = f"{aggregation!r} is not a way to join tokens"
        remedy = suggest(str(aggregation), get_args(Aggregation))
        raise InvalidInput(Problem("aggregation", what, remedy))
    chances = classes.probabilities(output)
    at = own_tokens(encoded)
    places = [encoded.offsets[i] for i in at]
    pieces = [_Piece(start, end, chances[i]) for i, (start, end) in zip(at, places, strict=True)]
    if aggregation not in ("none", "simple"):
        inner = [encoder.is_inside_word(text, encoded, i) for i in at]
        pieces = [_word(group, aggregation) for group in _words(pieces, inner)]
    labels = classes.labels
    if aggregation == "none":
        found = [(labels[piece.best], [piece]) for piece in pieces]
    else:
        found = [(_kind(labels[group[0].best]), group) for group in _groups(pieces, labels)]
    return tuple(_entity(text, label, group) for label, group in found if label != NO_ENTITY)


def kinds(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that parts can have."""
    return tuple(dict.fromkeys(_kind(label) for label in labels if label != NO_ENTITY))


def own_tokens(encoded: Encoding) -> list[int]:
    """Positions of the tokens that are of the text, and not special ones around it."""
    return [index for index, special in enumerate(encoded.special_tokens_mask) if not special]


def _entity(text: str, label: str, pieces: Sequence[_Piece]) -> Entity:
    start, end = pieces[0].start, pieces[-1].end
    score = float(np.mean([piece.chances.max() for piece in pieces]))
    return Entity(label, text[start:end], start, end, score)


def _kind(label: str) -> str:
    return label.split("-", 1)[-1]


def _parted(label: str) -> tuple[str, str]:
    """Whether a label begins a part or continues one, and the part's."""
    return (label[0], label[2:]) if label[:2] in ("B-", "I-") else ("I", label)


def _groups(pieces: Sequence[_Piece], labels: Sequence[str]) -> Iterator[list[_Piece]]:
    """Neighbours of one label; one that begins a part begins a group."""
    group: list[_Piece] = []
    for piece in pieces:
        place, kind = _parted(labels[piece.best])
        if group and (place == "B" or kind != _parted(labels[group[-1].best])[1]):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _words(pieces: Sequence[_Piece], inner: Sequence[bool]) -> Iterator[list[_Piece]]:
    """The tokens of each word; inner: whether a token continues one."""
    starts = [index for index, is_inner in enumerate(inner) if not is_inner or not index]
    for start, end in itertools.pairwise([*starts, len(pieces)]):
        yield list(pieces[start:end])


def _word(group: Sequence[_Piece], aggregation: Aggregation) -> _Piece:
    chances = np.stack([piece.chances for piece in group])
    if aggregation == "average":
        chosen = chances.mean(0)
    else:
        chosen = chances[0 if aggregation == "first" else int(chances.max(1).argmax())]
    return _Piece(group[0].start, group[-1].end, chosen)
