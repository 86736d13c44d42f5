"""Write Hugging Face directories as GGUF files, tensor by tensor, without torch.

The type of a tensor is decided elsewhere, from names and shapes. Here rows are read, converted to
llama.cpp's layout, rounded by its own library, and written; our own codes are packed unchanged. The
file's order and metadata are those of llama.cpp's quantizer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from edgeq.core.artifact import TensorRecord
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Progress
from edgeq.formats.gguf.convert import column_order, read_rows, reorder_codes, row_order
from edgeq.formats.gguf.decide import GgufDecision
from edgeq.formats.gguf.header import ALIGNMENT
from edgeq.formats.gguf.hyperparameters import (
    Hyperparameters,
    decoder_hyperparameters,
    encoder_hyperparameters,
)
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.names import architecture_of, family_of, gguf_names
from edgeq.formats.gguf.parity import require_parity
from edgeq.formats.gguf.requantize import quantized_metadata
from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.vocabulary import Vocabulary, vocabulary_of
from edgeq.formats.gguf.writer import TensorSpec, header_bytes, write_gguf
from edgeq.models.architectures import decoder_of
from edgeq.models.architectures.experts import expert_of
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.weights import open_weights
from edgeq.quantize.ggml.blocks import STORED_AS, pack_codes
from edgeq.quantize.ggml.mixes import MIXES, file_order
from edgeq.quantize.ggml.quantize import quantize_tensor
from edgeq.quantize.ggml.types import TYPES, GgmlType, nbytes
from edgeq.quantize.methods.judged import with_fall_back
from edgeq.quantize.number_formats import Floats, QuantizedTensor

_BYTES_AT_ONCE = 4 << 20
# Added to a vector unchanged, or convolved: there are no kernels for quantized ones. The last is a
# vector there.
_ALWAYS_FLOAT = (
    *("token_types.weight", "shortconv.conv.weight", "ssm_conv1d.weight"),
    "ffn_gate_inp_shexp.weight",
)


@dataclass(frozen=True)
class WrittenGguf:
    """The contents of the file: every weight's record by its Hugging Face name, and notes.

    notes: deviations of llama.cpp from the model that a caller must mind.
    """

    tensors: dict[str, TensorRecord]
    notes: tuple[str, ...]


def write_gguf_model(
    directory: ModelDirectory,
    destination: Path,
    decisions: Mapping[str, GgufDecision],
    codes: Mapping[str, QuantizedTensor],
    importance: Importance | None,
    *,
    mix: str,
    progress: Progress,
    name: str | None = None,
) -> WrittenGguf:
    """Write a model to `destination`, atomically.

    decisions: for every weight, by Hugging Face name. codes: for those that have their own, rows as
    in the model. importance: by the weights' names in the file. mix: the file's type as a whole, a
    mix of llama.cpp's or one of our number formats. name: the model's; the directory's by default.

    Memory does not grow with the model, except for `codes`. Raises InvalidInput, before anything is
    written, for a model that cannot be converted to GGUF and for a tokenizer that llama.cpp reads
    differently.
    """
    file = _File(directory, decisions, mix, importance, name)
    progress("compare token ids")
    notes = file.notes()
    tensors = _Tensors(file, codes, importance, progress)
    write_gguf(destination, file.metadata, file.specs, tensors.chunks)
    records = {
        own: TensorRecord(
            shape=file.shapes[own],
            number_format=decision.number_format if own in codes else file.types[own].name,
            method=codes[own].method if own in codes else decision.method,
            bytes=nbytes(file.types[own], file.shapes[own]),
            note=with_fall_back(decision.reason, decision.method, codes.get(own)),
        )
        for own, decision in decisions.items()
    }
    return WrittenGguf(records, notes)


def planned_notes(
    directory: ModelDirectory, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """Notes for callers of any GGUF file of this model, before a weight is read.

    shapes: of every weight, by Hugging Face name. Raises InvalidInput for a tokenizer that
    llama.cpp reads differently, as `write_gguf_model` does.
    """
    return _Described(directory, shapes, None).notes()


def planned_bytes(
    directory: ModelDirectory,
    decisions: Mapping[str, GgufDecision],
    *,
    mix: str,
    name: str | None = None,
) -> int:
    """The size of the file `write_gguf_model` would write, from configurations and names alone.

    Exact except for the few bytes that name an importance matrix. Raises InvalidInput as there.
    """
    file = _File(directory, decisions, mix, None, name)
    sizes = [len(header_bytes(file.metadata, file.specs))]
    sizes += [nbytes(type, shape) for _, shape, type in file.specs]
    return sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)


class _Described:
    """The description of a model in its file, independent of number formats.

    names: in the file, by Hugging Face name. rows: of the embedding.
    """

    def __init__(
        self, directory: ModelDirectory, shapes: Mapping[str, tuple[int, ...]], name: str | None
    ) -> None:
        where = str(directory.path / "config.json")
        family = family_of(directory.config, where)
        self.directory, self.shapes = directory, shapes
        self.names = gguf_names(directory.config, shapes)
        if family == "bert":
            self.decoder = None
            self.hyperparameters = encoder_hyperparameters(directory, where)
        else:
            self.decoder = decoder_of(directory.config, where)
            self.hyperparameters = decoder_hyperparameters(self.decoder, where)
        self.own_names: dict[str, list[str]] = {}  # several of experts, in their order
        for own in sorted(self.names, key=expert_of):
            self.own_names.setdefault(self.names[own], []).append(own)
        if "token_embd.weight" not in self.own_names:
            what = "has no weight for its tokens"
            raise InvalidInput(Problem(where, what, "download or save the model again"))
        (table,) = self.own_names["token_embd.weight"]
        self.rows = shapes[table][0]
        self.vocabulary = vocabulary_of(directory, self.rows)
        self.metadata = _metadata(
            directory, family, self.hyperparameters, self.vocabulary, shapes, name
        )

    def notes(self) -> tuple[str, ...]:
        """Deviations of llama.cpp from the model; InvalidInput if it tokenizes ordinary text
        differently."""
        read = require_parity(self.directory, self.metadata, self.rows)
        return (*self.hyperparameters.notes, *self.vocabulary.notes, *read)


class _File(_Described):
    """The contents of a file: metadata, and name, shape and type of every tensor, in order."""

    def __init__(
        self,
        directory: ModelDirectory,
        decisions: Mapping[str, GgufDecision],
        mix: str,
        importance: Importance | None,
        name: str | None,
    ) -> None:
        super().__init__(directory, {own: directory.tensors[own].shape for own in decisions}, name)
        self.types = {own: self._type(own, decision) for own, decision in decisions.items()}
        for own, decision in decisions.items():
            self._require_whole_heads(own, decision)
        self.metadata = quantized_metadata(self.metadata, _mix_name(mix), importance)
        stored = file_order([*self.own_names, *self.hyperparameters.extra])
        self.specs = [self._spec(name) for name in stored]

    def _type(self, own: str, decision: GgufDecision) -> GgmlType:
        if len(self.shapes[own]) == 1 or self.names[own].endswith(_ALWAYS_FLOAT):
            return TYPES["F32"]
        return decision.type

    def _require_whole_heads(self, own: str, decision: GgufDecision) -> None:
        """Raise InvalidInput for own codes whose columns cannot be put in llama.cpp's order."""
        delta = self.decoder.delta if self.decoder else None
        if delta is None or not decision.has_own_codes or column_order(self.decoder, own) is None:
            return
        if delta.value_width % decision.type.block:
            what = (
                f"{own}: its heads of {delta.value_width} columns, which llama.cpp has in another "
                f"order, are not whole blocks of {decision.type.block}"
            )
            remedy = "name a type of llama.cpp's in 'quantize', such as Q8_0: its library rounds it"
            raise InvalidInput(Problem("quantize", what, remedy))

    def _spec(self, stored: str) -> TensorSpec:
        extra = self.hyperparameters.extra.get(stored)
        if extra is not None:
            return stored, extra.shape, TYPES["F32"]
        own, *others = self.own_names[stored]
        shape = self.shapes[own]
        if len(shape) > 2:  # a convolution of each column by itself
            shape = (shape[0], math.prod(shape[1:]))
        return stored, (1 + len(others), *shape) if others else shape, self.types[own]


