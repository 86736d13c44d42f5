"""Whether a file's weights are plausible numbers: read in pieces, whatever the size.

Floats are checked one by one. For quantized tensors the scale of each block is checked: codes are
small integers, so a block is NaN, infinite or zero only through its scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.formats.gguf.header import TensorEntry

Array = npt.NDArray[Any]

_CHUNK = 1 << 20
_LARGEST = 65504.0  # float16 maximum; many runtimes compute in float16
_POWERS = 160  # of two; MXFP4's scales reach 2^-127 and 2^127, float16's less
_ABSURD_RATIO = 13  # powers of two between the median scale of a tensor and its largest

# Offsets in bytes of the float16 scales (and minima) in a block: ggml-common.h.
_SCALES: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q8_1": (0, 2),
    "Q1_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ1_S": (0,),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ2_S": (0,),
    "IQ3_XXS": (0,),
    "IQ3_S": (0,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}
_FLOATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "F64": np.dtype("<f8"),
}


@dataclass
class Values:
    """Statistics of one tensor; `read` is False for formats without scales to check.

    not_finite: number of weights, or blocks, that are NaN or infinite. all_zero: every weight is
    zero. largest: magnitude of the largest finite weight or scale. ratio: of the largest scale to
    the median, as a power of two; 0 for floats. unit: the items counted.
    """

    read: bool
    not_finite: int = 0
    all_zero: bool = False
    largest: float = 0.0
    ratio: int = 0
    unit: str = "weights"

    @property
    def sort(self) -> str:
        """The kind of problem, worded for several tensors."""
        if self.not_finite:
            return "with NaN or infinity"
        return "of zeros" if self.all_zero else "with absurd values"

    @property
    def problem(self) -> str | None:
        """The tensor's problem, None if it has none."""
        if self.not_finite:
            verb = "is" if self.not_finite == 1 else "are"
            count = f"{self.not_finite} {self.unit if self.not_finite > 1 else self.unit[:-1]}"
            return f"{count} {verb} NaN or infinite"
        if self.largest > _LARGEST:
            return f"its largest value is {self.largest:.3g}, beyond the range of float16"
        if self.ratio > _ABSURD_RATIO:
            return f"its largest scale is over 2^{self.ratio} times the median one"
        return "all its weights are zero" if self.all_zero else None


def look(path: Path, tensor: TensorEntry) -> Values:
    """Read `tensor` of the file at `path` a MiB at a time and collect its statistics."""
    seen = Values(read=_readable(tensor.type.name), all_zero=True)
    seen.unit = "blocks" if tensor.type.block > 1 else "weights"
    if not seen.read:
        return Values(read=False)
    exponents = np.zeros(2 * _POWERS, np.int64)  # of scales, from 2^-_POWERS on
    for part in _parts(path, tensor):
        with np.errstate(invalid="ignore"):  # a signalling NaN
            values = np.abs(part.astype(np.float64))
        finite = np.isfinite(values)
        whole = finite.reshape(len(values), -1).all(1)
        seen.not_finite += len(whole) - int(whole.sum())
        values = values[finite]
        if not values.any():
            continue
        seen.all_zero = False
        seen.largest = max(seen.largest, float(values.max()))
        if tensor.type.block > 1:
            powers = np.frexp(values[values > 0])[1]
            exponents += np.bincount(powers + _POWERS, minlength=len(exponents))
    seen.all_zero = seen.all_zero and not seen.not_finite
    if exponents.any():
        total = np.cumsum(exponents)
        median = int(np.searchsorted(total, total[-1] / 2))
        seen.ratio = int(np.flatnonzero(exponents)[-1]) - median
    return seen


def _readable(name: str) -> bool:
    return name in _FLOATS or name in _SCALES or name in ("BF16", "IQ1_M", "MXFP4")


def _parts(path: Path, tensor: TensorEntry) -> Iterator[Array]:
    """The values, or the scales of all blocks (blocks, scales per block), a MiB of file each."""
    size = tensor.type.block_bytes
    with path.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        left = tensor.nbytes
        while left:
            block = file.read(min(left, _CHUNK // size * size))
            if not block or len(block) % size:
                return  # the file was truncated after its header was read
            left -= len(block)
            yield _numbers(tensor.type.name, block, size)


def _numbers(name: str, content: bytes, size: int) -> Array:
    if name in _FLOATS:
        return np.frombuffer(content, _FLOATS[name])
    if name == "BF16":
        wide: Array = (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
        return wide
    blocks = np.frombuffer(content, np.uint8).reshape(-1, size)
    if name == "MXFP4":  # an exponent of 8 bits without sign, 255 is NaN (OCP MX formats, E8M0)
        exponents = blocks[:, 0].astype(np.int32)
        return np.where(exponents == 255, np.nan, np.ldexp(1.0, exponents - 127))
    if name == "IQ1_M":  # its float16 is spread over the highest 4 bits of the last four uint16
        parts = np.ascontiguousarray(blocks[:, 48:56]).view("<u2")
        digits = (parts >> 12).astype(np.uint16) << np.array([0, 4, 8, 12], np.uint16)
        joined: Array = np.bitwise_or.reduce(digits, axis=1).astype("<u2").view("<f2")
        return joined[:, None]
    places = _SCALES[name]
    columns = np.stack([blocks[:, at : at + 2] for at in places], axis=1)
    scales: Array = np.ascontiguousarray(columns).view("<f2")[:, :, 0]
    return scales
