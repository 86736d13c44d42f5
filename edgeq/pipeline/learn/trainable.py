"""Number formats in torch: a weight as a function of numbers that gradients can move.

Rounding passes gradients straight through (Bengio et al. 2013). Numbers are in units of what they
change, codes in steps and scales in shares of themselves, so that one learning rate suits all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from edgeq.quantize.number_formats import Codes, QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.kquants import BlockFormat
from edgeq.quantize.number_formats.palettes import Palette

_DTYPES: dict[type[np.floating[Any]], torch.dtype] = {
    np.float16: torch.float16,
    np.float32: torch.float32,
}

_BEYOND = 0.49  # of a step: rounds to the limit itself


class Trainable(torch.nn.Module):  # type: ignore[misc]
    """A weight that starts at a tensor's codes and scales.

    codes: the parameter that moves codes. scales: those that move everything else.
    """

    codes: torch.nn.Parameter

    def __init__(self, tensor: QuantizedTensor) -> None:
        super().__init__()
        self._start = tensor

    @property
    def scales(self) -> Sequence[torch.nn.Parameter]:
        """Parameters other than the codes'."""
        return [each for each in self.parameters() if each is not self.codes]

    def value(self) -> torch.Tensor:
        """The weight that a runtime computes with, float32 `(rows, columns)`."""
        raise NotImplementedError

    def tensor(self, method: str) -> QuantizedTensor:
        """Codes and scales as they are stored: their values are `value()` to the last bit."""
        raise NotImplementedError

    def confine(self) -> None:
        """Put numbers that left their limits back on them, where gradients reach them again."""


def trainable(tensor: QuantizedTensor) -> Trainable:
    """The form of a tensor's number format that can be trained."""
    found = tensor.number_format
    if isinstance(found, Palette):
        return _Table(tensor, found)
    if isinstance(found, BlockFormat):
        return _Blocks(tensor, found)
    assert isinstance(found, IntegerFormat)
    return _Groups(tensor, found)


class _Steps(Trainable):
    """Codes that are whole numbers of steps."""

    def __init__(self, tensor: QuantizedTensor, number_format: IntegerFormat) -> None:
        super().__init__(tensor)
        self._format = number_format
        self.codes = torch.nn.Parameter(torch.from_numpy(tensor.codes.astype(np.float32)))

    def confine(self) -> None:
        with torch.no_grad():
            _confine(self.codes, self._format.lowest, self._format.highest)

    def _whole(self) -> torch.Tensor:
        return _rounded(self.codes, self._format.lowest, self._format.highest)

    def _stored_codes(self) -> Codes:
        found: Codes = self._whole().detach().numpy().astype(np.int8)
        return found


class _Groups(_Steps):
    """One scale for a row or a group of columns."""

    def __init__(self, tensor: QuantizedTensor, number_format: IntegerFormat) -> None:
        super().__init__(tensor, number_format)
        self.register_buffer("_first", torch.from_numpy(tensor.scales.copy()))
        self._factor = torch.nn.Parameter(torch.ones_like(self._first))
        self._dtype = _DTYPES[number_format.scale_dtype]

    def value(self) -> torch.Tensor:
        codes = self._whole()
        rows, columns = codes.shape
        size = self._format.group_size or columns
        padded = functional.pad(codes, (0, -columns % size)).view(rows, -1, size)
        return (padded * self._scales()[..., None]).view(rows, -1)[:, :columns]

    def tensor(self, method: str) -> QuantizedTensor:
        scales = self._scales().detach().numpy().copy()
        return QuantizedTensor(self._format, self._stored_codes(), scales, method)

    def _scales(self) -> torch.Tensor:
        return _narrowed(self._first * self._factor, self._dtype)


