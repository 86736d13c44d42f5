"""Probes: an ONNX artifact taken apart, so that each operator runs alone on recorded inputs.

A whole model's answers differ between any two CPUs: one operator's different rounding flips codes
in the next, and deep in the model the difference no longer indicates its cause. A probe holds the
operators as onnxruntime runs them, fused, each fed with its inputs from the reference run, so an
answer differs only by that operator. It is an ordinary artifact of arrays to arrays, and runs
wherever a place runs one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import MODEL_FILE, Artifact, ValueInfo, record_files, write_artifact
from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.known_settings import SESSION_KEY
from edgeq.core.tasks import TENSOR
from edgeq.core.temporary import TemporaryFolder
from edgeq.measure.cross_cpu.statistics import NUDGE

Array = npt.NDArray[Any]
Feed = dict[str, Array]
_ROUNDS_INPUTS = "accuracy_level"  # the attribute by which an operator may round its inputs
_LARGEST = 1_800_000_000  # bytes: a graph in one file must stay below 2 GiB
_ENOUGH_VALUES = 1 << 24  # that operators take and give: with more, fewer samples have rows enough
_MOST_VALUES = 1 << 28  # 1 GiB of floats, of which several copies are in memory at once


@dataclass(frozen=True)
class Operator:
    """One node of a probe: its name and type, and which of the probe's outputs belong to it."""

    name: str
    kind: str
    outputs: tuple[int, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """The operators of one artifact with recorded inputs.

    exact: whether operators that may round their inputs are set not to, by `write(exact=True)`.
    """

    artifact: Artifact
    model: Any
    operators: tuple[Operator, ...]
    feeds: tuple[Feed, ...]

    def write(
        self, folder: Path, settings: Mapping[str, str] | None = None, *, exact: bool = False
    ) -> Path:
        """Write the probe as an artifact to `folder`, which is created; returns it.

        settings: session entries instead of those that the artifact names, or that the loader
        chooses there. exact: operators do not round their inputs.
        """
        chosen = self.artifact.settings.get(SESSION_KEY) if settings is None else dict(settings)
        model = _exact(self.model) if exact else self.model
        folder.mkdir(parents=True)
        (folder / MODEL_FILE).write_bytes(model.SerializeToString())
        artifact = self.artifact.model_copy(
            update={
                "name": f"{self.artifact.name}, operator by operator",
                "task": TENSOR.name,
                "inputs": tuple(_values(model.graph.input)),
                "outputs": tuple(_values(model.graph.output)),
                "text": None,
                "dimension": None,
                "settings": {} if chosen is None else {SESSION_KEY: chosen},
                "files": record_files(folder, [MODEL_FILE]),
            }
        )
        write_artifact(folder, artifact)
        return folder

    def write_feeds(self, path: Path, *, nudged: bool = False) -> Path:
        """Write the recorded inputs as the arrays of a request; if `nudged`, floats moved by
        `NUDGE`.
        """
        rng = np.random.default_rng(0)
        stacked = {name: np.stack([feed[name] for feed in self.feeds]) for name in self.feeds[0]}
        if nudged:
            stacked = {name: _nudge(array, rng) for name, array in stacked.items()}
        arrays: dict[str, Any] = stacked
        np.savez(path, **arrays)
        return path


def make_probe(
    directory: Path, artifact: Artifact, samples: Sequence[Feed], remedy: str = ""
) -> Probe:
    """Take the artifact in `directory` apart and record its operators' inputs for `samples`.

    remedy: where it does not run on `samples`. Raises Missing without onnx, InvalidInput then and
    for a graph that is too large for one file.
    """
    onnx = _onnx()
    from edgeq.models.graphs.source import with_data
    from edgeq.models.onnx_session import save_fused

    with TemporaryFolder() as folder:
        path = Path(folder, MODEL_FILE)
        save_fused(directory / MODEL_FILE, path)
        fused = onnx.load(path, load_external_data=False)
    size = artifact.weight_bytes
    if size > _LARGEST:
        what = f"its weights take {size} bytes, and a probe holds them in one graph"
        raise InvalidInput(
            Problem(artifact.name, what, f"compare an artifact below {_LARGEST} bytes")
        )
    records = _record(fused, directory, samples, remedy)
    first = next(records)
    enough = _ENOUGH_VALUES // sum(array.size for array in first.values())
    others = list(itertools.islice(records, max(enough, 2) - 1))  # one shows which shapes vary
    varying = {
        name
        for name, seen in first.items()
        if not seen.size or any(each[name].shape != seen.shape for each in others)
    }
    with_data(fused, directory / MODEL_FILE)
    model, operators = _take_apart(fused, first, varying)
    _refuse_too_many(artifact, model)
    names = {f"in.{name}": name for name in first}
    feeds = tuple(
        {value.name: _bounded(record[names[value.name]]) for value in model.graph.input}
        for record in (first, *others)[: max(enough, 1)]
    )
    return Probe(artifact, model, operators, feeds)


def _refuse_too_many(artifact: Artifact, model: Any) -> None:
    """Raise InvalidInput for a probe whose inputs and outputs are too large to be compared."""
    values = [*_values(model.graph.input), *_values(model.graph.output)]
    count = sum(math.prod(map(int, value.shape)) for value in values)
    if count > _MOST_VALUES:
        what = f"its operators take and give {count:,} values, and at most {_MOST_VALUES:,} are"
        remedy = "compare whole answers: edgeq check RECIPE --on the device"
        raise InvalidInput(Problem(artifact.name, f"{what} compared", remedy))


def _bounded(array: Array) -> Array:
    """`array` with large numbers for infinities, as masks have: data sets hold finite numbers."""
    if not _is_float(array):
        return array
    largest = np.finfo(array.dtype).max / 2  # so that a nudge and a sum stay finite
    return np.clip(array, -largest, largest)


def _record(fused: Any, directory: Path, samples: Sequence[Feed], remedy: str) -> Iterator[Feed]:
    """Every input and output of an operator, for each sample."""
    from edgeq.models.onnx_session import open_graph, reason

    onnx = _onnx()
    exposed = onnx.ModelProto()
    exposed.CopyFrom(fused)
    known = {value.name for value in exposed.graph.output}
    made = [name for node in exposed.graph.node for name in node.output if name]
    exposed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in made if name not in known
    )
    # Fusing an already fused graph can give a constant the name of another.
    graph = exposed.SerializeToString()
    session = open_graph(graph, directory, threads=1, optimized=True)
    names = [value.name for value in session.get_outputs()]
    for sample in samples:
        try:
            made_here = session.run(names, sample)
        except Exception as error:  # onnxruntime's exceptions share no base class
            source = "made-up inputs" if remedy else "a sample"
            what = f"fails on {source}: {reason(error)}"
            raise InvalidInput(Problem(str(directory), what, remedy)) from error
        yield {**sample, **dict(zip(names, made_here, strict=True))}


