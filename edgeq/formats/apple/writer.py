"""The interface that models are written through, whatever the file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edgeq.formats.apple.constants import Array, Weight

Compute = Literal["float16", "float32"]


@dataclass(frozen=True)
class Input:
    """An input of a program: int32 or float32 of one of several shapes; or a state, float16.

    pixels: for an image, the layout of its pixels in coremltools' words.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: Literal["int32", "float32", "state"]
    pixels: Any = None


class Writer(Protocol):
    """Adds operator after operator to a program.

    Operators and their parameters are those of the MIL. Variables, which operators return, have a
    `name` and a `shape`; a free size in it is no integer. title: the file format, for people.
    """

    title: str
    inputs: Mapping[str, Any]

    def emit(self, kind: str, name: str, **values: Any) -> Any:
        """Add the operator `kind` under (almost) `name`; returns its output or outputs.

        values: variables, arrays, numbers, weights, or lists of them. Floats are converted to the
        operator's type.
        """

    def in_float16(self, kind: str, name: str, **values: Any) -> Any:
        """Like `emit`, always in float16."""

    def in_float32(self, kind: str, name: str, **values: Any) -> Any:
        """Like `emit`, always in float32."""

    def linear(self, name: str, x: Any, weight: Weight, bias: Array | None = None) -> Any:
        """`x @ weight.T + bias`, with `x` as the codes of its inputs say."""

    def coded(self, x: Any, weight: Weight) -> Any:
        """The input of a weight instead of `x`: `x` itself, or the value of its codes."""

    def precision(self, name: str) -> str:
        """`fp16` or `fp32`: the type that the operator of that name computes in."""

    def cast(self, value: Any, dtype: str) -> Any:
        """`value` as `fp16`, `fp32`, `int32` or `bool`."""

    def dtype(self, value: Any) -> str:
        """`fp16`, `fp32`, `int32`, `bool` …: the type of a variable."""
