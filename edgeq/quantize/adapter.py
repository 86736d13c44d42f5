"""A low-rank adapter: two factors per weight, whose product is added to the weight's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Halves = NDArray[np.float16]

NUMBER_FORMAT = "adapter-float16"
"""Stands for a number format in the records of an adapter's factors."""
METHOD = "distilled"
"""Stands for a rounding method in those records."""


@dataclass(frozen=True)
class Factors:
    """A weight's product becomes `weight · x + up · (down · x)`.

    down: float16 `(rank, columns)`. up: float16 `(rows, rank)`, rows as in the model.
    """

    down: Halves
    up: Halves

    @property
    def rank(self) -> int:
        """The rank: the number of products that are summed."""
        return len(self.down)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the weight they are for."""
        return self.up.shape[0], self.down.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of both factors in a file."""
        return self.down.nbytes + self.up.nbytes


Adapter = Mapping[str, Factors]
"""Factors by the weight's Hugging Face name."""


def takes_adapter(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight gets factors: linear layers do; tables, outputs, norms and experts do not.

    >>> takes_adapter("model.layers.0.mlp.up_proj.weight", (768, 256))
    True
    """
    is_layer = ".layers." in name and ".experts." not in name
    return len(shape) == 2 and is_layer and name.endswith("_proj.weight")


def planned_factors(shapes: Mapping[str, tuple[int, ...]], rank: int) -> dict[str, int]:
    """Bytes of the factors of every weight that gets some, by its name.

    shapes: of all weights, by name.
    """
    return {
        name: 2 * rank * (shape[0] + shape[1])
        for name, shape in shapes.items()
        if takes_adapter(name, shape)
    }


def save_adapter(path: Path, adapter: Adapter) -> None:
    """Write an adapter as a .npz: equal factors give equal bytes."""
    arrays: dict[str, NDArray[np.generic]] = {"names": np.array(list(adapter), np.str_)}
    for index, factors in enumerate(adapter.values()):
        arrays[f"{index}.down"], arrays[f"{index}.up"] = factors.down, factors.up
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_adapter(path: Path) -> dict[str, Factors]:
    """Read the output of `save_adapter`, in its order."""
    with np.load(path, allow_pickle=False) as stored:
        names: Iterable[str] = stored["names"].tolist()
        return {
            name: Factors(stored[f"{index}.down"], stored[f"{index}.up"])
            for index, name in enumerate(names)
        }
