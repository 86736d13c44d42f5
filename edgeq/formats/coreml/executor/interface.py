"""The interface of a function: names, types and allowed shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor.package import open_package
from edgeq.formats.coreml.executor.program import Function, read_functions
from edgeq.formats.coreml.executor.types import Array, ValueType
from edgeq.formats.coreml.executor.values import Decoder

Range = tuple[int, int | None]


@dataclass(frozen=True)
class Input:
    """One input. `ranges` bounds each length (None: open end); if `shapes` is given, only those."""

    name: str
    type: ValueType
    ranges: tuple[Range, ...]
    shapes: tuple[tuple[int, ...], ...] = ()

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is allowed."""
        if self.shapes:
            return shape in self.shapes
        return len(shape) == len(self.ranges) and all(
            low <= n and (high is None or n <= high)
            for n, (low, high) in zip(shape, self.ranges, strict=True)
        )

    @property
    def wanted(self) -> str:
        """The allowed shapes in words."""
        if self.shapes:
            return " or ".join(map(str, self.shapes))
        return f"({', '.join(_range_text(*bounds) for bounds in self.ranges)})"


@dataclass(frozen=True)
class Interface:
    """A package's inputs, outputs and states, read without its weights.

    inputs: of its default function, by name. states: their types, by name. metadata: written by its
    author (`userDefined`).
    """

    inputs: dict[str, Input]
    states: dict[str, ValueType]
    metadata: dict[str, str]


def read_interface(path: Path) -> Interface:
    """The interface of the package at `path`. Raises what `load` raises."""
    package = open_package(path)
    description = package.description
    decoder = Decoder(str(path), package.weights)
    functions = read_functions(package.specification.mlProgram, decoder, str(path))
    name = description.defaultFunctionName or "main"
    if name not in functions:
        what = f"has no function {name!r}, which it names as its default"
        raise InvalidInput(Problem(str(path), what, "export the package again"))
    states = {n.name: n.type for n in functions[name].inputs if n.type.is_state}
    metadata = dict(description.metadata.userDefined)
    return Interface(inputs_of(functions[name], description), states, metadata)


def inputs_of(function: Function, description: Any) -> dict[str, Input]:
    """The inputs of a function that are not states, from its types and the model's description."""
    features = {feature.name: feature.type for feature in _features(function.name, description)}
    found = {}
    for named in function.inputs:
        if not named.type.is_state:
            ranges: tuple[Range, ...] = tuple((n or 1, n) for n in named.type.shape)
            shapes: tuple[tuple[int, ...], ...] = ()
            if named.name in features:
                ranges, shapes = _flexibility(features[named.name], ranges)
            found[named.name] = Input(named.name, named.type, ranges, shapes)
    return found


def checked(
    where: str, inputs: dict[str, Input], given: dict[str, npt.ArrayLike]
) -> dict[str, Array]:
    """Validate the given arrays. InvalidInput names all that differ."""
    problems = [
        Problem(where, f"has no input {name!r}", f"its inputs: {', '.join(inputs)}")
        for name in given
        if name not in inputs
    ]
    arrays = {}
    for name, wanted in inputs.items():
        if name not in given:
            problems.append(Problem(where, f"the input {name!r} is not given"))
            continue
        arrays[name] = np.asarray(given[name])
        if not wanted.allows(arrays[name].shape):
            what = f"the input {name!r} has the shape {arrays[name].shape}"
            problems.append(Problem(where, what, f"it can be {wanted.wanted}"))
    if problems:
        raise InvalidInput(problems)
    return arrays


def _features(function: str, description: Any) -> Any:
    for described in description.functions:
        if described.name == function:
            return described.input
    return description.input


def _flexibility(
    feature: Any, fixed: tuple[Range, ...]
) -> tuple[tuple[Range, ...], tuple[tuple[int, ...], ...]]:
    if feature.WhichOneof("Type") == "imageType":
        return _of_an_image(feature.imageType, fixed)
    array = feature.multiArrayType
    form = array.WhichOneof("ShapeFlexibility")
    if form == "enumeratedShapes":
        return fixed, tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
    if form == "shapeRange":
        return tuple(map(_bounds, array.shapeRange.sizeRanges)), ()
    return fixed, ()


def _of_an_image(
    image: Any, fixed: tuple[Range, ...]
) -> tuple[tuple[Range, ...], tuple[tuple[int, ...], ...]]:
    """Sizes of the last two axes; images and channels are fixed."""
    form = image.WhichOneof("SizeFlexibility")
    if form == "enumeratedSizes":
        before = tuple(low for low, _ in fixed[:-2])
        sizes = image.enumeratedSizes.sizes
        return fixed, tuple((*before, int(each.height), int(each.width)) for each in sizes)
    if form == "imageSizeRange":
        sides = image.imageSizeRange.heightRange, image.imageSizeRange.widthRange
        return (*fixed[:-2], *map(_bounds, sides)), ()
    return fixed, ()


def _bounds(sizes: Any) -> Range:
    return sizes.lowerBound, None if sizes.upperBound < 0 else sizes.upperBound


def _range_text(low: int, high: int | None) -> str:
    return str(low) if low == high else f"{low} or more" if high is None else f"{low} to {high}"
