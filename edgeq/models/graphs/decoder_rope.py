"""Rotary positions as tables of cosines and sines, for every scaling that config.json can ask for.

Angles are taken in float32, as transformers does: at position 100,000 a float64 angle would already
differ from the trained one by more than float32 rounds a logit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.models.architecture import Decoder
from edgeq.quantize.number_formats import Floats


@dataclass(frozen=True)
class Rotation:
    """One set of frequencies: float32 `(rope_dim / 2,)`, and what cosines and sines are scaled by.

    The angle of column i at position p is `p × frequencies[i]`; column i turns with column
    i + rope_dim / 2.
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
    """What a model turns queries and keys by.

    whole: in layers that see everything. windowed: in layers with a window. beyond: instead of
    both in a text longer than `switch` positions (longrope); None where no length changes anything.
    """

    whole: Rotation
    windowed: Rotation
    beyond: Rotation | None
    switch: int


def depends_on_length(decoder: Decoder) -> bool:
    """Whether a text's length changes the angles of its positions."""
    return _kind(decoder) == "longrope"


def rotations(decoder: Decoder, config: Mapping[str, Any]) -> Rotations:
    """The rotations of a model; `config` is its config.json.

    Formulas: Su et al., "RoFormer", 2021; linear scaling, Chen et al., 2023 (arXiv:2306.15595);
    llama3, by parts as in the Llama 3.1 model card; longrope, Ding et al., 2024 (arXiv:2402.13753).
    """
    plain = _plain(decoder, decoder.rope_theta)
    scaling, kind = decoder.rope_scaling or {}, _kind(decoder)
    whole = Rotation(plain, 1.0)
    if kind == "linear":
        whole = Rotation(np.asarray(plain / np.float32(scaling["factor"])), 1.0)
    elif kind == "llama3":
        whole = Rotation(_by_parts(plain, scaling), 1.0)
    elif kind == "longrope":
        return _longrope(decoder, config, scaling)
    windowed = whole
    if decoder.rope_local_theta is not None:
        windowed = Rotation(_plain(decoder, decoder.rope_local_theta), 1.0)
    return Rotations(whole, windowed, None, decoder.context)


def _kind(decoder: Decoder) -> str:
    scaling = decoder.rope_scaling or {}
    return str(scaling.get("rope_type", scaling.get("type", "default")))


def _plain(decoder: Decoder, base: float, factors: Floats | None = None) -> Floats:
    exponents = np.arange(0, decoder.rope_dim, 2, dtype=np.float32) / np.float32(decoder.rope_dim)
    powers = np.float32(base) ** exponents
    return np.asarray(1 / (powers if factors is None else factors * powers), np.float32)


def _by_parts(plain: Floats, scaling: Mapping[str, Any]) -> Floats:
    """Slow rotations are slowed by `factor`, fast ones kept, those between blended."""
    trained = scaling["original_max_position_embeddings"]
    slow, fast = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = trained * plain / (2 * math.pi)
    kept = np.clip((turns - slow) / (fast - slow), 0, 1)
    return np.asarray((1 - kept) * plain / scaling["factor"] + kept * plain, np.float32)


def _longrope(decoder: Decoder, config: Mapping[str, Any], scaling: Mapping[str, Any]) -> Rotations:
    trained = int(config.get("original_max_position_embeddings") or decoder.context)
    growth = decoder.context / trained
    if trained == decoder.context:
        growth = float(scaling.get("factor") or 1.0)
    magnitude = scaling.get("attention_factor")
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(growth) / math.log(trained)) if growth > 1 else 1.0

    def with_factors(name: str) -> Rotation:
        factors = np.asarray(scaling[name], np.float32)
        return Rotation(_plain(decoder, decoder.rope_theta, factors), magnitude)

    short = with_factors("short_factor")
    return Rotations(short, short, with_factors("long_factor"), trained)
