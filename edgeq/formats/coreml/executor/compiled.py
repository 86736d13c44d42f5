"""Operators prepared to run: functions looked up, constants decompressed, lifetimes known."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor.half import rounded
from edgeq.formats.coreml.executor.operators import MOVES, OPERATORS
from edgeq.formats.coreml.executor.program import Block, Literal, Operation
from edgeq.formats.coreml.executor.types import ValueType

CONTROL = ("read_state", "write_state", "cond", "while_loop")
"""Operators that need more than their inputs' values; the executor itself runs these."""

LISTS = ("values", "loop_vars", "ref_tensors", "begins", "ends", "end_masks", "elem_shape")
"""Parameters that take several values, even when given one."""


@dataclass(frozen=True, eq=False)
class Step:
    """One operator. `fixed` are the constant parameters, `bound` names the others.

    `release` are values that no later step reads. `function` is None for CONTROL.
    """

    operation: Operation
    function: Callable[..., Any] | None
    fixed: dict[str, Any]
    bound: dict[str, tuple[str, ...]]
    moves: bool
    blocks: tuple[Compiled, ...]
    release: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The operator's parameters; for a state its name."""
        arguments = dict(self.fixed)
        for parameter, names in self.bound.items():
            found = [values[name] for name in names]
            arguments[parameter] = found if parameter in LISTS else found[0]
        return arguments


@dataclass(frozen=True, eq=False)
class Compiled:
    """A block, ready to run."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, Any]
    steps: tuple[Step, ...]


def conform(value: Any, declared: ValueType, rounding: bool) -> Any:
    """`value` as the declared type. Floats are stored as float32, rounded to fp16 if `rounding`."""
    element = declared.element
    if element is None or element.name == "string":
        return value
    if element.name == "fp16" and rounding:
        return rounded(np.asarray(value))
    return np.asarray(value, np.float32 if element.is_float else element.storage)


def compile_block(block: Block, outer: Mapping[str, Any], rounding: bool, where: str) -> Compiled:
    """Prepare a block; `outer` are the constants around it.

    InvalidInput if an operator is unknown (all of the block's are named) or a constant is broken.
    """
    _refuse_unknown(block, where)
    constants: dict[str, Any] = {}
    known = ChainMap(constants, dict(outer))
    steps: list[Step] = []
    for operation, release in zip(block.operations, _releases(block), strict=True):
        if operation.is_constant:
            constants |= _constant(operation, known, rounding, where)
        else:
            steps.append(_step(operation, known, constants, rounding, where, release))
    names = tuple(named.name for named in block.inputs)
    return Compiled(names, block.outputs, constants, tuple(steps))


def _refuse_unknown(block: Block, where: str) -> None:
    unknown: dict[str, Operation] = {}
    for operation in block.operations:
        if operation.kind not in OPERATORS and operation.kind not in (*CONTROL, "const"):
            unknown.setdefault(operation.kind, operation)
    if unknown:
        raise InvalidInput(
            [
                Problem(
                    where,
                    f"{operation} is not known to the executor",
                    "see edgeq/formats/coreml/executor/operators",
                )
                for operation in unknown.values()
            ]
        )


def _releases(block: Block) -> list[tuple[str, ...]]:
    """The values that are not read after each operator, and can be dropped then."""
    last: dict[str, int] = {}
    for index, operation in enumerate(block.operations):
        if not operation.is_constant:
            last |= {output.name: index for output in operation.outputs}
            last |= {name: index for name in operation.names() if name in last}
    release: list[list[str]] = [[] for _ in block.operations]
    for name, index in last.items():
        if name not in block.outputs:
            release[index].append(name)
    return [tuple(names) for names in release]


def _constant(
    operation: Operation, known: Mapping[str, Any], rounding: bool, where: str
) -> dict[str, Any]:
    try:
        arguments = {
            parameter: binding.read() if isinstance(binding, Literal) else known[binding]
            for parameter, (binding, *_) in operation.inputs.items()
        }
        made = (
            arguments["val"]
            if operation.kind == "const"
            else OPERATORS[operation.kind](**arguments)
        )
        results = made if isinstance(made, tuple) else (made,)
        return {
            output.name: conform(result, output.type, rounding)
            for output, result in zip(operation.outputs, results, strict=True)
        }
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        what = f"{operation} has no valid value: {type(error).__name__}: {error}"
        raise InvalidInput(Problem(where, what, "export the package again")) from error


def _step(
    operation: Operation,
    known: Mapping[str, Any],
    constants: dict[str, Any],
    rounding: bool,
    where: str,
    release: tuple[str, ...],
) -> Step:
    fixed: dict[str, Any] = {}
    bound: dict[str, tuple[str, ...]] = {}
    for parameter, bindings in operation.inputs.items():
        names = []
        for index, binding in enumerate(bindings):
            if isinstance(binding, Literal):
                # A value written in place gets a name that is not a valid identifier.
                name = f"{operation.name}.{parameter}.{index}"
                constants[name] = conform(binding.read(), binding.type, rounding)
                names.append(name)
            else:
                names.append(binding)
        if all(name in known for name in names):
            values = [known[name] for name in names]
            fixed[parameter] = values if parameter in LISTS else values[0]
        else:
            bound[parameter] = tuple(names)
    return Step(
        operation=operation,
        function=OPERATORS.get(operation.kind),
        fixed=fixed,
        bound=bound,
        moves=operation.kind in MOVES,
        blocks=tuple(compile_block(block, known, rounding, where) for block in operation.blocks),
        release=release,
    )