def _take_apart(fused: Any, record: Feed, varying: Set[str]) -> tuple[Any, tuple[Operator, ...]]:
    """A graph of the same operators, none of which feeds another.

    Without operators on values of `varying` shapes or on none, such as the boxes found or an
    expert's tokens: they are no arrays of a data set. Of operators without weights and codes, such
    as a layer's softmax, one of each kind: what is quantized can saturate in one layer alone, these
    cannot.
    """
    onnx = _onnx()
    graph = fused.graph
    constants = {constant.name: constant for constant in graph.initializer}
    own_codes = _OwnCodes(graph.initializer)
    nodes, operators = [], []
    inputs: dict[str, Any] = {}
    outputs: list[Any] = []
    kinds: set[tuple[Any, ...]] = set()
    for index, node in enumerate(graph.node):
        fed = [name for name in node.input if name and name not in constants]
        # Operators that hold graphs use values by name; operators on constants only need no test.
        if not fed or any(attribute.HasField("g") for attribute in node.attribute):
            continue
        if varying & {*fed, *node.output}:
            continue
        kind = _kind(node, record, constants)
        if kind in kinds:
            continue
        if kind is not None:
            kinds.add(kind)
        alone = onnx.NodeProto()
        alone.CopyFrom(node)
        alone.name = node.name or f"node {index}"
        for position, name in enumerate(node.input):
            if name in record and name not in constants:
                alone.input[position] = f"in.{name}"
                inputs.setdefault(name, _declare(f"in.{name}", record[name]))
        own_codes.give(alone, index)
        own = []
        for position, name in enumerate(node.output):
            if name:
                alone.output[position] = f"out.{name}"
                own.append(len(outputs))
                outputs.append(_declare(f"out.{name}", record[name]))
        nodes.append(alone)
        operators.append(Operator(alone.name, node.op_type, tuple(own), tuple(fed)))
    probe = onnx.helper.make_graph(
        nodes, "probe", list(inputs.values()), outputs, own_codes.constants
    )
    model = onnx.helper.make_model(probe, opset_imports=fused.opset_import)
    model.ir_version = fused.ir_version
    return model, tuple(operators)