class _Tensors:
    """The bytes of a file's tensors, computed on demand."""

    def __init__(
        self,
        file: _File,
        codes: Mapping[str, QuantizedTensor],
        importance: Importance | None,
        progress: Progress,
    ) -> None:
        self._file, self._codes = file, codes
        self._importance, self._progress = importance, progress
        self._weights = open_weights(file.directory)

    def chunks(self, stored: str) -> Iterator[NDArray[np.uint8]]:
        """The tensor of that name in the file, piece by piece."""
        file = self._file
        extra = file.hyperparameters.extra.get(stored)
        if extra is not None:
            return iter([_bytes(extra)])
        names = file.own_names[stored]
        found = self._importance.weights(stored) if self._importance else None
        if len(names) == 1 or found is None:
            weights = [found] * len(names)
        elif found.shape == (len(names), file.shapes[names[0]][-1]):
            weights = list(found)
        else:
            what = f"{stored} has importance {found.shape} for {len(names)} experts"
            raise InvalidInput(Problem("data.importance", what, "make a matrix for this model"))
        each = zip(names, weights, strict=True)
        return itertools.chain.from_iterable(itertools.starmap(self._weight, each))

    def _weight(self, own: str, importance: Floats | None) -> Iterator[NDArray[np.uint8]]:
        shape, type = self._file.shapes[own], self._file.types[own]
        self._progress(f"{own}: {type.name}")
        if own in self._codes:
            return self._packed(own, type)
        read = read_rows(self._weights, self._file.decoder, own)
        if len(shape) == 1:
            return iter([_bytes(read(0, shape[0]))])
        return _naming(own, quantize_tensor(read, shape, type, importance))

    def _packed(self, own: str, type: GgmlType) -> Iterator[NDArray[np.uint8]]:
        quantized = self._codes[own]
        if STORED_AS.get(quantized.number_format.name) is not type:
            raise ValueError(
                f"{own}: {quantized.number_format.name} codes for a tensor of {type.name}"
            )
        decoder = self._file.decoder
        columns = column_order(decoder, own)
        tensor = reorder_codes(quantized, row_order(decoder, own), columns)
        yield pack_codes(tensor)


