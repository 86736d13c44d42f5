"""Compares the imported float graph with its .onnx file, and locates the first difference."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from edgeq.core.artifact import MODEL_FILE, ImportProof, ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.models.graphs.source import nodes_within, read_whole, take_data, with_data
from edgeq.pipeline.proof.onnx_original import OnnxOriginal, open_original, watched

Array = npt.NDArray[Any]
TOLERANCES = {"": 1e-5, "folded": 1e-4, "float16": 2e-2}
"""Relative difference of a tensor that passes: of any graph; of one where norms or arithmetic are
folded into convolutions; of one whose every step is rounded to float16 or bfloat16, and here is
not."""
_RANDOM = ("RandomNormal", "RandomUniform", "Multinomial", "Bernoulli")
_FLIPS = 0.01  # share of integers that may differ if floats were rounded differently
_NUDGE, _AMPLIFIED = 1e-6, 1e4  # relative change of inputs, and times that of outputs
_AT_ONCE = 64  # tensors fetched per run
_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_REMEDY = "nothing was built from it; report it with this line, or export the model another way"


def prove_onnx(
    path: Path,
    graph: Path,
    feeds: Sequence[Mapping[str, Array]],
    original: OnnxOriginal | None = None,
) -> ImportProof:
    """Run the file `path` and the imported graph in the directory `graph` on the samples.

    original: what answers for the file, if not onnxruntime alone. Raises InvalidInput if interface
    or answers differ, naming the first operator that does.
    """
    original, imported = original or open_original(path), _opened(path, graph)
    _refuse_random(path)
    _same_interface(original, imported)
    kind = _kind(path, graph)
    worst = 0.0
    for feed in feeds:
        wanted = original.run(feed)
        found = original.in_its_order(imported.run(feed), wanted)
        _refuse_nan(original, wanted)
        difference = max(map(distance, found, wanted), default=0.0)
        if not _passes(found, wanted, kind):
            _refuse_chance(original, feed, wanted)
            _refuse_ties(original, feed, wanted)
            raise _refusal(path, difference, _parting(original, feed, kind))
        worst = max(worst, difference if difference < np.inf else 0.0)
    names = ", ".join(value.name for value in original.outputs)
    return ImportProof(
        reference=original.runtime,
        compared=f"{names} of {len(feeds)} samples",
        difference=worst,
        tolerance=TOLERANCES[kind],
    )


def _opened(path: Path, graph: Path) -> OnnxOriginal:
    try:
        return open_original(graph / MODEL_FILE)
    except InvalidInput as error:
        what = f"edgeq's import of it does not open: {error.problems[0].what}"
        raise InvalidInput(Problem(str(path), what, _REMEDY)) from None


def _refuse_nan(original: OnnxOriginal, answers: Sequence[Array]) -> None:
    for value, array in zip(original.outputs, answers, strict=True):
        odd = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
        if odd:
            what = f"its output {value.name!r} is NaN in {odd} of {array.size} values of a sample"
            remedy = "give data.calibration samples that the model is made for, or train it again"
            raise InvalidInput(Problem(str(original.path), what, remedy))


def _refuse_chance(
    original: OnnxOriginal, feed: Mapping[str, Array], answers: Sequence[Array]
) -> None:
    if max(map(distance, original.run(feed), answers), default=0.0) > 0:
        what = "two runs of it on one sample give different answers: it draws random numbers"
        remedy = "export it in evaluation mode, model.eval(), or make the noise an input"
        raise InvalidInput(Problem(str(original.path), what, remedy))


def _refuse_ties(
    original: OnnxOriginal, feed: Mapping[str, Array], answers: Sequence[Array]
) -> None:
    """A difference that rounding alone makes says nothing about the import."""
    nudged = {
        name: array * array.dtype.type(1 + _NUDGE) if array.dtype.kind == "f" else array
        for name, array in feed.items()
    }
    found = original.in_its_order(original.run(nudged), answers)
    worst = max(map(distance, found, answers), default=0.0)
    if worst > _AMPLIFIED * _NUDGE:
        what = (
            f"its inputs times {1 + _NUDGE} change its outputs by {worst:.1e}: it chooses among "
            "scores that are equal but for rounding, so no two runtimes agree"
        )
        raise InvalidInput(Problem(str(original.path), what, "train it until its scores differ"))


def distance(found: Array, wanted: Array) -> float:
    """‖a−b‖/‖b‖ of two arrays; infinity if shapes, types or places of NaN differ."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return float("inf")
    a, b = (np.asarray(x, np.float64).ravel() for x in (found, wanted))
    odd = ~(np.isfinite(a) & np.isfinite(b))
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return float("inf")
    a, b = a[~odd], b[~odd]
    if not a.size or np.array_equal(a, b):
        return 0.0
    size = max(float(np.linalg.norm(b)), float(np.finfo(np.float32).tiny))
    return float(np.linalg.norm(a - b)) / size