def _kind(node: Any, record: Feed, constants: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What the kernel of an operator is chosen by; None for one with weights or codes."""
    stated = [constants[name] for name in node.input if name in constants]
    values = [record[name] for name in (*node.input, *node.output) if name in record]
    shapes = _onnx().TensorProto.INT64  # or axes, or indices
    if any(each.data_type != shapes for each in stated) or any(v.itemsize == 1 for v in values):
        return None
    settings = sorted(attribute.SerializeToString() for attribute in node.attribute)
    return (
        *(node.domain, node.op_type, *settings),
        *(_onnx().numpy_helper.to_array(each).tobytes() for each in stated),
        *((value.dtype, value.shape) for value in values),
    )


def _is_float(array: Array) -> bool:
    return np.issubdtype(array.dtype, np.floating)


class _OwnCodes:
    """Gives every operator its own int8 constants, as before fusion.

    Fusion shares one zero point among all operators whose weights have none. When onnxruntime turns
    int8 constants into uint8 (`session.x64quantprecision`), it adds one under a name derived from
    the old one's, once per operator, and rejects the second.
    """

    def __init__(self, constants: Any) -> None:
        int8 = _onnx().TensorProto.INT8
        self.constants = list(constants)
        self._codes = {each.name: each for each in constants if each.data_type == int8}
        self._taken: set[str] = set()

    def give(self, node: Any, index: int) -> None:
        """Give `node`, the graph's `index`-th, copies of constants that another one uses."""
        for position, name in enumerate(node.input):
            if name in self._taken:
                copy = _onnx().TensorProto()
                copy.CopyFrom(self._codes[name])
                copy.name = node.input[position] = f"{name} {index} {position}"
                self.constants.append(copy)
            elif name in self._codes:
                self._taken.add(name)


def _declare(name: str, array: Array) -> Any:
    helper = _onnx().helper
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, code, array.shape)


def _values(declared: Any) -> Iterator[ValueInfo]:
    helper = _onnx().helper
    for value in declared:
        kind = value.type.tensor_type
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
        shape = tuple(size.dim_value for size in kind.shape.dim)
        yield ValueInfo(name=value.name, dtype=dtype, shape=shape)


def _exact(model: Any) -> Any:
    """`model` with operators that round their inputs set to compute in float32."""
    exact = _onnx().ModelProto()
    exact.CopyFrom(model)
    for node in exact.graph.node:
        for attribute in node.attribute:
            if attribute.name == _ROUNDS_INPUTS:
                attribute.i = 0
    return exact


def _nudge(array: Array, rng: np.random.Generator) -> Array:
    if not _is_float(array):
        return array
    moved = array * (1 + NUDGE * rng.standard_normal(array.shape))
    return np.asarray(moved, array.dtype)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise missing_extra("onnx", "language", "take a model apart") from None
    return onnx
