"""Pixels of an image for a package, from the array that its model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MOST = 255.0


def pixels(
    array: npt.ArrayLike, scale: Sequence[float], bias: Sequence[float]
) -> npt.NDArray[np.float32]:
    """The pixels, float32 (1, channels, height, width), integers from 0 to 255.

    array: `pixel × scale + bias`, of the same shape. scale, bias: one number, or one per channel.
    Values that no pixel can give are moved to the nearest possible one.
    """
    by_channel = (np.asarray(part, np.float64).reshape(1, -1, 1, 1) for part in (scale, bias))
    factor, shift = by_channel
    found = np.rint((np.asarray(array, np.float64) - shift) / factor)
    return np.clip(found, 0, _MOST).astype(np.float32)
