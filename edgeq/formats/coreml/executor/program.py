"""An ML Program as plain records: functions, blocks, operators and the sources of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor.constants import PREFIX
from edgeq.formats.coreml.executor.types import ValueType
from edgeq.formats.coreml.executor.values import Decoded, Decoder


@dataclass(frozen=True, eq=False)
class Literal:
    """A value in the program or in its weight file; `read` loads it anew each time."""

    type: ValueType
    read: Callable[[], Decoded] = field(repr=False)


@dataclass(frozen=True)
class Named:
    """An input or output: its name and its declared type."""

    name: str
    type: ValueType


@dataclass(frozen=True, eq=False)
class Operation:
    """One operator. Each parameter is bound to names of values, to literals, or to both."""

    kind: str
    name: str
    inputs: dict[str, tuple[str | Literal, ...]]
    outputs: tuple[Named, ...]
    blocks: tuple[Block, ...]

    @property
    def is_constant(self) -> bool:
        """Whether the output can be computed before any input is known."""
        return self.kind == "const" or self.kind.startswith(PREFIX)

    def names(self) -> Iterator[str]:
        """Names of all values it reads, including those of nested blocks."""
        for bindings in self.inputs.values():
            yield from (binding for binding in bindings if isinstance(binding, str))
        for block in self.blocks:
            yield from block.outputs
            for operation in block.operations:
                yield from operation.names()

    def __str__(self) -> str:
        outputs = ", ".join(output.name for output in self.outputs) or "none"
        return f"operator {self.kind} named {self.name!r} (output: {outputs})"


@dataclass(frozen=True, eq=False)
class Block:
    """Operators in the order of execution, and the names of the values that the block returns."""

    inputs: tuple[Named, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True, eq=False)
class Function:
    """An entry point. States are among its inputs."""

    name: str
    inputs: tuple[Named, ...]
    block: Block


def read_functions(program: Any, decoder: Decoder, where: str) -> dict[str, Function]:
    """The functions of a `Program` message by name. InvalidInput if one has no block to run."""
    functions = {}
    for name, message in program.functions.items():
        if message.opset not in message.block_specializations:
            what = f"function {name!r} has no block for its operator set {message.opset!r}"
            raise InvalidInput(Problem(where, what, "export the package again"))
        block = _block(message.block_specializations[message.opset], decoder)
        functions[name] = Function(name, _named(message.inputs, decoder), block)
    return functions


def _block(message: Any, decoder: Decoder) -> Block:
    operations = tuple(_operation(operation, decoder) for operation in message.operations)
    return Block(_named(message.inputs, decoder), tuple(message.outputs), operations)


def _named(messages: Any, decoder: Decoder) -> tuple[Named, ...]:
    return tuple(Named(message.name, decoder.type_of(message.type)) for message in messages)


def _operation(message: Any, decoder: Decoder) -> Operation:
    inputs = {
        parameter: tuple(_binding(binding, decoder) for binding in argument.arguments)
        for parameter, argument in message.inputs.items()
        if argument.arguments
    }
    attributes = {name: _literal(value, decoder) for name, value in message.attributes.items()}
    label = attributes.pop("name", None)
    if message.type == "const" or message.type.startswith(PREFIX):
        # Up to iOS 17 a constant's parameters are attributes; later they are inputs.
        inputs |= {name: (literal,) for name, literal in attributes.items()}
    outputs = _named(message.outputs, decoder)
    return Operation(
        kind=message.type,
        name=str(label.read()) if label else ", ".join(output.name for output in outputs),
        inputs=inputs,
        outputs=outputs,
        blocks=tuple(_block(block, decoder) for block in message.blocks),
    )


def _binding(message: Any, decoder: Decoder) -> str | Literal:
    if message.WhichOneof("binding") == "name":
        return str(message.name)
    return _literal(message.value, decoder)


def _literal(message: Any, decoder: Decoder) -> Literal:
    return Literal(decoder.type_of(message.type), lambda: decoder.value(message))
