"""Recurrent ONNX operators, written out step by step.

Apple's own operators for them differ in their gates, and Core AI has none. A streaming model has
one step in each call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.formats.apple.constants import Array, Weight
from edgeq.formats.apple.graph import Translator, Value, handles

_MOST_STEPS = 512
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Gates of each operator: its weights have as many times the rows of a state."""
_STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}

Step = Callable[[str, Any, list[Any]], list[Any]]
"""Name, the input's part of all gates and the states before, to the states after."""


@handles(*GATES)
def _recurrent(t: Translator, node: ir.Node, args: list[Value]) -> Any:
    """Outputs: of all steps (steps, directions, batch, hidden), then the last states."""
    kind, name = node.op_type, str(node.name)
    x, weights, inner, bias, lengths, *given = [*args, *[None] * 8][:8]
    steps, batch, _ = (int(size) for size in t.shape(x))
    _check(t, node, steps, lengths, peepholes=given[2] if kind == "LSTM" else None)
    directions, gate_rows, _ = t.shape(weights)
    biases = t.array(bias) if bias is not None else np.zeros((directions, 2 * gate_rows))
    hidden = t.shape(inner)[-1]
    rows: list[list[Any]] = []
    last: list[list[Any]] = []
    for direction in range(directions):
        stem = f"{name}.{direction}"
        states = [
            _initial(t, f"{stem}.{n}", each, direction, (batch, hidden))
            for n, each in enumerate(given[: _STATES[kind]])
        ]
        parts = (
            _gates_of(t, weights, direction, f"{stem}.W"),
            _gates_of(t, inner, direction, f"{stem}.R"),
            biases[direction].astype(np.float32),
        )
        step, gates = _step(t, node, stem, x, parts)
        backwards = direction == 1 or node.attributes.get_string("direction", "") == "reverse"
        order = range(steps)[::-1] if backwards else range(steps)
        found: dict[int, Any] = {}
        for place in order:
            gate = t.emit("squeeze", f"{stem}.{place}.input", x=gates[place], axes=[0])
            states = step(f"{stem}.{place}", gate, states)
            found[place] = states[0]
        rows.append([found[place] for place in range(steps)])
        last.append(states)
    outputs = [
        _joined(t, f"{name}.all", [_joined(t, f"{name}.at", at) for at in zip(*rows, strict=True)])
    ]
    for n, each in enumerate(zip(*last, strict=True)):
        outputs.append(_joined(t, f"{name}.last{n}", each))
    return outputs


def _check(t: Translator, node: ir.Node, steps: int, lengths: Value, peepholes: Value) -> None:
    attributes = node.attributes
    directions = 2 if attributes.get_string("direction", "forward") == "bidirectional" else 1
    usual = _ACTIVATIONS[node.op_type] * directions
    chosen = list(attributes.get_strings("activations", usual) or usual)
    if node.op_type == "RNN" and set(chosen) == {"Relu"}:
        chosen = usual
    if chosen != usual:
        raise ValueError(f"its activations are {', '.join(chosen)}")
    for attribute in ("clip", "input_forget", "layout"):
        found = attributes.get(attribute)
        if found is not None and found.value:
            raise ValueError(f"it has {attribute}")
    if peepholes is not None:
        raise ValueError("it has peepholes")
    if lengths is not None:
        known = t.known(lengths)
        if known is None or (known != steps).any():
            raise ValueError("its sequences differ in length")
    if steps > _MOST_STEPS:
        raise ValueError(f"{steps} steps would be written out, and {_MOST_STEPS} are the most")


def _initial(t: Translator, name: str, value: Value, direction: int, shape: tuple[int, int]) -> Any:
    if value is None:
        return np.zeros(shape, np.float32)
    if isinstance(value, np.ndarray):
        return value[direction]
    if t.shape(value)[0] != 1:
        part = {"begin": [direction, 0, 0], "end": [direction + 1, *shape]}
        value = t.emit("slice_by_index", f"{name}.given", x=value, **part)
    return t.emit("squeeze", f"{name}.initial", x=value, axes=[0])


