"""The user's own .onnx file in onnxruntime, untouched and without optimization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.threads import default_threads
from edgeq.formats.samples import fit
from edgeq.models.onnx_session import open_graph, open_session, reason, version
from edgeq.models.original.head import apply_head
from edgeq.models.sentence_head import SentenceHead

Array = npt.NDArray[Any]
_TOKEN_AXES = 3
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
# Sizes tried for free dimensions if there is no data: of the first axis, and of the others.
_SIZES = ((2, 8), (1, 8), (1, 1), (1, 16), (1, 64), (1, 224), (1, 16000))


@dataclass(frozen=True)
class OnnxOriginal:
    """An open .onnx file and its interface.

    head: of a sentence encoder whose answer is a vector for each token; None for others.
    """

    path: Path
    session: Any
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    head: SentenceHead | None = None

    @property
    def runtime(self) -> str:
        """The runtime's name in a verdict."""
        return f"{self.path.name} in onnxruntime {version()}, no optimization"

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """The outputs for one sample. Raises InvalidInput with onnxruntime's own message."""
        ready = {value.name: fit(feed[value.name], value) for value in self.inputs}
        try:
            found: list[Array] = self.session.run(names, ready)
        except Exception as error:  # onnxruntime's exceptions share no base class
            shapes = ", ".join(f"{name} {array.shape}" for name, array in ready.items())
            what = f"onnxruntime stops on {shapes}: {reason(error)}"
            remedy = "give data.calibration samples that the model runs on"
            raise InvalidInput(Problem(str(self.path), what, remedy)) from None
        if self.head is not None and names is None:
            pooled = apply_head(found[0], np.asarray(feed["attention_mask"]), self.head)
            return [pooled.astype(np.float32)]
        return found

    def in_its_order(self, found: list[Array], wanted: Sequence[Array]) -> list[Array]:
        """Another run's outputs, in the order of `wanted` where the order has no meaning."""
        return found

    def named(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """What `run` returns, by the outputs' names."""
        return dict(zip((value.name for value in self.outputs), self.run(feed), strict=True))


def open_original(path: Path, head: SentenceHead | None = None) -> OnnxOriginal:
    """Open the file. Raises InvalidInput if onnxruntime cannot run it.

    head: of a sentence encoder, applied where the file's answer is a vector for each token.
    """
    try:
        session = open_session(path, threads=default_threads(), optimized=True, settings={})
    except InvalidInput as error:
        said = reason(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        what = f"onnxruntime {version()} cannot run it as the reference: {said}"
        remedy = "export it with operators and types that onnxruntime supports on CPUs"
        raise InvalidInput(Problem(str(path), what, remedy)) from None
    inputs, outputs = _values(session.get_inputs()), _values(session.get_outputs())
    if head is None or len(outputs[0].shape) != _TOKEN_AXES:
        return OnnxOriginal(path, session, inputs, outputs)
    pooled = ValueInfo(name="sentence_embedding", dtype="float32", shape=("batch", "width"))
    return OnnxOriginal(path, session, inputs, (pooled,), head)


def watched(path: Path, names: Sequence[str]) -> OnnxOriginal:
    """The file with the values `names` of its main graph as additional outputs."""
    model = onnx.load(path, load_external_data=False)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    graph = model.SerializeToString()
    session = open_graph(graph, path.parent, threads=default_threads(), optimized=True)
    return OnnxOriginal(path, session, _values(session.get_inputs()), ())


def made_up(original: OnnxOriginal) -> dict[str, Array]:
    """A sample of random numbers that the model runs on.

    Raises InvalidInput if none of several shapes works: then data are needed.
    """
    problem: InvalidInput | None = None
    for first, other in _SIZES:
        for highest in (2, 1):  # integers may be indices: 0 and 1, then 0
            feed = _random(original.inputs, first, other, highest)
            try:
                found = original.run(feed)
            except InvalidInput as error:
                problem = problem or error
                continue
            if any(array.dtype.kind == "f" and np.isnan(array).any() for array in found):
                # Roots and logarithms, or a mask beyond 1, which has to be from 0 to 1.
                return {name: _positive(array) for name, array in feed.items()}
            return feed
    assert problem is not None
    raise problem


def _random(inputs: Sequence[ValueInfo], first: int, other: int, highest: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    feed = {}
    for value in inputs:
        sizes = enumerate(value.shape)
        shape = [n if isinstance(n, int) else first if axis == 0 else other for axis, n in sizes]
        floating = np.issubdtype(np.dtype(value.dtype), np.floating)
        array = rng.standard_normal(shape) if floating else rng.integers(0, highest, shape)
        feed[value.name] = np.asarray(array).astype(value.dtype)
    return feed


def _positive(array: Array) -> Array:
    is_float = array.dtype.kind == "f"
    return np.asarray(np.abs(array) % 1).astype(array.dtype) if is_float else array


def _values(given: Sequence[Any]) -> tuple[ValueInfo, ...]:
    return tuple(_value(each) for each in given)


def _value(given: Any) -> ValueInfo:
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    dtype = _DTYPES.get(given.type, kind)
    known = (size if isinstance(size, int) and size >= 0 else str(size) for size in given.shape)
    return ValueInfo(name=given.name, dtype=dtype, shape=tuple(known))


def answers(original: OnnxOriginal, feeds: Iterator[Mapping[str, Array]]) -> Iterator[Array]:
    """Every output of every sample, in the order of the file's outputs."""
    for feed in feeds:
        yield from original.run(feed)
