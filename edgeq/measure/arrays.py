"""Files that hold arrays one after the other, each as numpy's `.npy` has it.

Unlike `.npz` it can be written and read a sample at a time, and no name can collide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def write_arrays(path: Path, arrays: Iterable[Array]) -> int:
    """Write `arrays` as they come and return how many there were."""
    count = 0
    with path.open("wb") as file:
        for array in arrays:
            np.save(file, array, allow_pickle=False)
            count += 1
    return count


def read_arrays(path: Path) -> Iterator[Array]:
    """The arrays in their order, one in memory at a time."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < end:
            yield np.load(file, allow_pickle=False)
