"""Unpack a GGUF file into a directory as Hugging Face saves one, once, in this machine's cache."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.gguf.requantize import is_readable
from edgeq.formats.gguf.sanity import require_sane
from edgeq.formats.gguf.source.config import DIVISORS, config_of
from edgeq.formats.gguf.source.tokenizer import marks_in_pieces, settings_of, tokenizer_of
from edgeq.formats.gguf.source.unread import spelled_tokens, unread_config
from edgeq.formats.gguf.source.weights import float_rows, write_empty, write_weights
from edgeq.formats.gguf.trial import require_survivor
from edgeq.formats.gguf.writer import write_gguf
from edgeq.formats.runtime_cache import drop_unused, mark_used, store
from edgeq.models.architectures import decoder_of
from edgeq.quantize.ggml.types import TYPES

WEIGHTS_FILE = "model.safetensors"
_TYPES = "gguf-types.json"  # how many matrices the file has of each type
_LAYOUT = 3  # of the directory: increase it when the same file would be unpacked differently
_AGAIN = "download it again"
_NEAR = ("F32", "F16", "BF16", "Q8_0")


def unpacked(path: Path, where: str) -> Path:
    """The directory for the file at `path`; of an architecture that edgeq does not read, it has
    sizes and tokens without weights.

    Raises InvalidInput, naming `where` in the recipe, or the key that llama.cpp would not survive.
    """
    header = _whole(path, where)
    require_sane(header)
    hashes = [canonical.sha256_of_file(each) for each in header.paths]
    key = {"gguf": hashes[0] if len(hashes) == 1 else hashes, "layout": _LAYOUT}

    def make(destination: Path) -> None:
        try:
            _read(header, destination)
        except InvalidInput as unread:
            _leave(header, hashes, unread.problems[0].what, destination)
        licence = header.get("general.license")
        if isinstance(licence, str) and "\n" not in licence:
            card = f"---\nlicense: {licence}\n---\n"
            (destination / "README.md").write_text(card, encoding="utf-8")

    made = store().stage("gguf", key, make, describe=path.name)
    mark_used(made)
    drop_unused(made)
    return made


def _read(header: Header, destination: Path) -> None:
    """Write a model whose architecture edgeq reads. Raises InvalidInput for any other."""
    frequencies = header.tensors.get(DIVISORS)
    turned = (
        None
        if frequencies is None
        else np.concatenate([rows.reshape(-1) for rows in float_rows(frequencies)])
    )
    config = config_of(header, turned)
    _write(destination / "config.json", config)
    _write(destination / "tokenizer.json", tokenizer_of(header))
    _write(destination / "tokenizer_config.json", settings_of(header))
    write_weights(header, decoder_of(config, str(header.path)), destination / WEIGHTS_FILE)
    _write(destination / _TYPES, _types(header))


def _leave(header: Header, hashes: list[str], reason: str, destination: Path) -> None:
    """Write what is known of another model, whose weights stay in their file.

    Raises InvalidInput for a file that llama.cpp does not run either, and for NaN and infinity.
    """
    config = unread_config(header, hashes, reason)
    require_survivor(header, None, None, None, None)
    _require_finite(header)
    _write(destination / "config.json", config)
    _write(destination / "tokenizer.json", spelled_tokens(header))
    _write(destination / "tokenizer_config.json", settings_of(header))
    write_empty(destination / WEIGHTS_FILE)
    _write(destination / _TYPES, _types(header))


def _require_finite(header: Header) -> None:
    for name, entry in header.tensors.items():
        if is_readable(entry.type) and not all(
            np.isfinite(rows).all() for rows in float_rows(entry)
        ):
            what = f"{name} contains NaN or infinity"
            raise InvalidInput(Problem(str(header.path), what, "download or train it again"))


def _types(header: Header) -> dict[str, int]:
    """How many matrices have each type."""
    matrices = (entry for entry in header.tensors.values() if len(entry.shape) > 1)
    return dict(Counter(entry.type.name for entry in matrices))


def notes_of(directory: Path, file: Path) -> tuple[str, ...]:
    """What a reader of a plan must know about `file`, which `directory` was unpacked from."""
    types = json.loads((directory / _TYPES).read_text(encoding="utf-8"))
    coarse = [f"{count} of {name}" for name, count in types.items() if name not in _NEAR]
    marks = marks_in_pieces(directory)
    return (*((_rounded(file, coarse),) if coarse else ()), *((_of_marks(marks),) if marks else ()))


def _rounded(file: Path, coarse: list[str]) -> str:
    return (
        f"{file.name} is already quantized ({', '.join(coarse)} matrices): rounding twice adds "
        f"error, and quality is compared with this file, not with the model it was made from"
    )


def _of_marks(marks: list[str]) -> str:
    return (
        f"its chat template writes {', '.join(marks)}, ordinary tokens of the file: llama.cpp "
        f"reads them in pieces, and the model that it was made from perhaps each as one token"
    )


def write_float(source: Path, destination: Path) -> None:
    """The same file with every tensor in float32.

    llama.cpp rounds the inputs of a weight of fewer bits too, which is no property of the model.
    """
    header = read_whole(source)
    specs = [(name, entry.shape, TYPES["F32"]) for name, entry in header.tensors.items()]
    write_gguf(
        destination,
        header.metadata,
        specs,
        lambda name: float_rows(header.tensors[name]),
    )


def _whole(path: Path, where: str) -> Header:
    if not path.is_file():
        raise InvalidInput(Problem(where, f"no such model: {path}", "name a .gguf file"))
    return read_whole(path)


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    except UnicodeEncodeError as error:
        what = f"the file has text that is not UTF-8, which {path.name} cannot hold"
        near = error.object[max(0, error.start - 40) : error.start]
        raise InvalidInput(Problem("model.source", f"{what}, after {near!r}", _AGAIN)) from None