def _step(
    t: Translator, node: ir.Node, stem: str, x: Value, parts: tuple[Weight, Weight, Array]
) -> tuple[Step, Sequence[Any]]:
    """What one step does, and the input's part of the gates at every place."""
    weights, inner, biases = parts
    own: Array | None
    outer, own = np.split(biases, 2)
    kind, late = node.op_type, bool(node.attributes.get_int("linear_before_reset", 0))
    if kind == "GRU" and late:
        width = inner.shape[0] // 3  # the last gate's own bias is inside its product
        outer = outer + np.concatenate([own[: 2 * width], np.zeros(width, np.float32)])
        own = np.concatenate([np.zeros(2 * width, np.float32), own[2 * width :]])
    else:
        outer, own = outer + own, None
    gates = t.writer.linear(f"{stem}.gates", x, weights, outer)
    count = int(t.shape(x)[0])
    split = t.emit("split", f"{stem}.steps", x=gates, num_splits=count, axis=0)
    each = split if isinstance(split, list | tuple) else [split]
    product = functools.partial(_product, t, inner, own)
    if kind == "LSTM":
        return functools.partial(_lstm, t, product), each
    if kind == "GRU":
        return functools.partial(_gru, t, product, late), each
    words = node.attributes.get_strings("activations", ["Tanh"]) or ["Tanh"]
    return functools.partial(_rnn, t, product, words[0].lower()), each


def _gates_of(t: Translator, value: Value, direction: int, name: str) -> Weight:
    """The rows of a direction, of a weight (directions, gates × hidden, inputs)."""
    _, rows, columns = t.shape(value)
    matrix = t.array(value).reshape(-1, columns)
    codes = value.codes if isinstance(value, Weight) else None
    whole = Weight(name, matrix.shape, lambda: matrix, codes)
    return whole.part(name, direction * rows, (direction + 1) * rows)


def _product(
    t: Translator,
    inner: Weight,
    own: Array | None,
    name: str,
    hidden: Any,
    rows: slice = slice(None),
) -> Any:
    """The state's part of some gates."""
    start, stop, _ = rows.indices(inner.shape[0])
    part = inner.part(f"{inner.name}{start}", start, stop)
    bias = None if own is None else own[rows]
    if isinstance(hidden, np.ndarray):  # zeros, or given as a constant
        return hidden @ part.values().T + (0 if bias is None else bias)
    return t.writer.linear(name, hidden, part, bias)


def _lstm(t: Translator, product: Any, name: str, gate: Any, states: list[Any]) -> list[Any]:
    hidden, cell = states
    gates = t.emit("add", f"{name}.gates", x=gate, y=product(f"{name}.own", hidden))
    parts = t.emit("split", f"{name}.parts", x=gates, num_splits=4, axis=-1)
    enters, shows, keeps = (
        t.emit("sigmoid", f"{name}.{word}", x=part)
        for word, part in zip(("enters", "shows", "keeps"), parts, strict=False)
    )
    new = t.emit("tanh", f"{name}.new", x=parts[3])
    kept = t.emit("mul", f"{name}.kept", x=keeps, y=cell)
    added = t.emit("mul", f"{name}.added", x=enters, y=new)
    cell = t.emit("add", f"{name}.cell", x=kept, y=added)
    bent = t.emit("tanh", f"{name}.bent", x=cell)
    return [t.emit("mul", f"{name}.hidden", x=shows, y=bent), cell]


def _gru(
    t: Translator, product: Any, late: bool, name: str, gate: Any, states: list[Any]
) -> list[Any]:
    (hidden,) = states
    width = int(t.shape(gate)[-1]) // 3
    keeps, resets, new = t.emit("split", f"{name}.parts", x=gate, num_splits=3, axis=-1)
    own = product(f"{name}.own", hidden, slice(0, 2 * width))
    both = t.emit("concat", f"{name}.both", values=[keeps, resets], axis=-1)
    both = t.emit("add", f"{name}.gates", x=both, y=own)
    both = t.emit("sigmoid", f"{name}.open", x=both)
    keeps, resets = t.emit("split", f"{name}.opened", x=both, num_splits=2, axis=-1)
    rows = slice(2 * width, 3 * width)
    if late:
        own = t.emit("mul", f"{name}.reset", x=resets, y=product(f"{name}.last", hidden, rows))
    else:
        own = product(f"{name}.last", t.emit("mul", f"{name}.reset", x=resets, y=hidden), rows)
    new = t.emit("tanh", f"{name}.new", x=t.emit("add", f"{name}.newest", x=new, y=own))
    gap = t.emit("sub", f"{name}.gap", x=hidden, y=new)
    kept = t.emit("mul", f"{name}.kept", x=keeps, y=gap)
    return [t.emit("add", f"{name}.hidden", x=new, y=kept)]


def _rnn(
    t: Translator, product: Any, bend: str, name: str, gate: Any, states: list[Any]
) -> list[Any]:
    total = t.emit("add", f"{name}.gates", x=gate, y=product(f"{name}.own", states[0]))
    return [t.emit(bend, f"{name}.hidden", x=total)]


def _joined(t: Translator, name: str, parts: Sequence[Any]) -> Any:
    """Values in a row along a new first axis."""
    wide = [t.emit("expand_dims", f"{name}.part", x=part, axes=[0]) for part in parts]
    return wide[0] if len(wide) == 1 else t.emit("concat", name, values=wide, axis=0)
