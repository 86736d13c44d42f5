"""Runs an ML Program from its saved package, on any system, in numpy.

A reference, not a runtime: it shows the results of the numbers in a package. Two ways of computing:

- `declared`: every operator computes in float32 and its result is rounded to the type that the
  program declares for it. Products accumulate in float32, as Core ML's fp16 units do at best.
- `float32`: nothing is rounded to fp16; then only the weights differ from the trained model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor.compiled import Compiled, Step, compile_block, conform
from edgeq.formats.coreml.executor.interface import Input, checked, inputs_of
from edgeq.formats.coreml.executor.package import open_package
from edgeq.formats.coreml.executor.program import Function, Operation, read_functions
from edgeq.formats.coreml.executor.types import Array, ValueType
from edgeq.formats.coreml.executor.values import Decoder

Precision = Literal["declared", "float32"]
_LONGEST_LOOP = 1 << 20


@dataclass
class State:
    """The state of a stateful function between calls: arrays by name, initially zero."""

    values: dict[str, Array]

    def copy(self) -> State:
        """A copy that later calls with this state do not change."""
        return State(dict(self.values))  # the executor replaces arrays and never writes into one


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One operator with its inputs and outputs, for a watcher. Not to be changed."""

    operation: Operation
    inputs: Mapping[str, Any]
    outputs: tuple[Any, ...]


Watcher = Callable[[Evaluated], None]


class Program:
    """A loaded package, made by `load`; weights are decompressed once, at that time."""

    def __init__(
        self, path: Path, functions: dict[str, Function], description: Any, precision: Precision
    ):
        rounding = precision == "declared"
        self.path = path
        self.precision = precision
        self.functions = functions
        self.default = description.defaultFunctionName or "main"
        self._rounding = rounding
        self._compiled = {
            name: compile_block(function.block, {}, rounding, str(path))
            for name, function in functions.items()
        }
        self._inputs = {
            name: inputs_of(function, description) for name, function in functions.items()
        }

    def inputs(self, function: str | None = None) -> dict[str, Input]:
        """The inputs of a function by name; of the default function unless one is named."""
        return self._inputs[self._named(function)]

    def outputs(self, function: str | None = None) -> tuple[str, ...]:
        """Names of a function's outputs."""
        return self.functions[self._named(function)].block.outputs

    def states(self, function: str | None = None) -> dict[str, ValueType]:
        """The states that a function reads or writes, by name."""
        inputs = self.functions[self._named(function)].inputs
        return {named.name: named.type for named in inputs if named.type.is_state}

    def constants(self, function: str | None = None) -> dict[str, Any]:
        """Every constant of a function by name, decompressed; fp16 comes as float32."""
        return dict(self._compiled[self._named(function)].constants)

    def make_state(self, function: str | None = None) -> State:
        """A fresh state, all zeros, for `predict`."""
        return State(
            {
                name: _zeros(str(self.path), name, wanted)
                for name, wanted in self.states(function).items()
            }
        )

    def predict(
        self,
        inputs: Mapping[str, npt.ArrayLike],
        state: State | None = None,
        *,
        function: str | None = None,
        watch: Watcher | None = None,
    ) -> dict[str, Any]:
        """Run a function once.

        `inputs` are arrays by name; images are (1, channels, height, width), pixels 0 to 255. They
        are converted to the declared types. `state` is changed by what the function writes. `watch`
        is called after each operator that is not constant. Returns arrays by name in their
        declared types (float32 instead of fp16 in the precision `float32`); a classifier's label is
        a str, its probabilities a dict.

        InvalidInput for inputs that are missing, unknown or of a shape that the package does not
        allow, for a stateful function without a state, and for an operator that fails.
        """
        name = self._named(function)
        arrays = checked(str(self.path), self._inputs[name], dict(inputs))
        buffers = {
            key: conform(a, self._inputs[name][key].type, self._rounding)
            for key, a in arrays.items()
        }
        values = {} if state is None else state.values
        buffers |= {key: key for key in self.states(name)}
        missing = [key for key in self.states(name) if key not in values]
        if missing:
            what = f"function {name!r} needs the states {', '.join(missing)}"
            raise InvalidInput(Problem(str(self.path), what, "pass a state made by make_state()"))
        with np.errstate(all="ignore"):
            results = _Run(str(self.path), values, self._rounding, watch).block(
                self._compiled[name], buffers
            )
        types = {o.name: o.type for op in self.functions[name].block.operations for o in op.outputs}
        return {
            key: self._returned(result, types.get(key))
            for key, result in zip(self.outputs(name), results, strict=True)
        }

    def _named(self, function: str | None) -> str:
        name = function or self.default
        if name not in self.functions:
            remedy = f"its functions: {', '.join(self.functions)}"
            raise InvalidInput(Problem(str(self.path), f"has no function {name!r}", remedy))
        return name

    def _returned(self, value: Any, declared: ValueType | None) -> Any:
        if declared and declared.element and declared.element.name == "fp16" and self._rounding:
            return value.astype(np.float16)
        return value


