"""A Core ML program under construction: operators in float16 unless float32 is requested.

Names of operators are used by rules and by the scan for infinities. They consist of letters, digits
and underscores, as the format requires; see `identifier`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.constants import Array, Place, Weight, identifier
from edgeq.formats.apple.writer import Compute, Input
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.deployment_targets import IOS17, Target
from edgeq.formats.coreml.write_activations import InputCoder
from edgeq.formats.coreml.write_constants import Constants

_MOST_AXES = 5
_SINCE = {"non_maximum_suppression": IOS17}  # as it is written here


class ProgramWriter:
    """Adds operator after operator to the one function of a program.

    An operator computes in float32 if its name matches one of the patterns `float32`, as is or as
    written by `identifier`, else in `compute`. Its inputs are cast to that if necessary. See
    `edgeq.formats.apple.writer.Writer`.
    """

    title = "Core ML"

    def __init__(
        self,
        inputs: Sequence[Input],
        target: Target,
        compute: Compute = "float16",
        float32: Sequence[str] = (),
    ) -> None:
        self._tools = load_coremltools()
        from coremltools.converters.mil import Builder, mil

        self.target = target
        self.constants = Constants(target, self._free)
        self.matched: set[str] = set()
        self._coder = InputCoder(self)
        self._mb, self._mil, self._types = Builder, mil, mil.types
        self._compute, self._float32 = compute, tuple(float32)
        self._names: dict[str, int] = {}
        self._casts: dict[tuple[str, str], Any] = {}
        self._inputs = tuple(inputs)
        self._function = mil.Function(
            self._placeholders(), getattr(self._tools.target, target.name)
        )
        self.inputs: Mapping[str, Any] = self._function.inputs

    def __enter__(self) -> ProgramWriter:
        self._function.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._function.__exit__(kind, error, trace)

    def emit(self, kind: str, name: str, **values: Any) -> Any:
        """Add the operator `kind` of the MIL under (almost) `name`; returns its output or outputs.

        values: variables, arrays, numbers, weights, or lists of them. Floats are converted to the
        operator's type.
        """
        return self._add(kind, name, self.precision(name), values)

    def in_float16(self, kind: str, name: str, **values: Any) -> Any:
        """Like `emit`, always in float16: states support nothing else."""
        return self._add(kind, name, "fp16", values)

    def in_float32(self, kind: str, name: str, **values: Any) -> Any:
        """Like `emit`, always in float32."""
        return self._add(kind, name, "fp32", values)

    def linear(self, name: str, x: Any, weight: Weight, bias: Array | None = None) -> Any:
        """`x @ weight.T + bias`; without a bias the operator requires zeros, which are shared.

        If the weight says how, its input is coded first.
        """
        if bias is None:
            zeros = np.zeros(weight.shape[0], np.float16)
            shift = Weight(f"zeros.{len(zeros)}", zeros.shape, lambda: zeros)
        else:
            shift = Weight(f"{name}.bias", bias.shape, lambda: bias)
        product = self.emit("linear", name, x=self.coded(x, weight), weight=weight, bias=shift)
        if weight.outlier_weights is None:
            return product
        return self._coder.add_outliers(name, x, weight, product)

    def coded(self, x: Any, weight: Weight) -> Any:
        """The input of a weight instead of `x`: `x` itself, or the value of its codes."""
        return x if weight.inputs is None else self._coder.coded(x, weight.inputs)

    def precision(self, name: str) -> str:
        """`fp16` or `fp32`: the type that the operator of that name computes in."""
        for pattern in self._float32:
            if any(fnmatch.fnmatchcase(n, pattern) for n in (name, identifier(name))):
                self.matched.add(pattern)
                return "fp32"
        return "fp32" if self._compute == "float32" else "fp16"

    def cast(self, value: Any, dtype: str) -> Any:
        """`value` as `fp16`, `fp32`, `int32` or `bool`; the same cast is made once."""
        if self.dtype(value) == dtype:
            return value
        key = (value.name, dtype)
        if key not in self._casts:
            name = self._free(f"{value.name}_to_{dtype}")
            word = self.constants.shared(dtype, dtype)
            self._casts[key] = self._mb.cast(x=value, dtype=word, name=name)
        return self._casts[key]

    def dtype(self, value: Any) -> str:
        """`fp16`, `fp32`, `int32`, `bool` …: the type of a variable."""
        return str(self._types.builtin_to_string(value.dtype))

    def classify(self, shares: Any, labels: list[str], names: tuple[str, str]) -> list[Any]:
        """Add a classifier's last operator; returns the label and the probabilities by label."""
        classes = self._mb.const(val=self._mil.mil_list(labels), name=self._free("labels"))
        made = list(self._mb.classify(probabilities=shares, classes=classes))
        for variable, name in zip(made, names, strict=True):
            variable.name = self._free(name)
        return made

    def finish(
        self, outputs: Mapping[str, Any], last: Callable[[], list[Any]] | None = None
    ) -> Any:
        """The program; its outputs are float32 (or int32) and have the given names.

        last: adds the required last operator, and returns more outputs unchanged.
        """
        named = []
        for name, value in outputs.items():
            if name in self.inputs:
                what = "Core ML has no output of the same name as an input"
                raise InvalidInput(Problem(name, what, "export it under another name"))
            wanted = "int32" if self.dtype(value) in ("int32", "bool") else "fp32"
            kind, more = "identity", {}
            if self.dtype(value) != wanted:
                kind, more = "cast", {"dtype": self.constants.shared(wanted, wanted)}
            named.append(getattr(self._mb, kind)(x=value, name=self._free(name), **more))
        self._function.set_outputs(named + (last() if last else []))
        self._function.set_input_types(self._input_types())
        program = self._mil.Program()
        program.add_function("main", self._function)
        from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

        for name in ("dead_code_elimination", "expand_high_rank_reshape_and_transpose"):
            PASS_REGISTRY[f"common::{name}"](program)
        self._require_few_axes()
        self._shorten()
        return program

    def _require_few_axes(self) -> None:
        """Raise InvalidInput for values of more axes than Core ML opens; tables may have more."""
        for operation in self._function.operations:
            if operation.op_type.startswith("const"):
                continue
            tensors = [v for v in operation.outputs if not self._types.is_list(v.sym_type)]
            most = max((value.rank for value in tensors), default=0)
            if most > _MOST_AXES:
                what = f"it makes a value of {most} axes, and Core ML opens at most {_MOST_AXES}"
                raise InvalidInput(Problem(operation.name, what, "target another format"))

    def _shorten(self) -> None:
        """Give values between operators short names; operators' own names are descriptive enough.

        Each name is in the file where the value is made and wherever it is used. Constants keep
        theirs, which identify their codes.
        """
        kept = {value.name for value in self._function.outputs}
        for operation in self._function.operations:
            if operation.op_type == "const" or operation.op_type.startswith("constexpr_"):
                continue
            for value in operation.outputs:
                if value.name not in kept:
                    value.name = self._free("v")

    def _add(self, kind: str, name: str, wanted: str, values: Mapping[str, Any]) -> Any:
        if self.target < _SINCE.get(kind, self.target):
            since = _SINCE[kind].name
            raise ValueError(f"it needs {since}: write coreml: {{deployment_target: {since}}}")
        prepared = {
            key: self._prepare(Place(name, kind, key), value, wanted)
            for key, value in values.items()
        }
        made = getattr(self._mb, kind)(name=self._free(identifier(name)), **prepared)
        operation = (made[0] if isinstance(made, list | tuple) else made).op
        # The builder has filled in omitted inputs, under names that count up indefinitely.
        filled = {key: var for key, var in operation.inputs.items() if key not in values}
        if filled:
            shared = {key: self._default(var, operation) for key, var in filled.items()}
            operation.set_inputs(type_inference=False, **shared)
        return made

    def _default(self, var: Any, operation: Any) -> Any:
        if isinstance(var.val, str):
            return self.constants.shared(var.val, var.val, before=operation)
        return self.constants.shared(np.asarray(var.val), before=operation)

    def _prepare(self, place: Place, value: Any, wanted: str) -> Any:
        if isinstance(value, Weight):
            return self.constants.weight(value, wanted)
        if isinstance(value, self._mil.Var):
            if self._types.is_state(value.sym_type) or self.dtype(value) not in ("fp16", "fp32"):
                return value
            return self.cast(value, wanted)
        if isinstance(value, list | tuple) and any(isinstance(v, self._mil.Var) for v in value):
            return [self._prepare(place, item, wanted) for item in value]
        return self.constants.number(place, value, wanted)

    def _free(self, name: str) -> str:
        count = self._names.get(name, -1) + 1
        self._names[name] = count
        if not count and name not in self.inputs:
            return name
        return self._free(f"{name}_{count}")

    def _placeholders(self) -> dict[str, Any]:
        from coremltools.converters.mil.mil import get_new_symbol

        symbols: dict[tuple[int, ...], Any] = {}
        made = {}
        for value in self._inputs:
            if value.dtype == "state":
                made[value.name] = self._mb.StateTensorSpec(value.shapes[0], self._types.fp16)
                continue
            if () in value.shapes:
                what = "Core ML has no inputs without axes"
                raise InvalidInput(Problem(value.name, what, "export it with the shape [1]"))
            shape = []
            for sizes in zip(*value.shapes, strict=True):
                if len(set(sizes)) == 1:
                    shape.append(sizes[0])
                else:  # inputs with the same list of lengths have the same length
                    shape.append(symbols.setdefault(sizes, get_new_symbol()))
            dtype = self._types.int32 if value.dtype == "int32" else self._types.fp32
            made[value.name] = self._mb.TensorSpec(tuple(shape), dtype)
        return made

    def _input_types(self) -> tuple[Any, ...]:
        found: list[Any] = []
        for value in self._inputs:
            if value.dtype == "state":
                wrapped = self._tools.TensorType(shape=value.shapes[0], dtype=np.float16)
                found.append(self._tools.StateType(wrapped_type=wrapped, name=value.name))
                continue
            several = len(value.shapes) > 1
            shape = (
                self._tools.EnumeratedShapes(shapes=value.shapes, default=value.shapes[0])
                if several
                else value.shapes[0]
            )
            if value.pixels is not None:
                layout = {"color_layout": value.pixels, "channel_first": True}
                found.append(self._tools.ImageType(name=value.name, shape=shape, **layout))
                continue
            dtype = np.int32 if value.dtype == "int32" else np.float32
            found.append(self._tools.TensorType(name=value.name, shape=shape, dtype=dtype))
        return tuple(found)
