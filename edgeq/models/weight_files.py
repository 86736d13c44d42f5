"""The files of a model's weights: `model.safetensors`, or those of its index; nothing else.

A second weight file could take effect unnoticed, so it is refused, and so is an adapter.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.jsonfile import damaged, read_json

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
ADAPTERS = ("adapter_model.safetensors", "adapter_config.json", "adapter_model.bin")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_LONGEST_HEADER = 100 << 20  # the safetensors format's own limit
_VALUE_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
_INTEGERS = ("I32", "BOOL", "U8")
_NOT_WEIGHTS = ("position_ids", "token_type_ids", "masked_bias", "attn.bias", "num_batches_tracked")


@dataclass(frozen=True)
class TensorFacts:
    """A weight according to the file header: dtype by safetensors' name, shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Whether it holds full-precision floats."""
        return self.dtype in _VALUE_BITS


def weight_files(path: Path, where: str) -> tuple[Path, ...]:
    """The weight files of the model in the directory `path`, in order.

    Raises InvalidInput if there are none, if shards are missing, and if there are additional weight
    files.
    """
    found = sorted(path.glob("*.safetensors"))
    adapter = next((path / name for name in ADAPTERS if (path / name).is_file()), None)
    if adapter is not None:
        what = f"{path} has an adapter ({adapter.name}), which edgeq does not apply"
        remedy = "merge it into the weights first: model.merge_and_unload().save_pretrained(DIR)"
        raise InvalidInput(Problem(where, what, remedy))
    if (path / INDEX).is_file():
        return _indexed(path, where, found)
    single = path / WEIGHTS
    if single in found:
        return _alone(path, where, found, (single,))
    _refuse_pickles(path, where)
    what = f"{path} has no {WEIGHTS}"
    remedy = "name a directory with weights"
    if found:
        what += f", only {found[0].name}"
        remedy = f"if those are all its weights, rename the file to {WEIGHTS}"
    raise InvalidInput(Problem(where, what, remedy))


def read_tensors(files: tuple[Path, ...]) -> dict[str, TensorFacts]:
    """Every tensor's facts; one that is in two files, or of a quantized type, is refused."""
    places: dict[str, Path] = {}
    tensors: dict[str, TensorFacts] = {}
    for file in files:
        for name, facts in read_safetensors_header(file).items():
            if name in places:
                what = f"{name} is in {places[name].name} too"
                raise InvalidInput(Problem(str(file), what, "download or save the model again"))
            places[name], tensors[name] = file, facts
    for name, facts in tensors.items():
        refuse_quantized(name, facts, str(places[name]))
    return tensors


def refuse_quantized(name: str, facts: TensorFacts, where: str) -> None:
    """Raise InvalidInput for a tensor that is not a float weight."""
    is_index = facts.dtype == "I64"  # of tables; codes of weights are narrower
    if facts.is_float or is_index or (facts.dtype in _INTEGERS and name.endswith(_NOT_WEIGHTS)):
        return
    what = f"{name} is stored as {facts.dtype}: the checkpoint is already quantized"
    remedy = f"use the model it was made from, in one of {', '.join(_VALUE_BITS)}"
    raise InvalidInput(Problem(where, what, remedy))


def missing_shards(path: Path) -> list[str]:
    """Weight files named by the index of a sharded model that are missing in `path`."""
    if not (path / INDEX).is_file():
        return []
    names = sorted(set(_weight_map(path).values()))
    return [name for name in names if not (path / name).is_file()]


def read_safetensors_header(path: Path) -> dict[str, TensorFacts]:
    """Names, dtypes and shapes in a safetensors file, from its header alone.

    Format: 8 bytes little-endian header length, then that much JSON (safetensors README, "Format").
    Raises InvalidInput for a file whose content contradicts its header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        header = file.read(length) if 0 < length <= min(_LONGEST_HEADER, size) else b""
    broken = InvalidInput(
        Problem(str(path), "not a complete safetensors file", "download or save it again")
    )
    try:
        entries = json.loads(header, object_pairs_hook=_once)
        entries.pop("__metadata__", None)
        ends = [_end(entry) for entry in entries.values()]
        found = {
            name: TensorFacts(entry["dtype"], tuple(entry["shape"]))
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise broken from None
    if 8 + length + max(ends, default=0) != size:
        raise broken
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose keys are unique."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _end(entry: dict[str, Any]) -> int:
    """The end of a tensor's bytes; ValueError if its entry contradicts itself."""
    (start, end), shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
    if not all(type(number) is int and number >= 0 for number in (start, end, *shape)):
        raise ValueError("not a size")
    if not isinstance(dtype, str):
        raise ValueError("not a dtype")
    bits = _VALUE_BITS.get(dtype)
    if bits is not None and (end - start) * 8 != math.prod(shape) * bits:
        raise ValueError("not the size of its shape")
    return int(end)


def _weight_map(path: Path) -> Mapping[str, str]:
    """The file of each tensor according to the index: files in `path` itself."""
    index = path / INDEX
    named = read_json(index, str(index)).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise damaged(index, "it has no weight_map")
    outside = [name for name in named.values() if Path(name).name != name or name in (".", "..")]
    if outside:
        raise damaged(index, f"it names {outside[0]!r}, which is not a file next to it")
    return named


def _indexed(path: Path, where: str, found: list[Path]) -> tuple[Path, ...]:
    missing = missing_shards(path)
    if missing:
        what = f"{path} lacks {missing[0]}, which {INDEX} names"
        raise InvalidInput(Problem(where, what, "download or copy the rest of the model"))
    named = _weight_map(path)
    files = _alone(path, where, found, tuple(path / name for name in sorted({*named.values()})))
    for file in files:
        stored = set(read_safetensors_header(file))
        promised = {name for name, place in named.items() if place == file.name}
        differing = sorted(stored ^ promised)
        if differing:
            what = f"{INDEX} and {file.name} do not agree on {differing[0]}"
            raise InvalidInput(Problem(where, what, "download or save the model again"))
    return files


def _alone(path: Path, where: str, found: list[Path], files: tuple[Path, ...]) -> tuple[Path, ...]:
    """`files`, if there are no other weights."""
    others = [file.name for file in found if file not in files]
    if others:
        what = f"{path} has weights in addition to {files[0].name}: {', '.join(others[:3])}"
        raise InvalidInput(Problem(where, what, f"move {others[0]} to another directory"))
    return files


def _refuse_pickles(path: Path, where: str) -> None:
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        what = (
            f"{path} has its weights only as {pickles[0]}: pickled files can run code when they "
            "are opened, and are never read"
        )
        remedy = (
            "convert it once where you trust it: model.save_pretrained(DIR, "
            "safe_serialization=True)"
        )
        raise InvalidInput(Problem(where, what, remedy))
