"""Comparing an operator of Core ML's executor with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgeq.formats.coreml.executor.operators import OPERATORS
from edgeq.formats.coreml.executor.types import Array


def near(name: str, expected: Any, /, **arguments: Any) -> None:
    """The operator gives what torch gave, to the last bits of float32."""
    got = OPERATORS[name](**arguments)
    want = expected.numpy() if isinstance(expected, torch.Tensor) else expected
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


def ints(*values: int) -> Array:
    return np.array(values, np.int32)


def t(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
