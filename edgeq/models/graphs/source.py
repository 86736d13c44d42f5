"""A user's .onnx file as it is on disk: its files, its functions, its interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnx.version_converter
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.graphs.wellformed import defects

# Raised by onnx and protobuf for files that are truncated, damaged or something else.
READ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    DecodeError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
)


def source_files(path: Path) -> tuple[Path, ...]:
    """The file and every external data file that it names, anywhere in it.

    Raises InvalidInput for one that is missing, too short or outside the model's folder.
    """
    proto = _read(path)
    return (path, *sorted({_data_file(path, tensor) for tensor in _external(proto)}))


def read_source(path: Path) -> onnx.ModelProto:
    """The model in `path` without its external data; its own functions are inlined.

    Raises InvalidInput for a file that is not ONNX, is inconsistent or misses data, or whose inputs
    and outputs are not all tensors of numbers.
    """
    proto = _read(path)
    if not proto.graph.node:
        raise unreadable(path, "it has no operators")
    for tensor in _external(proto):
        _data_file(path, tensor)
    _refuse_other_values(path, proto)
    try:
        if proto.functions:
            _state_defaults(proto)
            proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
        _densify(proto.graph)
        _open_lengths(proto.graph)
        defect = next(defects(proto), None)
    except READ_ERRORS as error:
        raise unreadable(path, error) from error
    if defect:
        raise unreadable(path, defect)
    return proto


def _state_defaults(proto: onnx.ModelProto) -> None:
    """Write the default attributes of functions into their calls: the inliner ignores them."""
    defaults = {(each.domain, each.name): each.attribute_proto for each in proto.functions}
    for nodes in (proto.graph.node, *(each.node for each in proto.functions)):
        for node in nodes_within(nodes):
            stated = {attribute.name for attribute in node.attribute}
            missing = defaults.get((node.domain, node.op_type), ())
            node.attribute.extend(each for each in missing if each.name not in stated)


def nodes_within(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs included."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from nodes_within(graph.node)


def read_whole(path: Path) -> onnx.ModelProto:
    """The model in `path` with its external data; raises InvalidInput as `source_files`."""
    return with_data(_read(path), path)


def with_data(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """`model`, once read from `path`, with its external data; raises InvalidInput."""
    for tensor in _external(model):
        take_data(tensor, path)
    return model


def take_data(tensor: onnx.TensorProto, path: Path) -> None:
    """Read a tensor of the model in `path` from its data file, if it lies in one.

    onnx refuses files that are links, which they are where a cache or an installer made them.
    Raises InvalidInput for a file that is missing, too short or outside the model's folder.
    """
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    facts = {entry.key: entry.value for entry in tensor.external_data}
    with _data_file(path, tensor).open("rb") as file:
        file.seek(int(facts.get("offset", 0)))
        tensor.raw_data = file.read(int(facts["length"]) if "length" in facts else -1)
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT


def unreadable(path: Path, reason: object) -> InvalidInput:
    """The error for an unreadable file."""
    what = f"cannot be read as an ONNX model: {first_line(reason)}"
    return InvalidInput(Problem(str(path), what, "export it again"))


def first_line(error: object) -> str:
    """The message of another library's error, without its stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400] if lines else type(error).__name__


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except READ_ERRORS as error:
        raise unreadable(path, error) from error


def _external(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor
    for function in proto.functions:
        for node in function.node:
            for tensor in _tensors_of(node):
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    yield tensor


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of(node)


def _tensors_of(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [*attribute.sparse_tensors]
        if attribute.HasField("sparse_tensor"):
            sparse.append(attribute.sparse_tensor)
        for each in sparse:
            yield from (each.values, each.indices)
        graphs = [*attribute.graphs]
        if attribute.HasField("g"):
            graphs.append(attribute.g)
        for graph in graphs:
            yield from _tensors(graph)


def _data_file(path: Path, tensor: onnx.TensorProto) -> Path:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    name = facts.get("location", "")
    place = PurePosixPath(name.replace("\\", "/"))
    if not name or place.is_absolute() or ".." in place.parts or ":" in name:
        what = f"{tensor.name!r} names external data outside the model's folder: {name!r}"
        raise InvalidInput(Problem(str(path), what, "save the model again, its data in one folder"))
    file = path.parent / place
    if not file.is_file():
        what = f"its external data file is missing: {name}"
        raise InvalidInput(Problem(str(path), what, f"copy it to {file}"))
    end = int(facts.get("offset", 0)) + int(facts.get("length", 0))
    if file.stat().st_size < end:
        what = f"{name} was cut short: {file.stat().st_size} bytes, {tensor.name!r} ends at {end}"
        raise InvalidInput(Problem(str(path), what, "copy or download it again"))
    return file


def _refuse_other_values(path: Path, proto: onnx.ModelProto) -> None:
    problems = []
    given = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in given]
    for kind, values in (("input", inputs), ("output", proto.graph.output)):
        for value in values:
            found = _other_kind(value.type)
            if found:
                what = f"the {kind} {value.name!r} is {found}, and edgeq runs tensors of numbers"
                remedy = f"export the model with a tensor as {kind}"
                problems.append(Problem(str(path), what, remedy))
            elif kind == "input" and not value.type.tensor_type.HasField("shape"):
                what = f"the input {value.name!r} states no shape, not even how many axes it has"
                remedy = "export it with a shape; a free length has a name in place of a number"
                problems.append(Problem(str(path), what, remedy))
    if problems:
        raise InvalidInput(problems)


def _other_kind(given: onnx.TypeProto) -> str:
    """The type of a value if it is not a tensor of numbers; empty for one."""
    field = given.WhichOneof("value")
    names = {
        "sequence_type": "a sequence",
        "map_type": "a map",
        "optional_type": "optional",
        "sparse_tensor_type": "a sparse tensor",
        "opaque_type": "opaque",
    }
    if field in names:
        return names[field]
    element = given.tensor_type.elem_type
    if element == onnx.TensorProto.STRING:
        return "text"
    if element in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128):
        return "complex"
    return ""


def _densify(graph: onnx.GraphProto) -> None:
    """Convert sparse constants to dense ones: later steps do not support them."""
    for sparse in graph.sparse_initializer:
        tensor = numpy_helper.from_array(_dense(sparse), sparse.values.name)
        graph.initializer.append(tensor)
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                array = _dense(attribute.sparse_tensor)
                value = onnx.helper.make_attribute("value", numpy_helper.from_array(array))
                attribute.CopyFrom(value)
            for inner in (attribute.g, *attribute.graphs):
                _densify(inner)


def _open_lengths(graph: onnx.GraphProto) -> None:
    """Leave dimensions free that an exporter wrote as -1: other readers take that for a size."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for length in value.type.tensor_type.shape.dim:
            if length.dim_value < 0:
                length.Clear()
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _open_lengths(inner)


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    values, indices = map(numpy_helper.to_array, (sparse.values, sparse.indices))
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense
