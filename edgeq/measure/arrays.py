"""Files of consecutive arrays, each in numpy's `.npy` format.

Unlike `.npz` it can be written and read a sample at a time, and names cannot collide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def write_arrays(path: Path, arrays: Iterable[Array]) -> int:
    """Write `arrays` as they come and return their number."""
    count = 0
    with path.open("wb") as file:
        for array in arrays:
            np.save(file, array, allow_pickle=False)
            count += 1
    return count


def read_arrays(path: Path) -> Iterator[Array]:
    """Read the arrays in order, one in memory at a time."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < end:
            yield np.load(file, allow_pickle=False)
