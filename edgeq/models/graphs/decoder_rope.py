"""Rotary positions as tables of cosines and sines, for every scaling in config.json.

Angles are computed in float32, as in transformers: at position 100,000 a float64 angle would
already differ from the trained one by more than float32 rounds a logit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.architectures import Decoder
from edgeq.models.rope import Rope
from edgeq.quantize.number_formats import Floats


@dataclass(frozen=True)
class Rotation:
    """One set of frequencies: float32 `(rope_dim / 2,)`, and the factor of cosines and sines.

    The angle of column i at position p is `p × frequencies[i]`; column i rotates with column i +
    rope_dim / 2.
    """

    frequencies: Floats
    magnitude: float

    def cosines(self, start: int, stop: int) -> Floats:
        """float32 `(stop - start, rope_dim / 2)`."""
        return np.cos(self._angles(start, stop)) * np.float32(self.magnitude)

    def sines(self, start: int, stop: int) -> Floats:
        """float32 `(stop - start, rope_dim / 2)`."""
        return np.sin(self._angles(start, stop)) * np.float32(self.magnitude)

    def _angles(self, start: int, stop: int) -> Floats:
        positions = np.arange(start, stop, dtype=np.float32)
        return np.asarray(positions[:, None] * self.frequencies, np.float32)


@dataclass(frozen=True)
class Rotations:
    """The rotations of a model's queries and keys.

    whole: in layers with full attention. windowed: in layers with a window. beyond: instead of both
    in a text longer than `switch` positions (longrope); None if the length has no effect.
    """

    whole: Rotation
    windowed: Rotation
    beyond: Rotation | None
    switch: int


def depends_on_length(decoder: Decoder) -> bool:
    """Whether a text's length changes the angles of its positions."""
    return decoder.rope.kind == "longrope"


def rotations(decoder: Decoder) -> Rotations:
    """The rotations of a model.

    Formulas: Su et al., "RoFormer", 2021; linear scaling, Chen et al., 2023 (arXiv:2306.15595);
    llama3, by parts as in the Llama 3.1 model card; yarn, Peng et al., 2023 (arXiv:2309.00071);
    longrope, Ding et al., 2024 (arXiv:2402.13753).
    """
    rope = decoder.rope
    if rope.kind == "longrope":
        short, long = (_divided(rope, factors) for factors in (rope.short, rope.long))
        return Rotations(short, short, long, rope.original)
    whole = rotation(rope)
    windowed = whole if decoder.local_rope is None else rotation(decoder.local_rope)
    return Rotations(whole, windowed, None, decoder.context)


def rotation(rope: Rope) -> Rotation:
    """The frequencies of a rope that does not depend on the length."""
    if rope.kind == "longrope":
        what = "longrope in layers of one type"
        raise InvalidInput(Problem("config.json", what, "use a model with another rope_type"))
    plain = _plain(rope)
    if rope.kind == "linear":
        return Rotation(np.asarray(plain / np.float32(rope.factor)), 1.0)
    if rope.kind == "llama3":
        return Rotation(_by_parts(plain, rope), 1.0)
    if rope.kind == "yarn":
        return Rotation(_by_columns(plain, rope), rope.magnitude)
    return Rotation(plain, 1.0)


def _plain(rope: Rope, factors: Floats | None = None) -> Floats:
    exponents = np.arange(0, rope.dim, 2, dtype=np.float32) / np.float32(rope.dim)
    powers = np.float32(rope.theta) ** exponents
    found = np.asarray(1 / (powers if factors is None else factors * powers), np.float32)
    found[len(found) - rope.still :] = 0
    return found


def _divided(rope: Rope, factors: tuple[float, ...]) -> Rotation:
    return Rotation(_plain(rope, np.asarray(factors, np.float32)), rope.magnitude)


def _by_parts(plain: Floats, rope: Rope) -> Floats:
    """Slow rotations are divided by `factor`, fast ones kept, those between blended."""
    turns = rope.original * plain / (2 * math.pi)
    kept = np.clip((turns - rope.low) / (rope.high - rope.low), 0, 1)
    return np.asarray((1 - kept) * plain / rope.factor + kept * plain, np.float32)


def _by_columns(plain: Floats, rope: Rope) -> Floats:
    """Like `_by_parts`, but blended along the columns instead of the turns."""
    first, last = (_column_of_turns(rope, turns) for turns in (rope.high, rope.low))
    if rope.rounded:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rope.dim - 1)
    if first == last:
        last += 0.001
    columns = np.arange(rope.dim // 2, dtype=np.float32)
    slowed = np.clip((columns - np.float32(first)) / np.float32(last - first), 0, 1)
    return np.asarray(plain / np.float32(rope.factor) * slowed + plain * (1 - slowed), np.float32)


def _column_of_turns(rope: Rope, turns: float) -> float:
    """The column that turns this often within the original positions."""
    ratio = math.log(rope.original / (turns * 2 * math.pi))
    return rope.dim * ratio / (2 * math.log(rope.theta))