def load(path: str | Path, precision: Precision = "declared") -> Program:
    """Open a saved .mlpackage and prepare it to run.

    InvalidInput if it is not a package, a constant cannot be read, or it holds an operator that
    is not known here; Missing without coremltools.

    >>> program = load("minilm.mlpackage")  # doctest: +SKIP
    >>> program.predict({"input_ids": ids, "attention_mask": mask})["embedding"]  # doctest: +SKIP
    """
    package = open_package(Path(path))
    decoder = Decoder(str(path), package.weights)
    functions = read_functions(package.specification.mlProgram, decoder, str(path))
    return Program(Path(path), functions, package.description, precision)


class _Run:
    """One call of a function: the states it uses and the watcher."""

    def __init__(self, where: str, states: dict[str, Array], rounding: bool, watch: Watcher | None):
        self._where = where
        self._states = states
        self._rounding = rounding
        self._watch = watch

    def block(self, block: Compiled, outer: Mapping[str, Any]) -> list[Any]:
        """The values that the block returns; `outer` are the values visible from around it."""
        values = {**outer, **block.constants}
        for step in block.steps:
            results = self._step(step, values)
            outputs = step.operation.outputs
            values.update({o.name: r for o, r in zip(outputs, results, strict=True)})
            for name in step.release:
                del values[name]
        missing = [name for name in block.outputs if name not in values]
        if missing:
            what = f"a block returns {', '.join(missing)}, which no operator makes"
            raise InvalidInput(Problem(self._where, what, "export the package again"))
        return [values[name] for name in block.outputs]

    def _step(self, step: Step, values: Mapping[str, Any]) -> tuple[Any, ...]:
        operation = step.operation
        try:
            arguments = step.arguments(values)
            results = self._results(step, arguments, values)
            if len(results) != len(operation.outputs):
                raise ValueError(f"it has {len(results)} results")
            if not step.moves:
                pairs = zip(results, operation.outputs, strict=True)
                results = tuple(conform(r, output.type, self._rounding) for r, output in pairs)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"{operation} failed: {type(error).__name__}: {error}"
            raise InvalidInput(Problem(self._where, what)) from error
        if self._watch is not None:
            self._watch(Evaluated(operation, arguments, results))
        return results

    def _results(
        self, step: Step, arguments: dict[str, Any], values: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        kind = step.operation.kind
        if step.function is not None:
            result = step.function(**arguments)
            return result if isinstance(result, tuple) else (result,)
        if kind == "read_state":
            return (self._states[arguments["input"]],)
        if kind == "write_state":
            self._states[arguments["input"]] = arguments["data"]
            return ()
        if kind == "cond":
            return tuple(self.block(step.blocks[0 if arguments["pred"] else 1], values))
        return self._loop(step, arguments["loop_vars"], values)

    def _loop(self, step: Step, variables: Any, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """`while_loop`: the second block updates the variables as long as the first one returns
        true.
        """
        test, body = step.blocks
        current = list(variables)
        for _ in range(_LONGEST_LOOP):
            if not self.block(test, {**values, **dict(zip(test.inputs, current, strict=True))})[0]:
                return tuple(current)
            current = self.block(body, {**values, **dict(zip(body.inputs, current, strict=True))})
        raise ValueError(f"the loop has not ended after {_LONGEST_LOOP} rounds")


def _zeros(where: str, name: str, wanted: ValueType) -> Array:
    if wanted.element is None or None in wanted.shape:
        raise InvalidInput(Problem(where, f"the state {name!r} has the open type {wanted}"))
    shape = tuple(n for n in wanted.shape if n is not None)
    zeros: Array = conform(np.zeros(shape), ValueType(wanted.element, shape), False)
    return zeros
