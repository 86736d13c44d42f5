"""Steps that are repeated as long as a run's values ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.formats.coreai.operators.registry import Value
from edgeq.formats.coreai.write_constants import constant


def repeated(
    a: Any,
    first: Sequence[Value],
    goes_on: Callable[..., Value],
    step: Callable[..., Sequence[Value]],
) -> list[Value]:
    """The last values of a loop from `first`, whose shapes and types do not change.

    goes_on: of the values, whether to take another step, without axes. step: the next values.
    """
    from coreai._compiler.dialects.coreai import condition, while_, yield_

    wrap = a.Value._from_mlir
    values = [constant(each) if isinstance(each, np.ndarray) else each for each in first]
    inits = [each._to_mlir() for each in values]
    results, (before, after) = while_([each.type for each in inits], inits)
    with before:
        given = before.arguments
        condition(goes_on(*map(wrap, given))._to_mlir(), *given)
    with after:
        yield_([each._to_mlir() for each in step(*map(wrap, after.arguments))])
    return [wrap(each) for each in results]
