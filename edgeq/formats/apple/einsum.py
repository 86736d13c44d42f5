"""Einsum as transpositions and one product of matrices."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from edgeq.formats.apple.graph import Translator, Value, handles


@handles("Einsum")
def _einsum(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    equation = str(node.attributes["equation"].as_string()).replace(" ", "")
    terms, _, result = equation.partition("->")
    inputs = terms.split(",")
    if "->" not in equation or "." in equation or len(inputs) > 2:
        raise ValueError(f"of {equation!r} edgeq knows no product")
    if any(len(set(term)) != len(term) for term in (*inputs, result)):
        raise ValueError(f"{equation!r} takes a diagonal")
    name = str(node.name)
    others = [set(result).union(*(inputs[:n] + inputs[n + 1 :])) for n in range(len(inputs))]
    parts = [
        _summed(t, f"{name}.{n}", value, term, needed)
        for n, (value, term, needed) in enumerate(zip(args, inputs, others, strict=True))
    ]
    if len(parts) == 1:
        ((value, term),) = parts
        return _ordered(t, name, value, term, result)
    return _product(t, name, parts, result)


def _summed(t: Translator, name: str, value: Value, term: str, needed: set[str]) -> tuple[Any, str]:
    """Without the axes that nothing else reads."""
    axes = [n for n, letter in enumerate(term) if letter not in needed]
    if axes:
        value = t.emit("reduce_sum", f"{name}.sum", x=value, axes=axes, keep_dims=False)
    return value, "".join(letter for letter in term if letter in needed)


def _product(t: Translator, name: str, parts: list[tuple[Any, str]], result: str) -> Any:
    """Both operands as (common, own, summed) axes, each kind in one axis, and back."""
    (x, left), (y, right) = parts
    sizes = dict(zip(left, t.shape(x), strict=True)) | dict(zip(right, t.shape(y), strict=True))
    both = [letter for letter in left if letter in right]
    common = "".join(letter for letter in both if letter in result)
    summed = "".join(letter for letter in both if letter not in result)
    rows = "".join(letter for letter in left if letter not in right)
    columns = "".join(letter for letter in right if letter not in left)
    x = _flat(t, f"{name}.x", x, left, (common, rows, summed), sizes)
    y = _flat(t, f"{name}.y", y, right, (common, columns, summed), sizes)
    product = t.emit("matmul", f"{name}.product", x=x, y=y, transpose_y=True)
    letters = common + rows + columns
    shape = [int(sizes[letter]) for letter in letters]
    whole = t.emit("reshape", f"{name}.whole", x=product, shape=shape)
    return _ordered(t, name, whole, letters, result)


def _flat(
    t: Translator,
    name: str,
    value: Value,
    term: str,
    kinds: tuple[str, ...],
    sizes: dict[str, Any],
) -> Any:
    value = _ordered(t, f"{name}.order", value, term, "".join(kinds))
    shape = [math.prod(int(sizes[letter]) for letter in kind) for kind in kinds]
    return t.emit("reshape", f"{name}.flat", x=value, shape=shape)


def _ordered(t: Translator, name: str, value: Value, term: str, wanted: str) -> Any:
    if term == wanted:
        return value
    return t.emit("transpose", name, x=value, perm=[term.index(letter) for letter in wanted])
