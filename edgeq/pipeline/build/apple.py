"""What building has in common for both of Apple's file formats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.artifact import TensorRecord
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.decide import width
from edgeq.formats.apple.weights import settle_apple
from edgeq.formats.file_format import TensorPlan
from edgeq.pipeline.build.stages import Stages
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods.judged import with_fall_back
from edgeq.quantize.number_formats import QuantizedTensor, number_format

_AXES = {4: ("batch", "channels", "height", "width")}


def named_sizes(shapes: Sequence[Sequence[int | None]]) -> tuple[int | str, ...]:
    """The sizes of an array by shapes that it may have: a name where they differ or are None.

    >>> named_sizes([(1, 3, 224, 224), (1, 3, 320, 224)])
    (1, 3, 'height', 224)
    """
    names = _AXES.get(len(shapes[0]), ("tokens",) * len(shapes[0]))
    found: list[int | str] = []
    for name, (first, *others) in zip(names, zip(*shapes, strict=True), strict=True):
        found.append(first if first is not None and not {*others} - {first} else name)
    return tuple(found)


def each_size(shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> list[dict[str, tuple[int, ...]]]:
    """One shape for every input, so often that each possible one is among them."""
    count = max(map(len, shapes.values()), default=0)
    return [{n: each[min(i, len(each) - 1)] for n, each in shapes.items()} for i in range(count)]


def require_shapes(
    stages: Stages, shapes: Mapping[str, Sequence[tuple[int, ...]]], section: str
) -> None:
    """Raise InvalidInput for an input whose shape no calibration sample has.

    section: of the recipe, where shapes are set.
    """
    feeds = [] if stages.planned.model.text else stages.feeds(stages.float_graph())
    for name, allowed in shapes.items():
        seen = [np.shape(feed[name]) for feed in feeds]
        if seen and not set(seen) & set(map(tuple, allowed)):
            wanted = f"{section}: {{inputs: {{{name}: {list(seen[0])}}}}}"
            what = f"the file's input {name!r} has the shape {list(allowed[0])}, samples {seen[0]}"
            where = stages.planned.document.place((section, "inputs"))
            raise InvalidInput(Problem(where, what, f"write {wanted}"))


def apple_codes(
    stages: Stages, name: str, decisions: dict[str, Decision]
) -> dict[str, QuantizedTensor]:
    """Codes of every weight that has a number format.

    Layers and tables of a directory are what every format has: their codes are shared.
    """
    number_formats = {decision.number_format for decision in decisions.values() if decision.choice}
    if not number_formats:
        return {}
    has_groups = all(number_format(stored_as).group_size for stored_as in number_formats)
    is_shared = stages.planned.model.directory is not None and has_groups
    return stages.codes(decisions, name, None if is_shared else settle_apple)


def apple_records(
    plans: Iterable[TensorPlan], codes: Mapping[str, QuantizedTensor], compute: str, scales: str
) -> dict[str, TensorRecord]:
    """The stored form of every weight; one without codes is float, in `compute`.

    scales: the type of scales.
    """
    records = {}
    for plan in plans:
        quantized = codes.get(plan.name)
        size = math.prod(plan.shape) * width(compute)
        if quantized is not None:
            count = quantized.number_format.scale_count(*quantized.codes.shape)
            size = quantized.nbytes + (width(scales) - 2) * count
        records[plan.name] = TensorRecord(
            shape=plan.shape,
            number_format=quantized.number_format.name if quantized else compute,
            method=quantized.method if quantized else "none",
            bytes=size,
            note=with_fall_back(plan.reason, plan.method, quantized),
        )
    return records


def files_in(folder: Path, destination: Path) -> list[str]:
    """Every file of a model that is a directory, by its path from `destination`."""
    return [
        path.relative_to(destination).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
