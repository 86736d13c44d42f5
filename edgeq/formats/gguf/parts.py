"""Models in several GGUF files, as llama.cpp's `llama-gguf-split` makes them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import Header, read_header

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_KEYS = ("split.no", "split.count", "split.tensors.count")


def read_whole(path: Path) -> Header:
    """The header of a model, with the tensors of all parts if `path` is the first of several.

    Raises what `read_header` does, and InvalidInput for another part than the first, a part that is
    missing, and parts that do not belong together.
    """
    header = read_header(path)
    number, count, wanted = (header.get(key, 0) for key in _KEYS)
    if not isinstance(count, int) or count < 2:
        return header
    named = _NAME.fullmatch(path.name)
    if named is None or int(named[3]) != count:
        what = f"is one of {count} parts of a model, and is not named like one"
        raise InvalidInput(Problem(str(path), what, f"name it MODEL-00001-of-{count:05d}.gguf"))
    first = f"{named[1]}-00001-of-{count:05d}.gguf"
    if number != 0 or path.name != first:
        what = f"is part {number + 1} of {count} of a model"
        raise InvalidInput(Problem(str(path), what, f"name the first: {first}"))
    tensors, size = dict(header.tensors), header.file_bytes
    for index in range(1, count):
        part = read_header(path.with_name(f"{named[1]}-{index + 1:05d}-of-{count:05d}.gguf"))
        if part.get("split.no") != index or part.tensors.keys() & tensors.keys():
            what = f"is not part {index + 1} of {path.name}"
            raise InvalidInput(Problem(str(part.path), what, "download all parts again"))
        tensors |= part.tensors
        size += part.file_bytes
    if len(tensors) != wanted:
        what = f"has {len(tensors)} tensors in {count} parts, and promises {wanted}"
        raise InvalidInput(Problem(str(path), what, "download all parts again"))
    metadata = {key: value for key, value in header.metadata.items() if key not in _KEYS}
    return replace(header, metadata=metadata, tensors=tensors, file_bytes=size)
