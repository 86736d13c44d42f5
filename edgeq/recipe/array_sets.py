"""Arrays of an `.npz`, one for each input of a model.

All have the same number of samples along the first axis.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import require_file, unreadable
from edgeq.core.units import format_bytes
from edgeq.core.validation_messages import suggest
from edgeq.recipe.samples import chosen_rows, no_such_file, unknown_suffix

Array = npt.NDArray[Any]

ARRAY_SUFFIXES = (".npz",)
_MOST_ARRAY_BYTES = 4 << 30
# RuntimeError: of an encrypted file, or a compression that this Python lacks
_UNREADABLE_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def read_arrays(path: Path, samples: int | None = None, seed: int = 0) -> dict[str, Array]:
    """The arrays of an `.npz` by input name, each (samples, …); chosen as in `read_texts`.

    Raises InvalidInput for a file that does not exist, is not an `.npz`, contains pickled objects,
    NaN or infinity, or whose arrays differ in the number of samples.
    """
    if path.suffix not in ARRAY_SUFFIXES:
        raise unknown_suffix(path, ARRAY_SUFFIXES)
    arrays = _load_arrays(path)
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if not counts or len(set(counts.values())) > 1:
        shapes = ", ".join(f"{name} {arrays[name].shape}" for name in counts) or "no arrays"
        remedy = "give every input an array with the samples along the first axis"
        raise InvalidInput(Problem(str(path), f"arrays do not match: {shapes}", remedy))
    chosen = chosen_rows(path, next(iter(counts.values())), samples, seed)
    _refuse_empty(path, arrays)
    _refuse_not_finite(path, arrays, chosen)
    return {name: array[chosen] for name, array in arrays.items()}


def _refuse_empty(path: Path, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if len(array) and not array.size:
            what = f"the samples of the array {name!r} have the shape {array.shape[1:]}, no values"
            remedy = "leave them out, or compute them again: an empty input measures nothing"
            raise InvalidInput(Problem(str(path), what, remedy))


def _refuse_not_finite(path: Path, arrays: Mapping[str, Array], chosen: Sequence[int]) -> None:
    for name, array in arrays.items():
        for index in chosen if array.dtype.kind == "f" else ():
            if not np.isfinite(array[index]).all():
                word = "NaN" if np.isnan(array[index]).any() else "infinity"
                what = f"the array {name!r} contains {word} in sample {index}"
                remedy = "remove that sample, or recompute it: only finite numbers can be measured"
                raise InvalidInput(Problem(str(path), what, remedy))


def _load_arrays(path: Path) -> dict[str, Array]:
    if not path.exists():
        raise no_such_file(path)
    require_file(path)
    try:
        with path.open("rb") as file:
            is_zip = zipfile.is_zipfile(file)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        if not is_zip:
            raise ValueError("it is not a zip file")
        with zipfile.ZipFile(path) as archive:
            _require_room(path, archive)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _native(np.asarray(arrays[name])) for name in arrays.files}
    except (*_UNREADABLE_ZIP, OSError, ValueError) as error:
        remedy = "write it with numpy.savez(path, input_name=array, ...)"
        raise InvalidInput(Problem(str(path), f"not a readable .npz: {error}", remedy)) from None


def _native(array: Array) -> Array:
    """In this machine's order of bytes, which every runtime takes for granted."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _require_room(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse arrays that do not fit into memory: a small file may unpack to any size."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > _MOST_ARRAY_BYTES:
        what = f"contains {format_bytes(size)} of arrays, over {format_bytes(_MOST_ARRAY_BYTES)}"
        raise InvalidInput(Problem(str(path), what, "keep fewer samples"))


def feeds(
    path: Path, arrays: Mapping[str, Array], ranks: Mapping[str, int]
) -> Iterator[dict[str, Array]]:
    """Yield one sample after the other, in the shapes of a model with inputs of these `ranks`.

    If an array has the rank of its input, the first axis is the batch and every feed keeps it, with
    length 1; if it has one more axis, that axis counts the samples and is removed. Raises
    InvalidInput at once for names or ranks that do not match; `path` names the file.
    """
    problems = [
        Problem(str(path), f"no array for the input {name!r}", f"it has: {', '.join(arrays)}")
        for name in ranks
        if name not in arrays
    ]
    for name, array in arrays.items():
        if name not in ranks:
            what = f"the model has no input {name!r}"
            problems.append(Problem(str(path), what, suggest(name, ranks)))
        elif array.ndim - ranks[name] not in (0, 1):
            rank = ranks[name]
            what = (
                f"{name!r} has the shape {array.shape}, which does not fit an input of rank {rank}"
            )
            remedy = f"give it {rank} axes (first: batch) or {rank + 1} (first: samples)"
            problems.append(Problem(str(path), what, remedy))
    if problems:
        raise InvalidInput(problems)
    return _slices(arrays, ranks)


def _slices(arrays: Mapping[str, Array], ranks: Mapping[str, int]) -> Iterator[dict[str, Array]]:
    for index in range(len(next(iter(arrays.values()), ()))):
        yield {
            name: array[index : index + 1] if array.ndim == ranks[name] else array[index]
            for name, array in arrays.items()
        }
