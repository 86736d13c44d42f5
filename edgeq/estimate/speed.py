"""Estimate how fast a language model generates and reads on a device that is not available.

The parameters come from `constants.json`, which `benchmarks/estimates.py` fits to `speeds.csv`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.estimate.calibrate import Correction, Measured, correct
from edgeq.estimate.fitting import DecodeFit
from edgeq.estimate.interval import Interval
from edgeq.estimate.kinds import backend_kind, range_for
from edgeq.estimate.prompt import PromptFit

_DOUBT_BEYOND = 0.15  # added to a log range for every e-fold outside of the fitted sizes
CONSTANTS = Path(__file__).parent / "constants.json"


class Constants(Frozen):
    """Everything fitted, and its error on chips that it did not know (log ratios, by group)."""

    points: int
    chips: int
    bytes_range: tuple[float, float]
    bandwidth_range: tuple[float, float]
    decode: DecodeFit
    decode_range: dict[str, tuple[float, float]]
    calibrated_range: dict[str, tuple[float, float]]
    prompt: PromptFit
    prompt_range: dict[str, tuple[float, float]]


@functools.cache
def constants() -> Constants:
    """The constants written by `benchmarks/estimates.py --write`."""
    return Constants.model_validate_json(CONSTANTS.read_bytes())


def decode_speed(*, bytes_per_token: float, bandwidth: float, backend: str, quant: str) -> float:
    """Estimate the tokens per second that a device generates.

    bytes_per_token: read from memory for one token, in bytes; for a dense model all its weights.
    bandwidth: of the memory, as its maker states it, in bytes/s. backend: by llama.cpp's name, e.g.
    `Metal`, `CPU`, `Vulkan`; others are mapped to the most similar. quant: the GGUF type, e.g.
    `Q4_0` or `Q4_K_M`.

    More bytes are never faster, more bandwidth is never slower. The formula and its fit:
    `edgeq.estimate.fitting`. Raises InvalidInput if a number is not positive.
    """
    _positive(bytes_per_token=bytes_per_token, bandwidth=bandwidth)
    fit = constants().decode
    return 1 / fit.seconds(bytes_per_token, bandwidth, backend_kind(backend), quant)


def estimate_decode(
    *,
    bytes_per_token: float,
    bandwidth: float,
    backend: str,
    quant: str,
    measured: Sequence[Measured] = (),
) -> Interval:
    """`decode_speed` with its interval, in tokens/s; corrected by speeds `measured` there.

    measured: speeds of other models, or other formats, on the same device and backend. One shifts
    the estimate, two of different sizes separate slow reading from high fixed costs.
    """
    _positive(bytes_per_token=bytes_per_token, bandwidth=bandwidth)
    for point in measured:
        _positive(bytes_per_token=point.bytes_per_token, tokens_per_second=point.tokens_per_second)
    fitted = constants()
    kind = backend_kind(backend)
    fixed = correct(fitted.decode, measured, bandwidth, kind) if measured else Correction()
    value = 1 / fixed.seconds(fitted.decode, bytes_per_token, bandwidth, kind, quant)
    low, high = range_for(fitted.decode_range, backend, quant)
    basis = f"memory bandwidth, fitted on {fitted.points} published speeds of {fitted.chips} chips"
    if measured:
        narrow = range_for(fitted.calibrated_range, backend, quant)
        trust = min(1.0, len(measured) / 2)  # one point does not separate reading from the rest
        low, high = (
            (1 - trust) * wide + trust * math.copysign(min(abs(wide), abs(close)), wide)
            for wide, close in zip((low, high), narrow, strict=True)
        )
        basis += f", and {len(measured)} measured on this device"
    beyond = _beyond(bytes_per_token, fitted.bytes_range) + _beyond(
        bandwidth, fitted.bandwidth_range
    )
    if beyond:
        low, high = low - beyond, high + beyond
        basis += ", none of them of this size"
    return Interval(
        value=value, low=value * math.exp(low), high=value * math.exp(high), basis=basis
    )


def estimate_prompt(*, parameters: float, bandwidth: float, backend: str, quant: str) -> Interval:
    """Estimate the tokens per second at which a prompt of some hundred tokens is read.

    parameters: those that one token uses; for a mixture of experts, the active ones. Rough:
    arithmetic decides, and the bandwidth (bytes/s) only indicates the class of chip.
    """
    _positive(parameters=parameters, bandwidth=bandwidth)
    fitted = constants()
    value = fitted.prompt.speed(parameters, bandwidth, backend_kind(backend))
    low, high = range_for(fitted.prompt_range, backend, quant)
    basis = "the class of chip, inferred from its memory bandwidth"
    return Interval(
        value=value, low=value * math.exp(low), high=value * math.exp(high), basis=basis
    )


def _beyond(number: float, known: tuple[float, float]) -> float:
    """How much wider a log range gets outside of the fitted range; 0 inside."""
    low, high = known
    return _DOUBT_BEYOND * max(0.0, math.log(low / number), math.log(number / high))


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise InvalidInput(Problem(name, f"{number} is not positive", "give a positive number"))
