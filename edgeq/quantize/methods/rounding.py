"""One weight onto any grid by any method: the one door to everything that rounds block grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.quantize.methods.gptq import feed_errors
from edgeq.quantize.methods.nearest import search_scales
from edgeq.quantize.methods.objective import Moments, Objective, objective
from edgeq.quantize.methods.refine import refine
from edgeq.quantize.number_formats.groups import Floats, Grid, QuantizedTensor
from edgeq.quantize.number_formats.kquants import KGrid

# Shares of the mean input power, from which held-back samples choose: a tenth with fifty thousand
# rows of calibration data, one and more with some hundred.
_DAMPINGS = (0.1, 0.3, 1.0, 3.0)
_USUAL_DAMPING = 0.3
_ROWS_THAT_JUDGE = 512  # of a weight at most, spread over it, to choose a damping
_SWEEPS = 3  # of descent behind GPTQ; a fourth gains a percent


@dataclass(frozen=True)
class Seen:
    """Moments to round by, and those of samples held back, to judge by."""

    fit: Moments
    held: Moments

    def as_if_whole(self) -> Seen:
        """The same inputs, as if nothing before had been lost."""
        return Seen(self.fit.as_if_whole(), self.held.as_if_whole())


def round_tensor(
    weight: Floats, moments: Moments | None, grid: Grid, method: str
) -> QuantizedTensor:
    """Codes and scales of one weight.

    weight: float32 `(rows, columns)`. moments: of its inputs; without them every method is
    `nearest`. grid: one of `GRIDS` or `GGUF_GRIDS`; for K-quants and other GGUF grids llama.cpp's
    library is needed, whose search gives the scales to start from. method: `nearest` (the nearest
    code under scales that leave the least squared error), `importance` (each column's error
    weighed by the mean square of its input), or `gptq` (errors fed to the columns still to come,
    then codes and scales refined one by one). Raises what
    `edgeq.quantize.ggml.library.quantize_rows` does.
    """
    if method == "nearest" or moments is None:
        return _nearest(weight, grid, None)
    if method == "importance":
        return _nearest(weight, grid, moments.power)
    return _gptq(objective(weight, moments, _USUAL_DAMPING), grid)


def with_fall_back(reason: str, asked: str, tensor: QuantizedTensor | None) -> str:
    """`reason`, and what `round_judged` did where it did not use the method that was asked for."""
    if tensor is None or tensor.method == asked or asked not in ("gptq", "importance"):
        return reason
    return f"{reason}; {tensor.method}, for {asked} was worse on calibration data held back"


def round_judged(weight: Floats, seen: Seen, grid: Grid, method: str) -> QuantizedTensor:
    """`round_tensor`, or plain rounding where that is better on what was held back.

    The method that the tensor carries tells which it was. What GPTQ aims at is damped as suits the
    samples held back, too.
    """
    if method == "gptq":
        found = _gptq(_target(weight, seen), grid)
    else:
        found = round_tensor(weight, seen.fit, grid, method)
    plain = round_tensor(weight, None, grid, "nearest")
    errors = seen.held.errors(weight, (tensor.dequantize() for tensor in (found, plain)))
    return found if next(errors) <= next(errors) else plain


def _target(weight: Floats, seen: Seen) -> Objective:
    """The unrounded weight that is best on what was held back, of several and the float one."""
    if seen.fit.drift is None:
        return objective(weight, seen.fit, _USUAL_DAMPING)
    judges = slice(None, None, -(-len(weight) // _ROWS_THAT_JUDGE))
    some, fit, held = weight[judges], seen.fit.of_rows(judges), seen.held.of_rows(judges)
    tried = (objective(some, fit, damping).weight for damping in _DAMPINGS)
    error, damping = min(zip(held.errors(some, tried), _DAMPINGS, strict=True))
    if error < 0:
        return objective(weight, seen.fit, damping)
    return objective(weight, seen.fit.as_if_whole(), _USUAL_DAMPING)


def _gptq(target: Objective, grid: Grid) -> QuantizedTensor:
    power = np.diag(target.hessian).copy()
    scales = _nearest(target.weight, grid, power).scales
    codes = feed_errors(target, grid, scales)
    if grid.block is not None:
        codes, scales = refine(target, grid, codes, scales, _SWEEPS)
    return QuantizedTensor(grid, codes, scales, "gptq")


def _nearest(weight: Floats, grid: Grid, importance: Floats | None) -> QuantizedTensor:
    method = "nearest" if importance is None else "importance"
    if isinstance(grid, KGrid):
        from edgeq.quantize.ggml.blocks import STORED_AS, unpack_codes
        from edgeq.quantize.ggml.library import quantize_rows

        type = STORED_AS[grid.name]
        return unpack_codes(quantize_rows(type, weight, importance), type, method)
    scales = search_scales(weight, grid, importance)
    return QuantizedTensor(grid, grid.encode(weight, scales), scales, method)
