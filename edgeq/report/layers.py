"""Group tensors that differ only by layer number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"(?<![A-Za-z])\d+(?![A-Za-z])")
"""In a tensor's name, what tells it from its like in other layers."""


def kind_of(name: str) -> str:
    """Replace layer numbers in a tensor's name by `*`.

    >>> kind_of("model.layers.3.mlp.up_proj.weight")
    'model.layers.*.mlp.up_proj.weight'
    """
    return _NUMBER.sub("*", name)


def layers_of(names: Sequence[str]) -> str:
    """Format the layer numbers of similar names as ranges; empty for a single name.

    If names hold several numbers, such as those of experts, only the first is shown, with a count.
    """
    if len(names) < 2:
        return ""
    numbers = [list(map(int, _NUMBER.findall(name))) for name in names]
    varied = next(column for column in zip(*numbers, strict=True) if len(set(column)) > 1)
    text = ranges(varied)
    return text if len(set(varied)) == len(names) else f"{text} (×{len(names)})"


def ranges(numbers: Iterable[int]) -> str:
    """Format numbers in ascending order, runs of three or more as a range.

    >>> ranges([3, 1, 2, 7, 8])
    '1–3, 7, 8'
    """
    rows: list[list[int]] = []
    for number in sorted(set(numbers)):
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    texts = [[f"{row[0]}–{row[-1]}"] if len(row) > 2 else map(str, row) for row in rows]
    return ", ".join(part for parts in texts for part in parts)
