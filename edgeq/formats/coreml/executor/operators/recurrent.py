"""Recurrent layers: (steps, items, inputs) in; all or the last states, and the last ones, out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import Outputs, operator
from edgeq.formats.coreml.executor.types import Array

Activation = Callable[[Array], Array]

_ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 / 3 * x),
}


@operator("rnn")
def rnn(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> Outputs:
    """h = activation(W x + b + R h)."""
    bend = _ACTIVATIONS[activation]

    def step(gates: Array, h: Array) -> Array:
        return bend(gates + h @ weight_hh.T)

    return _of_one_state(x, initial_h, _gates(x, weight_ih, bias), direction, output_sequence, step)


@operator("gru")
def gru(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Array | None = None,
) -> Outputs:
    """Gates in the order reset, output, update; the reset gate applies to R h.

    What `reset_after` and `input_bias` (iOS 18) change, their documentation leaves open.
    """
    if reset_after or input_bias is not None:
        raise ValueError("reset_after and input_bias are not known")
    opened, bend = _ACTIVATIONS[recurrent_activation], _ACTIVATIONS[activation]

    def step(gates: Array, h: Array) -> Array:
        resets, new, keeps = np.split(gates, 3, axis=-1)
        own = np.split(h @ weight_hh.T, 3, axis=-1)
        new = bend(new + opened(resets + own[0]) * own[1])
        keep = opened(keeps + own[2])
        return np.asarray((1 - keep) * new + keep * h)

    return _of_one_state(x, initial_h, _gates(x, weight_ih, bias), direction, output_sequence, step)


@operator("lstm")
def lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> Outputs:
    """Gates in the order input, forget, output, cell. Both directions lie next to each other."""
    ways = [(direction == "reverse", weight_ih, weight_hh, bias, peephole)]
    if direction == "bidirectional":
        assert weight_ih_back is not None and weight_hh_back is not None
        ways.append((True, weight_ih_back, weight_hh_back, bias_back, peephole_back))
    opened, cell = _ACTIVATIONS[recurrent_activation], _ACTIVATIONS[cell_activation]
    shown = _ACTIVATIONS[activation]
    found = []
    states = zip(*(np.split(each, len(ways), -1) for each in (initial_h, initial_c)), strict=True)
    for (backwards, weight, inner, shift, holes), (h, c) in zip(ways, states, strict=True):
        gates = _gates(x, weight, shift)
        holes = np.zeros(3 * h.shape[-1], np.float32) if holes is None else holes
        to_enter, to_keep, to_show = np.split(holes, 3)
        every: list[Array] = []
        for gate in gates[::-1] if backwards else gates:
            enters, keeps, shows, new = np.split(gate + h @ inner.T, 4, axis=-1)
            new = cell(new)
            new = new if clip is None else np.clip(new, -clip, clip)
            c = opened(keeps + to_keep * c) * c + opened(enters + to_enter * c) * new
            h = opened(shows + to_show * c) * shown(c)
            every.append(h)
        found.append((_sequence(every, backwards, output_sequence), h, c))
    return tuple(np.concatenate(parts, -1) for parts in zip(*found, strict=True))


def _gates(x: Array, weight: Array, bias: Array | None) -> Array:
    return np.asarray(x @ weight.T + (0 if bias is None else bias))


def _of_one_state(
    x: Array,
    state: Array,
    gates: Array,
    direction: str,
    whole: bool,
    step: Callable[[Array, Array], Array],
) -> Outputs:
    backwards, every = direction == "reverse", []
    for gate in gates[::-1] if backwards else gates:
        state = step(gate, state)
        every.append(state)
    return _sequence(every, backwards, whole), state


def _sequence(every: list[Array], backwards: bool, whole: bool) -> Array:
    """The states by place, or the last one alone."""
    return np.stack((every[::-1] if backwards else every) if whole else every[-1:])