class _Blocks(_Steps):
    """GGUF's blocks: float16 scales, and for K-quants integer scales and minima of sub-blocks."""

    def __init__(self, tensor: QuantizedTensor, number_format: BlockFormat) -> None:
        super().__init__(tensor, number_format)
        self._block = number_format
        limits = (None, None, number_format.sub_scales, number_format.minima)
        moves = (True, number_format.has_minimum, *map(bool, limits[2:]))
        self._moved = torch.nn.ParameterDict()
        self._parts: list[tuple[torch.Tensor, tuple[int, int] | None]] = []
        for index, (part, ends) in enumerate(
            zip(number_format.parts(tensor.scales), limits, strict=True)
        ):
            first = torch.from_numpy(np.ascontiguousarray(part))
            self._parts.append((first, ends))
            if moves[index]:
                self._moved[str(index)] = torch.nn.Parameter(torch.zeros_like(first))

    def value(self) -> torch.Tensor:
        scale, minimum_scale, subs, minima = map(self._part, range(4))
        codes = self._whole()
        blocks = codes.view(len(codes), -1, self._block.subs, self._block.group_size or 1)
        found = blocks * (scale * subs)[..., None]
        if self._block.has_minimum:
            found = found + (minimum_scale * minima * self._block.minimum_sign)[..., None]
        return found.view(codes.shape)

    def tensor(self, method: str) -> QuantizedTensor:
        scales = self._start.scales.copy()
        for index, view in enumerate(self._block.parts(scales)):
            if str(index) in self._moved:
                view[...] = self._part(index).detach().numpy()
        return QuantizedTensor(self._block, self._stored_codes(), scales, method)

    def confine(self) -> None:
        super().confine()
        with torch.no_grad():
            for index, (first, ends) in enumerate(self._parts):
                if str(index) in self._moved and ends is not None:
                    largest, moved = _largest(first), self._moved[str(index)]
                    numbers = first + largest * moved
                    _confine(numbers, *ends)
                    moved.copy_((numbers - first) / largest)

    def _part(self, index: int) -> torch.Tensor:
        first, ends = self._parts[index]
        if str(index) not in self._moved:
            return first
        moved = self._moved[str(index)]
        if ends is None:
            return _narrowed(first + first * moved, torch.float16, keep_zero=True)
        return _rounded(first + _largest(first) * moved, *ends)


class _Table(Trainable):
    """Tables of values, and the nearest of them to numbers that move."""

    def __init__(self, tensor: QuantizedTensor, number_format: Palette) -> None:
        super().__init__(tensor)
        self._format = number_format
        self.register_buffer("_first", torch.from_numpy(tensor.scales.copy()))
        spread = self._first[:, -1:] - self._first[:, :1]
        self.register_buffer("_unit", spread.clamp(min=1e-8) / number_format.highest)
        self._moved = torch.nn.Parameter(torch.zeros_like(self._first))
        self.register_buffer("_near", self._by_table(torch.from_numpy(tensor.dequantize())))
        self.codes = torch.nn.Parameter(torch.zeros_like(self._near))

    def value(self) -> torch.Tensor:
        table, near = self._table(), self._near + self.codes * self._unit
        found = table.gather(1, self._indices(table, near))
        return self._by_rows(found + (near - near.detach()))

    def tensor(self, method: str) -> QuantizedTensor:
        table, near = self._table().detach(), (self._near + self.codes * self._unit).detach()
        codes = self._by_rows(self._indices(table, near)).numpy().astype(np.int8)
        return QuantizedTensor(self._format, codes, table.numpy().copy(), method)

    def _table(self) -> torch.Tensor:
        moved = _narrowed(self._first + self._unit * self._moved, torch.float16, keep_zero=True)
        return moved.sort(dim=1).values

    @staticmethod
    def _indices(table: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        middles = (table[:, 1:] + table[:, :-1]).detach() / 2
        return torch.searchsorted(middles.contiguous(), near.detach().contiguous())

    def _by_table(self, values: torch.Tensor) -> torch.Tensor:
        """`(tables, values)`, the last rows padded with zeros."""
        size = self._format.rows or len(values)
        return functional.pad(values, (0, 0, 0, -len(values) % size)).reshape(len(self._first), -1)

    def _by_rows(self, values: torch.Tensor) -> torch.Tensor:
        rows, columns = self._start.codes.shape
        return values.reshape(-1, columns)[:rows]


def _largest(numbers: torch.Tensor) -> torch.Tensor:
    """The largest of each block, at least 1: what a change of one of them is a share of."""
    return numbers.abs().amax(-1, keepdim=True).clamp(min=1)


def _confine(numbers: torch.Tensor, lowest: int, highest: int) -> None:
    numbers.clamp_(lowest - _BEYOND, highest + _BEYOND)


def _rounded(numbers: torch.Tensor, lowest: int, highest: int) -> torch.Tensor:
    """Whole numbers within limits; beyond these, gradients end."""
    found: torch.Tensor = _Rounded.apply(numbers).clamp(lowest, highest)
    return found


def _narrowed(numbers: torch.Tensor, dtype: torch.dtype, keep_zero: bool = False) -> torch.Tensor:
    """What a file stores of scales; none becomes zero."""
    found: torch.Tensor = _Narrowed.apply(numbers, dtype, keep_zero)
    return found


class _Rounded(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, numbers: torch.Tensor) -> torch.Tensor:
        return numbers.round()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class _Narrowed(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, numbers: torch.Tensor, dtype: torch.dtype, keep_zero: bool
    ) -> torch.Tensor:
        narrow = numbers.to(dtype).float()
        if keep_zero:
            return narrow
        return torch.where(narrow == 0, torch.finfo(dtype).tiny, narrow)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient, None, None
