"""Refine codes and scales by coordinate descent, one number at a time.

The objective is a quadratic, so that the best value of any one number, all others kept, is exact:
a code moves to the whole number nearest to it, a scale to the nearest that its format holds. Block
by block all its codes, then its scales take their turn; nothing ever makes the objective larger,
but for the rounding of scales. (Cyclic descent over codes: Behdin et al., "QuantEase", 2023,
arXiv:2309.01885.)
"""

from __future__ import annotations

import numpy as np

from edgeq.quantize.methods.objective import Objective
from edgeq.quantize.number_formats.base import Codes, Floats
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.kquants import BlockFormat

_COLUMNS_AT_ONCE = 256
_COLUMNS_IN_TURN = 32  # after as many, changes go to the whole block in one product


def refine(
    target: Objective, number_format: IntegerFormat, codes: Codes, scales: Floats, sweeps: int
) -> tuple[Codes, Floats]:
    """Codes and scales after `sweeps` turns; the number format must have groups."""
    state = _State(target, number_format, codes, scales)
    for _ in range(sweeps):
        state.sweep()
    return np.ascontiguousarray(state.codes.T.astype(np.int8)), state.scales


class _State:
    """Codes and gradients with columns first, so that each column is one run of memory."""

    def __init__(
        self, target: Objective, number_format: IntegerFormat, codes: Codes, scales: Floats
    ) -> None:
        assert number_format.group_size is not None
        self.number_format, self.block = number_format, number_format.group_size
        self.unit = self.block
        if isinstance(number_format, BlockFormat):
            self.unit = number_format.stored
        self.codes = codes.T.astype(np.float32)
        self.scales = scales.copy()
        self._hessian = target.hessian
        left = target.weight - number_format.decode(codes, scales)
        self._gradient = np.ascontiguousarray((left @ self._hessian).T)

    def sweep(self) -> None:
        """Update all codes and scales once.

        Blocks that stand together get to know of each other's changes at once, all other columns
        when these are done: few large products instead of many that only wait for memory.
        """
        columns = len(self.codes)
        at_once = max(1, _COLUMNS_AT_ONCE // self.unit) * self.unit  # whole blocks
        for start in range(0, columns, at_once):
            near = slice(start, min(start + at_once, columns))
            changes = np.concatenate(
                [self._turn(at, near) for at in range(near.start, near.stop, self.unit)]
            )
            for far in (slice(0, near.start), slice(near.stop, columns)):
                self._gradient[far] -= self._hessian[far, near] @ changes

    def _turn(self, start: int, near: slice) -> Floats:
        """Codes and scales of one stored block; returns the change of its values."""
        part = slice(start, min(start + self.unit, len(self.codes)))
        self._inner = self._hessian[part, part]
        self._slope = self._gradient[part]
        self._change: Floats = np.zeros_like(self._slope)
        self._codes = self.codes[part]
        columns = self._scales_at(start)
        steps = self.number_format.affine(columns, len(self._slope))[0]
        self._move_codes(np.ascontiguousarray(steps.T))
        if isinstance(self.number_format, BlockFormat):
            self._move_k(columns)
        else:
            self._move_scale(columns)
        self._put(start, columns)
        self._gradient[near] -= self._hessian[near, part] @ self._change
        return self._change

    def _move_codes(self, steps: Floats) -> None:
        """Each code in turn; a column hears of those moved before it when its own turn comes."""
        stored, inner, change = self.number_format, self._inner, self._change
        slope = self._slope = self._slope.copy()
        inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps != 0)
        per_code = inverse / np.diag(inner)[:, None]
        for start in range(0, len(slope), _COLUMNS_IN_TURN):
            part = slice(start, min(start + _COLUMNS_IN_TURN, len(slope)))
            for j in range(part.start, part.stop):
                code, pull = self._codes[j], slope[j] - inner[j, start:j] @ change[start:j]
                pull *= per_code[j]
                pull += code
                np.rint(pull, out=pull)
                np.clip(pull, stored.lowest, stored.highest, out=pull)
                pull -= code
                pull *= inverse[j] != 0
                code += pull
                np.multiply(pull, steps[j], out=change[j])
            slope -= inner[:, part] @ change[part]

    def _scales_at(self, start: int) -> Floats:
        """A copy of the numbers other than codes of the stored block at column `start`."""
        width = self.number_format.fields if isinstance(self.number_format, BlockFormat) else 1
        at = start // self.unit * width
        return self.scales[:, at : at + width].copy()

    def _put(self, start: int, parts: Floats) -> None:
        width = parts.shape[1]
        at = start // self.unit * width
        self.scales[:, at : at + width] = parts

    def _line(self, part: slice, direction: Floats) -> Floats:
        """How far along `direction`, `(columns, rows)` in `part`, the objective is least."""
        bent = (direction * (self._inner[part, part] @ direction)).sum(0)
        down = (direction * self._slope[part]).sum(0)
        far: Floats = np.divide(down, bent, out=np.zeros_like(down), where=bent > 0)
        return far

    def _walk(self, part: slice, direction: Floats, far: Floats) -> None:
        moved = direction * far
        self._change[part] += moved
        self._slope -= self._inner[:, part] @ moved

    def _move_scale(self, parts: Floats) -> None:
        whole = slice(0, len(self._codes))
        with np.errstate(over="ignore"):
            new = self.number_format.storable(parts[:, 0] + self._line(whole, self._codes))
        new = np.where(np.isfinite(new), new, parts[:, 0])
        self._walk(whole, self._codes, new - parts[:, 0])
        parts[:, 0] = new

    def _move_k(self, parts: Floats) -> None:
        stored = self.number_format
        assert isinstance(stored, BlockFormat)
        scale, minimum_scale, subs, minima = (part[:, 0] for part in stored.parts(parts))
        sign = np.float32(stored.minimum_sign)
        if stored.sub_scales:
            for i in range(stored.subs):
                part = slice(i * self.block, (i + 1) * self.block)
                ones = np.ones_like(self._codes[part])
                self._move_integer(
                    part, self._codes[part], subs[:, i], scale[:, 0], stored.sub_scales
                )
                if stored.minima:
                    self._move_integer(
                        part, ones, minima[:, i], sign * minimum_scale[:, 0], stored.minima
                    )
        whole = slice(0, len(self._codes))
        spread = np.repeat(subs.T, self.block, axis=0)
        self._move_half(whole, self._codes * spread, scale[:, 0])
        if stored.has_minimum:
            self._move_half(
                whole, sign * np.repeat(minima.T, self.block, axis=0), minimum_scale[:, 0]
            )

    def _move_integer(
        self,
        part: slice,
        direction: Floats,
        number: Floats,
        unit: Floats,
        limits: tuple[int, int],
    ) -> None:
        """Let `number`, in multiples of `unit`, go to its best whole value within `limits`."""
        far = self._line(part, direction)
        wished = np.divide(far, unit, out=np.zeros_like(far), where=unit != 0)
        new = np.rint(number + wished).clip(*limits)
        self._walk(part, direction, (new - number) * unit)
        number[:] = new

    def _move_half(self, part: slice, direction: Floats, number: Floats) -> None:
        """Let the float16 `number` go to its best value."""
        with np.errstate(over="ignore"):
            new = (number + self._line(part, direction)).astype(np.float16).astype(np.float32)
        new = np.where(np.isfinite(new), new, number)
        self._walk(part, direction, new - number)
        number[:] = new