def _passes(found: Sequence[Array], wanted: Sequence[Array], kind: str) -> bool:
    return all(_equals(a, b, kind) for a, b in zip(found, wanted, strict=True))


def _equals(found: Array, wanted: Array, kind: str) -> bool:
    if not isinstance(wanted, np.ndarray) or wanted.dtype.kind not in "fiub":
        return True  # sequences and texts between operators
    if wanted.dtype.kind != "f" and found.shape == wanted.shape:
        flips = int(np.count_nonzero(found != wanted))
        return flips <= (_FLIPS * wanted.size if kind else 0)
    return distance(found, wanted) <= TOLERANCES[kind]


def _kind(path: Path, imported: Path) -> str:
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    seen = {value.type.tensor_type.elem_type for value in values}
    if (seen | {tensor.data_type for tensor in graph.initializer}) & set(_HALF):
        return "float16"
    if all(node.op_type != "Conv" for node in graph.node):
        return ""
    known = set(_constants(with_data(model, path)).values())
    made = read_whole(imported / MODEL_FILE)
    constants = _constants(made)
    filters = [n for node in made.graph.node if node.op_type == "Conv" for n in node.input[1:]]
    return "" if all(constants.get(name) in known for name in filters if name) else "folded"


def _constants(model: onnx.ModelProto) -> dict[str, bytes]:
    """The SHA-256 of each constant's values, by name."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    arrays = ((name, onnx.numpy_helper.to_array(each)) for name, each in found.items())
    return {name: hashlib.sha256(array.tobytes()).digest() for name, array in arrays}


def _refuse_random(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    is_true = functools.partial(_is_true, path=path)
    truths = {tensor.name for tensor in model.graph.initializer if is_true(tensor)}
    for node in nodes_within(model.graph.node):
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and is_true(attribute.t):
                truths.update(node.output)
    functions = (node for function in model.functions for node in function.node)
    for node in nodes_within([*model.graph.node, *functions]):
        drops = node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in truths
        seeded = any(attribute.name == "seed" for attribute in node.attribute)
        if (drops or node.op_type.startswith(_RANDOM)) and not seeded:
            what = f"{node.op_type} {node.name!r} draws random numbers, so runs never agree"
            remedy = "make the noise an input of the model"
            if drops:
                remedy = "export the model in evaluation mode: model.eval()"
            raise InvalidInput(Problem(str(path), what, remedy))


def _is_true(tensor: onnx.TensorProto, path: Path) -> bool:
    """Whether it is a single true; a mask has many values."""
    if tensor.data_type != onnx.TensorProto.BOOL or math.prod(tensor.dims) != 1:
        return False
    take_data(tensor, path)
    return bool(onnx.numpy_helper.to_array(tensor).item())


def _same_interface(original: OnnxOriginal, imported: OnnxOriginal) -> None:
    for kind in ("inputs", "outputs"):
        facts = [_facts(kind, getattr(each, kind)) for each in (original, imported)]
        if facts[0] != facts[1]:
            what = f"the import changes its {kind}: {facts[0]} became {facts[1]}"
            raise InvalidInput(Problem(str(original.path), what, _REMEDY))


def _facts(kind: str, values: Sequence[ValueInfo]) -> list[tuple[str, ...]]:
    """The parts that must not change. Shapes of outputs are compared as arrays: files state wrong
    ones."""
    shapes = [str(len(value.shape)) if kind == "inputs" else "" for value in values]
    return [(v.name, v.dtype, shape) for v, shape in zip(values, shapes, strict=True)]


def _refusal(path: Path, difference: float, part: str) -> InvalidInput:
    what = f"edgeq's import of it is not the model: outputs differ by {difference:.1e}; {part}"
    return InvalidInput(Problem(str(path), what, _REMEDY))


def _parting(original: OnnxOriginal, feed: Mapping[str, Array], kind: str) -> str:
    """Describe the first operator of the file whose result differs."""
    import onnx_ir

    from edgeq.models.graphs.imported import read_onnx

    model = onnx.load(original.path, load_external_data=False)
    nodes = {name: node for node in model.graph.node for name in node.output if name}
    with TemporaryFolder() as folder:
        copy = Path(folder, MODEL_FILE)
        imported = read_onnx(original.path)
        onnx_ir.save(imported, copy, external_data=f"{MODEL_FILE}.data")
        kept = {value.name for node in imported.graph for value in node.outputs}
        common = [name for name in nodes if name in kept]
        for names in _turns(common):
            wanted = watched(original.path, names).run(feed)
            found = watched(copy, names).run(feed)
            for name, a, b in zip(names, found, wanted, strict=True):
                if not _equals(a, b, kind):
                    node = nodes[name]
                    label = f"{node.op_type} {node.name!r}" if node.name else node.op_type
                    return f"they diverge at {label}, in {name!r}"
    return "no tensor between operators differs"


def _turns(names: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield list(names[start : start + _AT_ONCE])
