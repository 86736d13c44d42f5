"""A Core AI program under construction; see `edgeq.formats.apple.writer.Writer`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import replacing
from edgeq.formats.apple.constants import Array, Place, Weight, narrow, whole
from edgeq.formats.apple.writer import Compute, Input
from edgeq.formats.coreai.coreai import load_authoring
from edgeq.formats.coreai.counted import (
    Counted,
    counted,
    places_of,
    require_rows_apart,
    without_filler,
)
from edgeq.formats.coreai.free import Free
from edgeq.formats.coreai.operators import LOWERED
from edgeq.formats.coreai.operators.elementwise import truncated
from edgeq.formats.coreai.write_constants import Constants

FUNCTION = "main"
"""The one function of a program."""
_DTYPES = {"f16": "fp16", "f32": "fp32", "i1": "bool", "si32": "int32", "ui32": "uint32"}
_NUMPY = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}


@dataclass(frozen=True)
class Variable:
    """A value of a program: its name, its value in Apple's package, sizes and type."""

    name: str
    value: Any
    shape: tuple[int | Free, ...]
    dtype: str


class ProgramWriter:
    """Adds operator after operator to the one function of a program."""

    title = "Core AI"

    def __init__(self, inputs: Sequence[Input], compute: Compute = "float16") -> None:
        """inputs: a size of which an input has several values is free."""
        self._authoring = load_authoring()
        self._precision = "fp16" if compute == "float16" else "fp32"
        self._inputs = tuple(inputs)
        # Else a file names a line of edgeq's sources, and equal models differ.
        self._nowhere = self._authoring.DebugInfo.unknown()
        with self._authoring.Context(), self._nowhere.activate():
            self._module = self._authoring.Module.create()
        self._updates: dict[str, Any] = {}
        self._contexts: list[Any] = []
        self._casts: dict[tuple[int, str], tuple[Variable, Variable]] = {}
        self.constants = Constants()
        self.inputs: Mapping[str, Variable] = {}

    def __enter__(self) -> ProgramWriter:
        from coreai.authoring.graph_builder import GraphOp

        self._enter(self._module)
        self._enter(self._nowhere.activate())
        types = [self._type(value)._to_mlir() for value in self._inputs]
        names = [value.name for value in self._inputs]
        self._graph = GraphOp(FUNCTION, types, [], input_names=names)
        self._enter(self._graph.block)
        wrap = self._authoring.Value._from_mlir
        self.inputs = {
            name: self._variable(name, wrap(argument))
            for name, argument in zip(names, self._graph.arguments, strict=True)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._contexts:
            context = self._contexts.pop()
            try:
                context.__exit__(kind, error, trace)
            except RuntimeError as found:
                if error is None:
                    raise _refused(found) from found

    def emit(self, kind: str, name: str, **values: Any) -> Any:
        """See `Writer.emit`."""
        return self._add(kind, name, self._precision, values)

    def in_float16(self, kind: str, name: str, **values: Any) -> Any:
        """See `Writer.in_float16`."""
        return self._add(kind, name, "fp16", values)

    def in_float32(self, kind: str, name: str, **values: Any) -> Any:
        """See `Writer.in_float32`."""
        return self._add(kind, name, "fp32", values)

    def linear(self, name: str, x: Any, weight: Weight, bias: Array | None = None) -> Any:
        """See `Writer.linear`."""
        product = self.emit("matmul", name, x=x, y=weight, transpose_y=True)
        return product if bias is None else self.emit("add", f"{name}.bias", x=product, y=bias)

    def coded(self, x: Any, weight: Weight) -> Any:
        """`x`: inputs of products are float here."""
        return x

    def precision(self, name: str) -> str:
        """See `Writer.precision`."""
        return self._precision

    def cast(self, value: Any, dtype: str) -> Any:
        """See `Writer.cast`; the same cast is made once."""
        if value.dtype == dtype:
            return value
        key = (id(value), dtype)
        if key not in self._casts:
            is_cut = dtype == "int32" and value.dtype in ("fp16", "fp32")
            whole = truncated(self._authoring, value.value) if is_cut else value.value
            made = self._authoring.cast(whole, _NUMPY[dtype])
            # With the value itself: the identity of one that is gone may be another's.
            name = f"{value.name}_to_{dtype}"
            self._casts[key] = (value, Variable(name, made, value.shape, dtype))
        return self._casts[key][1]

    def dtype(self, value: Any) -> str:
        """See `Writer.dtype`."""
        return str(value.dtype)

    def _update(self, state: Variable, value: Variable) -> Variable:
        """Keep a value for the next call."""
        self._updates[state.name] = value.value
        return value

    def finish(self, outputs: Mapping[str, Variable]) -> None:
        """End the function; its outputs are float32 or int32 and have the given names."""
        found = []
        for name, value in outputs.items():
            wanted = "int32" if value.dtype in ("int32", "bool") else "fp32"
            whole = self.cast(value, wanted)
            filled = without_filler(self._authoring, whole.value, whole.shape)
            found.append((name, filled._to_mlir()))
        found += [(f"{name}_after", value._to_mlir()) for name, value in self._updates.items()]
        self._graph.outputs_spec = found
        if self._updates:
            self._mark_states()

    def save(self, destination: Path, metadata: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write the program as the directory `destination`, after the writer is closed.

        metadata: stored in the file for who opens it.
        """
        with replacing(destination) as partial:
            # Apple's package checks the suffix and wants to make the directory itself.
            inside = partial / "asset.aimodel"
            saved = self._authoring.AIProgram(self._module).save_asset(inside)
            saved.update_metadata(lambda found: _describe(found, metadata))
            for path in sorted(inside.iterdir()):
                path.rename(partial / path.name)
            inside.rmdir()
            _sort_keys(partial / "metadata.json")

    def _enter(self, context: Any) -> None:
        context.__enter__()
        self._contexts.append(context)

    def _mark_states(self) -> None:
        """An input is a state if an attribute names the output with its value after the call."""
        from coreai._compiler.ir import DictAttr, StringAttr

        attributes = []
        for value, own in zip(self._inputs, self._graph.arg_attrs, strict=True):
            entries = {entry.name: entry.attr for entry in own}
            if value.name in self._updates:
                after = StringAttr.get(f"{value.name}_after")
                entries["MutableBuffers.buffer_mutation"] = after
            attributes.append(DictAttr.get(entries))
        self._graph.arg_attrs = attributes

    def _type(self, value: Input) -> Any:
        dtypes = {"int32": np.int32, "float32": np.float32, "state": np.float16}
        sizes = [set(sizes) for sizes in zip(*value.shapes, strict=True)]
        shape = [each.pop() if len(each) == 1 else -1 for each in sizes]
        return self._authoring.TensorType(shape, dtypes[value.dtype])

    def _variable(self, name: str, value: Any, free: Free | None = None) -> Variable:
        """free: a size that is not known."""
        dtype = _DTYPES[str(value.type.dtype)]
        shape = tuple(size if size >= 0 else free or Free() for size in value.type.shape)
        found = Variable(name, value, shape, dtype)
        return self.cast(found, "int32") if dtype == "uint32" else found

    def _add(self, kind: str, name: str, wanted: str, values: Mapping[str, Any]) -> Any:
        if kind == "read_state":
            return values["input"]
        if kind == "coreml_update_state":
            return self._update(values["state"], self.cast(values["value"], "fp16"))
        if kind == "non_zero":
            found, is_any = places_of(self._authoring, values["x"].value)
            return self._variable(name, found, Counted(is_any))
        if kind not in LOWERED:
            raise NotImplementedError(f"Core AI has no operator {kind!r} yet")
        prepared = {
            key: self._prepare(Place(name, kind, key), value, wanted)
            for key, value in values.items()
        }
        listed = counted(values)
        if listed:
            require_rows_apart(kind, values)
        try:
            made = LOWERED[kind](self._authoring, **prepared)
        except OverflowError as error:  # what stands for a size that is not known
            raise ValueError("a size depends on the input: build for one shape") from error
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from error
        if isinstance(made, list | tuple):
            return [self._variable(f"{name}.{i}", each, listed) for i, each in enumerate(made)]
        return self._variable(name, made, listed)

    def _prepare(self, place: Place, value: Any, wanted: str) -> Any:
        """A parameter as a value or an array in the operator's type."""
        if isinstance(value, Weight):
            return self.constants.weight(value, wanted)
        if isinstance(value, Variable):
            is_float = value.dtype in ("fp16", "fp32")
            return self.cast(value, wanted).value if is_float else value.value
        if isinstance(value, list | tuple) and any(isinstance(v, Variable) for v in value):
            return [self._prepare(place, item, wanted) for item in value]
        if isinstance(value, str | bool):
            return value
        array = np.asarray(value)
        if array.dtype.kind == "f":
            return np.asarray(narrow(place, array, wanted))
        if array.dtype.kind in "iu":
            return whole(array)
        return array


def _refused(error: RuntimeError) -> InvalidInput:
    what = f"Core AI does not take the program: {str(error).splitlines()[0]}"
    return InvalidInput(Problem("coreai", what, "target another format; or report it"))


def _sort_keys(path: Path) -> None:
    """Apple's package writes them in another order each time."""
    found = json.loads(path.read_bytes())
    path.write_text(json.dumps(found, indent=2, sort_keys=True), encoding="utf-8")


def _describe(found: Any, metadata: Mapping[str, str]) -> None:
    found.creation_date = 0
    for key, value in metadata.items():
        found.set_custom(key, value)
