"""Codes on disk: the exact result of a method, to be written to any format later."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.quantize.number_formats import NUMBER_FORMATS, QuantizedTensor


def save_codes(path: Path, codes: Mapping[str, QuantizedTensor]) -> None:
    """Write `codes` as a .npz: equal codes give equal bytes.

    For the n-th tensor, int8 `n.codes` and float32 `n.scales` as they are; `names`,
    `number_formats` and `methods` are lists in the same order.
    """
    arrays: dict[str, Any] = {
        "names": np.array(list(codes), np.str_),
        "number_formats": np.array(
            [tensor.number_format.name for tensor in codes.values()], np.str_
        ),
        "methods": np.array([tensor.method for tensor in codes.values()], np.str_),
    }
    for index, tensor in enumerate(codes.values()):
        arrays[f"{index}.codes"] = tensor.codes
        arrays[f"{index}.scales"] = tensor.scales
    np.savez(path, **arrays)


def load_codes(path: Path) -> dict[str, QuantizedTensor]:
    """Read the output of `save_codes`, in its order. Raises InvalidInput for any other file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = (stored[key].tolist() for key in ("names", "number_formats", "methods"))
            return {
                name: QuantizedTensor(
                    NUMBER_FORMATS[number_format],
                    stored[f"{index}.codes"],
                    stored[f"{index}.scales"],
                    method,
                )
                for index, (name, number_format, method) in enumerate(zip(*facts, strict=True))
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        what = f"has no codes written by edgeq: {error}"
        raise InvalidInput(Problem(str(path), what, "build again")) from None
