"""The least cut, compared with every possible one."""

import itertools
import math
from collections.abc import Hashable

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.models.graphs.least_cut import SINK, SOURCE, Cut


@pytest.mark.parametrize("seed", range(20))
def test_no_cut_is_cheaper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = list(range(7))
    edges: list[tuple[Hashable, Hashable, float]] = [
        (SOURCE, n, float(rng.integers(1, 20))) for n in nodes
    ]
    edges += [(n, SINK, float(rng.integers(1, 20))) for n in nodes]
    edges += [(a, b, float(rng.integers(0, 9))) for a in nodes for b in nodes if a != b]
    edges += [(1, 2, math.inf), (5, SINK, math.inf)]
    cut = Cut()
    for edge in edges:
        cut.edge(*edge)

    def cost(side: set[Hashable]) -> float:
        return sum(capacity for start, end, capacity in edges if start in side and end not in side)

    sides: list[set[Hashable]] = [
        set(each) | {SOURCE} for n in range(8) for each in itertools.combinations(nodes, n)
    ]
    found = cut.source_side()
    assert cost(found) == min(map(cost, sides))
    assert 5 not in found and (1 not in found or 2 in found)
