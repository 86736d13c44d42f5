"""Files of consecutive arrays, each in numpy's `.npy` format.

Unlike `.npz` it can be written and read a sample at a time, and names cannot collide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

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
    """Read the arrays in order, one in memory at a time.

    Raises ValueError for what `write_arrays` does not write, or did not finish.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        while (start := file.tell()) < end:
            _require_whole(file, end)
            file.seek(start)
            yield np.load(file, allow_pickle=False)


def by_sample(path: Path, names: Sequence[str]) -> Iterator[dict[str, Array]]:
    """The outputs of each sample by name, of a file that has them in the order of `names`."""
    arrays = read_arrays(path)
    for first in arrays:
        yield dict(zip(names, (first, *itertools.islice(arrays, len(names) - 1)), strict=True))


def _require_whole(file: BinaryIO, end: int) -> None:
    """Before numpy allocates what a stranger's header announces."""
    format: Any = np.lib.format
    if format.read_magic(file) != (1, 0):
        raise ValueError("not an array that edgeq wrote")
    shape, _, dtype = format.read_array_header_1_0(file)
    if math.prod(shape) * dtype.itemsize > end - file.tell():
        raise ValueError("an array is cut short")
