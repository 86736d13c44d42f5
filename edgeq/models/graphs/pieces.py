"""Run a graph piece by piece: each piece up to one tensor, from the results of earlier pieces."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeq.core import canonical
from edgeq.core.artifact import MODEL_FILE
from edgeq.core.threads import run_ahead, threads_of_each
from edgeq.models.onnx_session import Session, open_graph
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed

Array = NDArray[np.generic]
_ROW_BY_ROW = frozenset({"FusedMatMul", "Add", "Mul", "Clip", "QuickGelu", "FastGelu"})
CACHE_OUTPUT = "present."
"""The start of the names of what a decoder carries on to its next call."""


@dataclass(frozen=True)
class Piece:
    """A part of a graph. given: weights it takes as inputs. later: tensors still to be read."""

    session: Session
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    given: tuple[str, ...]
    later: frozenset[str]

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs for `inputs` and weights by name."""
        found: list[Array] = self.session.run(list(self.outputs), dict(inputs))
        return found


class Pieces:
    """Cuts a graph at the requested tensors, in order; no node is in two pieces."""

    def __init__(self, directory: Path, given: Iterable[str]) -> None:
        """directory: of `model.onnx`. given: constants passed by the caller, since they change."""
        self._directory = directory
        self._model = onnx.load(directory / MODEL_FILE, load_external_data=False)
        self._nodes = self._model.graph.node
        self._constants = {value.name: value for value in self._model.graph.initializer}
        self._given = frozenset(given)
        self._maker = {name: i for i, node in enumerate(self._nodes) for name in node.output}
        self._idle = self._carrying()
        self.taken: set[int] = set()
        """The nodes of all pieces so far."""

    def _carrying(self) -> set[int]:
        """Nodes that only pass on what a next call needs, and so keep nothing for this one."""
        outputs = [value.name for value in self._model.graph.output]
        answers = [name for name in outputs if not name.startswith(CACHE_OUTPUT)]
        found = set(range(len(self._nodes))) - self._unmade(answers, {})
        read = {name for at in found for name in self._nodes[at].input} & set(self._constants)
        return set() if any(len(self._constants[name].dims) > 1 for name in read) else found

    def place(self, name: str) -> int:
        """A tensor's position in the graph's order; -1 for inputs."""
        return self._maker.get(name, -1)

    def added_to(self, product: str, available: Mapping[str, Array]) -> str | None:
        """The available tensor of the same shape that the next nodes add `product` to, or None.

        A bias may come before. Fused layer norms add too, their first two inputs.
        """
        readers = [node for node in self._nodes if product in node.input]
        if len(readers) != 1 or readers[0].op_type not in ("Add", "SkipLayerNormalization"):
            return None
        (other,) = [name for name in readers[0].input[:2] if name != product] or [product]
        if other in self._constants and readers[0].op_type == "Add":
            return self.added_to(readers[0].output[0], available)
        return other if other in available and available[other].ndim > 1 else None

    def has_chosen_rows(self, name: str) -> bool:
        """Whether the graph itself chooses the rows of a tensor, as for an expert's layers.

        Two models can then have different rows there, and as many of them by chance.
        """
        node = self._made_by(name)
        while node is not None and node.op_type in _ROW_BY_ROW:
            node = self._made_by(node.input[0])
        if node is None or node.op_type != "Gather":
            return False
        places = self._made_by(node.input[1])
        while places is not None and places.op_type == "Squeeze":
            places = self._made_by(places.input[0])
        return places is not None and places.op_type == "NonZero"

    def _made_by(self, name: str) -> onnx.NodeProto | None:
        at = self._maker.get(name)
        return None if at is None else self._nodes[at]

    def until(self, name: str, available: Mapping[str, Array]) -> Piece | None:
        """The piece needed for tensor `name`; None if it is already available.

        available: one sample's known tensors, whose types the piece takes.
        """
        nodes = self._unmade([name], available)
        if not nodes:
            return None
        self.taken.update(nodes)
        later = frozenset(
            read
            for i, node in enumerate(self._nodes)
            if i not in self.taken and i not in self._idle
            for read in _read(node)
        )
        inside = [self._nodes[i] for i in sorted(nodes)]
        made = {output for node in inside for output in node.output if output}
        needed = sorted({read for node in inside for read in _read(node)} - made)
        given = tuple(read for read in needed if read in self._given)
        inputs = tuple(read for read in needed if read in available)
        constants = {read for read in needed if read in self._constants} - set(given)
        outputs = tuple(sorted(made & (later | {name})))
        values = [_value(read, available[read]) for read in inputs]
        values += [_weight(self._constants[read]) for read in given]
        cut = onnx.helper.make_graph(
            inside,
            "piece",
            values,
            [onnx.ValueInfoProto(name=output) for output in outputs],
            [self._constants[read] for read in sorted(constants)],
        )
        model = onnx.helper.make_model(
            cut, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        graph = model.SerializeToString()
        session = open_graph(graph, self._directory, threads=threads_of_each())
        return Piece(session, inputs, outputs, given, later)

    def _unmade(self, names: Iterable[str], available: Mapping[str, Array]) -> set[int]:
        """Nodes that tensors depend on and that no available tensor replaces."""
        found: set[int] = set()
        wanted = list(names)
        while wanted:
            read = wanted.pop()
            at = self._maker.get(read)
            if at is not None and at not in found and read not in available:
                found.add(at)
                wanted += _read(self._nodes[at])
        return found


class Samples:
    """Tensors of every calibration sample in one model: the feeds, and results of pieces.

    Results of pieces are stored in files, one per tensor, and removed by `drop` when nothing reads
    them any more.
    """

    def __init__(self, feeds: Sequence[Feed], folder: Path) -> None:
        self._feeds, self._folder = feeds, folder
        self._files: dict[str, _Spilled] = {}
        self._unread: list[_Spilled] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._feeds)

    def __getitem__(self, index: int) -> dict[str, Array]:
        """All available tensors of one sample, by name."""
        return self._read({**self._feeds[index], **self._files}, index)

    def _read(self, names: Iterable[str], index: int) -> dict[str, Array]:
        feed = self._feeds[index]
        return {n: feed[n] if n in feed else self._files[n].read(index) for n in names}

    def values(self, name: str) -> Iterator[Floats]:
        """A tensor of each sample in turn, its last axis as columns."""
        for index, feed in enumerate(self._feeds):
            value = feed[name] if name in feed else self._files[name].read(index)
            yield value.reshape(-1, value.shape[-1]).astype(np.float32, copy=False)

    def advance(self, piece: Piece, weights: Mapping[str, Floats]) -> None:
        """Run `piece` on every sample. weights: all of its inputs that are weights, in the graph's
        layout.
        """
        made = {name: self._new() for name in piece.outputs}
        constants = {name: weights[name] for name in piece.given}
        given = (self._read(piece.inputs, index) for index in range(len(self._feeds)))
        for results in run_ahead(lambda inputs: piece.run({**inputs, **constants}), given):
            for name, result in zip(piece.outputs, results, strict=True):
                made[name].append(result)
        self._unread += [
            self._files.pop(name) for name in list(self._files) if name not in piece.later
        ]
        self._files.update(made)

    def drop(self) -> None:
        """Remove the files of tensors that no later piece reads."""
        for file in self._unread:
            file.remove()
        self._unread.clear()

    def state(self) -> dict[str, Any]:
        """The available tensors and the hashes of their files, as plain JSON values."""
        return {name: file.state() for name, file in self._files.items()}

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Go on from a state, whose files are in the folder; False if one is not as it was."""
        found = {name: _Spilled.of(self._folder, each) for name, each in state.items()}
        if any(file is None for file in found.values()):
            return False
        self._files = {name: file for name, file in found.items() if file is not None}
        known = {file.path for file in self._files.values()}
        for path in self._folder.iterdir():
            if path not in known:
                path.unlink()
        self._count = max((int(path.name) for path in known), default=0)
        return True

    def _new(self) -> _Spilled:
        self._count += 1
        return _Spilled(self._folder / str(self._count))


class _Spilled:
    """Consecutive arrays in a file, read with plain reads: mapped pages would count as memory."""

    def __init__(self, path: Path, mode: Literal["w+b", "r+b"] = "w+b") -> None:
        self.path, self._file = path, path.open(mode)
        self._places: list[tuple[int, np.dtype[np.generic], tuple[int, ...]]] = []
        self._size = 0
        self._close = weakref.finalize(self, self._file.close)

    @classmethod
    def of(cls, folder: Path, state: Mapping[str, Any]) -> _Spilled | None:
        """The file of a `state`; None if it is not as it was."""
        path = folder / state["file"]
        if not path.is_file() or canonical.sha256_of_file(path) != state["sha256"]:
            return None
        found = cls(path, "r+b")
        for dtype, shape in state["arrays"]:
            found._place(np.dtype(dtype), tuple(shape))
        return found

    def state(self) -> dict[str, Any]:
        """What `of` takes."""
        self._file.flush()
        arrays = [[dtype.str, list(shape)] for _, dtype, shape in self._places]
        sha256 = canonical.sha256_of_file(self.path)
        return {"file": self.path.name, "sha256": sha256, "arrays": arrays}

    def append(self, array: Array) -> None:
        self._file.seek(self._size)
        self._file.write(np.ascontiguousarray(array).data)
        self._place(array.dtype, array.shape)

    def _place(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
        self._places.append((self._size, dtype, shape))
        self._size += int(np.prod(shape, dtype=np.int64)) * dtype.itemsize

    def read(self, index: int) -> Array:
        offset, dtype, shape = self._places[index]
        array: Array = np.empty(shape, dtype)
        self._file.seek(offset)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return array

    def remove(self) -> None:
        self._close()
        self.path.unlink()


def _read(node: onnx.NodeProto) -> list[str]:
    """Everything a node reads, including its subgraphs."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            found += [name for inner in graph.node for name in _read(inner)]
    return found


def _value(name: str, array: Array) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim)


def _weight(constant: onnx.TensorProto) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims)
