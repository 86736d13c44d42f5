"""What strategies of operators share: numbers to draw, and the graph of one operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray
Draw = Callable[[st.SearchStrategy[Any]], Any]
_TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}


@dataclass
class Case:
    """One operator. given: its inputs; constants: what it reads besides, None where omitted.

    refused: the format that has no way to express it.
    """

    given: list[Array]
    constants: list[Array | None] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    domain: str = ""
    opset: int = 20
    refused: str = ""


Make = Callable[[Draw, "Numbers", str], Case]
MAKERS: dict[str, Make] = {}


class Numbers:
    """Values of a drawn seed."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**20)))

    def floats(self, *shape: int, scale: float = 2.0) -> Array:
        """Of both signs."""
        return (self.rng.normal(size=shape) * scale).astype(np.float32)

    def whole(self, *shape: int, low: int = -9, high: int = 9) -> Array:
        """Integers."""
        return self.rng.integers(low, high + 1, shape, np.int64)

    def shape(self, least: int = 1, most: int = 4) -> tuple[int, ...]:
        """Sizes of a few axes."""
        return tuple(self.draw(st.lists(st.integers(1, 4), min_size=least, max_size=most)))

    def below(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to another."""
        kept = shape[self.draw(st.integers(0, len(shape) - 1)) :]
        return tuple(1 if self.draw(st.booleans()) else size for size in kept)

    def axis(self, rank: int) -> int:
        """Counted from either end."""
        return int(self.draw(st.integers(-rank, rank - 1)))

    def axes(self, rank: int, least: int = 1) -> list[int]:
        """Different ones, from either end."""
        places = st.integers(0, rank - 1)
        chosen = self.draw(st.lists(places, min_size=least, max_size=rank, unique=True))
        return [axis - rank if self.draw(st.booleans()) else axis for axis in chosen]

    def one_of(self, *options: Any) -> Any:
        """One of them."""
        return self.draw(st.sampled_from(options))


def of(*kinds: str) -> Callable[[Make], Make]:
    """Register a maker for operators."""

    def register(make: Make) -> Make:
        MAKERS.update(dict.fromkeys(kinds, make))
        return make

    return register


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def f32(value: float) -> Array:
    return np.array(value, np.float32)


def model_of(kind: str, case: Case) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The graph of one operator, and its inputs."""
    feeds = {f"x{n}": array for n, array in enumerate(case.given)}
    stored = {f"c{n}": array for n, array in enumerate(case.constants) if array is not None}
    names = [*feeds, *(f"c{n}" if f"c{n}" in stored else "" for n in range(len(case.constants)))]
    while not names[-1]:
        names.pop()
    results = [f"y{n}" for n in range(case.outputs)]
    node = helper.make_node(
        kind, names, results, name="only", domain=case.domain, **case.attributes
    )
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, _TYPES[array.dtype.kind], array.shape)
            for name, array in feeds.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds
