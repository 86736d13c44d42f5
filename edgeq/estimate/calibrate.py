"""Correct the speed formula for a device by speeds measured on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.estimate.fitting import DecodeFit, together
from edgeq.estimate.kinds import Backend

# Standard deviations of logarithms: of a device from the formula in reading and in fixed
# work before it is measured, and of one measured speed from the truth.
_READING, _FIXED, _NOISE = 0.3, 0.4, 0.02


@dataclass(frozen=True)
class Measured:
    """A decode speed measured on a device: bytes read per token, its GGUF type name, tokens/s."""

    bytes_per_token: float
    quant: str
    tokens_per_second: float


@dataclass(frozen=True)
class Correction:
    """Factors on the two terms of the formula, from a device's own speeds; 1 without any."""

    reading: float = 1.0
    fixed: float = 1.0

    def seconds(
        self,
        fit: DecodeFit,
        bytes_per_token: float,
        bandwidth: float,
        backend: Backend,
        quant: str,
    ) -> float:
        """Time per token by the corrected formula."""
        reading, fixed = fit.terms(bytes_per_token, bandwidth, backend, quant)
        return together(reading * self.reading, fixed * self.fixed, fit.overlap)


def correct(
    fit: DecodeFit, measured: Sequence[Measured], bandwidth: float, backend: Backend
) -> Correction:
    """The most likely factors: near 1 unless the points suggest otherwise.

    Two unknown logarithms with a normal prior each, by Gauss-Newton; a few points of different
    sizes separate them, one point moves both together.
    """
    seen = np.array([-math.log(point.tokens_per_second) for point in measured])
    prior = np.array([_READING, _FIXED])
    unknown = np.zeros(2)

    def residuals(at: np.ndarray) -> np.ndarray:
        factors = Correction(math.exp(at[0]), math.exp(at[1]))
        estimated = [
            math.log(factors.seconds(fit, p.bytes_per_token, bandwidth, backend, p.quant))
            for p in measured
        ]
        return np.concatenate([(np.array(estimated) - seen) / _NOISE, at / prior])

    for _ in range(30):
        found = residuals(unknown)
        slopes = np.stack(
            [(residuals(unknown + move) - found) / 1e-5 for move in 1e-5 * np.eye(2)], axis=1
        )
        step, *_ = np.linalg.lstsq(slopes, -found, rcond=None)
        unknown = np.clip(unknown + step, -3, 3)
        if np.abs(step).max() < 1e-8:
            break
    return Correction(math.exp(unknown[0]), math.exp(unknown[1]))
