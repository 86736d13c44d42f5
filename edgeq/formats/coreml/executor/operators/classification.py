"""The last operator of a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.formats.coreml.executor.operators.registry import operator
from edgeq.formats.coreml.executor.types import Array


@operator("classify")
def classify(probabilities: Array, classes: Any) -> tuple[Any, dict[Any, float]]:
    """The most probable class, and every class with its probability."""
    shares = probabilities.reshape(-1)
    labels = [label.item() if isinstance(label, np.ndarray) else label for label in classes]
    if len(labels) != shares.size:
        raise ValueError(f"{shares.size} probabilities for {len(labels)} classes")
    return labels[int(shares.argmax())], dict(zip(labels, shares.tolist(), strict=True))