def _naming(weight: str, pieces: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield `pieces`; errors of a number format are attributed to the weight."""
    try:
        yield from pieces
    except InvalidInput as error:
        raise InvalidInput(
            Problem(f"the weight {weight!r}", f"{problem.where}: {problem.what}", problem.remedy)
            for problem in error.problems
        ) from None


def _bytes(values: Floats) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values, "<f4").view(np.uint8)


def _mix_name(mix: str) -> str:
    """llama.cpp's name for a file's type: the mix's, or that of the type that holds our format."""
    if mix in STORED_AS:
        return STORED_AS[mix].name
    return mix if mix in MIXES else "F32"


def _metadata(
    directory: ModelDirectory,
    family: str,
    hyperparameters: Hyperparameters,
    vocabulary: Vocabulary,
    shapes: Mapping[str, tuple[int, ...]],
    name: str | None,
) -> dict[str, MetaValue]:
    architecture = architecture_of(family)
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    general = {
        "architecture": architecture,
        "type": "model",
        "name": _name(name or directory.path.name, vocabulary),
        "size_label": gguf.size_label(count, count, 0, 0),
        **({"license": directory.licence} if directory.licence else {}),
    }
    return {
        **{f"general.{key}": MetaValue("string", text) for key, text in general.items()},
        **{f"{architecture}.{key}": value for key, value in hyperparameters.metadata.items()},
        **vocabulary.metadata,
    }


def _name(name: str, vocabulary: Vocabulary) -> str:
    """The model's name, by which alone llama.cpp identifies Phi-3's special tokens."""
    looks_like = any(word in name.lower() for word in ("phi-3", "phi3"))
    if looks_like == vocabulary.strips_like_phi3:
        return name
    if vocabulary.strips_like_phi3:
        return f"Phi-3 {name}"
    return name.replace("-3", " 3", 1) if "-3" in name else name.replace("3", " 3", 1)
