"""The loss from rounding activations at runtime, and how it is divided among layers.

A runtime that multiplies codes first rounds a layer's inputs to 8 bits, in blocks that depend on
the weights' number format. The loss is measured with all layers at once: weights of one kernel, in
as many bits as it has, run by the runtime and in the float graph. Each layer's share is
proportional to its loss in its narrowest format, since both come from proportional changes of its
output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeq.pipeline.allocate.options import Options
from edgeq.pipeline.allocate.sensitivity import Cost


def kernels_of(options: Options) -> list[str]:
    """Kernels, those available to the most tensors first."""
    counts: dict[str, int] = {}
    for own in options.values():
        for kernel in {option.kernel for option in own if option.kernel}:
            counts[kernel] = counts.get(kernel, 0) + 1
    return sorted(counts, key=lambda kernel: (-counts[kernel], kernel))


def widest_of(options: Options, kernel: str) -> dict[str, str]:
    """Every tensor in the widest codes that `kernel` runs, or in its widest option."""
    found = {}
    for name, own in options.items():
        coded = [option for option in own if option.method != "none"]
        fitting = [option for option in coded if option.kernel == kernel]
        found[name] = (fitting or coded)[-1].use
    return found


def shared_out(
    costs: Mapping[str, Mapping[str, Cost]], options: Options, losses: Mapping[str, float]
) -> dict[str, dict[str, Cost]]:
    """`costs` with each tensor's share of `losses`, by kernel, in the order of `kernels_of`.

    options: for the tensors that multiply anything; others have no share.
    """
    weights = {name: max(cost.loss for cost in costs[name].values()) for name in options}
    parts: dict[str, dict[str, float]] = {}
    for kernel, loss in losses.items():
        able = [name for name in options if any(o.kernel == kernel for o in options[name])]
        # The others were measured in another kernel, and get their share from there.
        rest = sum(max(parts[name].values(), default=0.0) for name in parts if name not in able)
        left, whole = max(0.0, loss - rest), math.fsum(weights[name] for name in able)
        for name in able:
            share = left * weights[name] / whole if whole > 0 else 0.0
            parts.setdefault(name, {})[kernel] = share
    found = {name: dict(own) for name, own in costs.items()}
    for name, own in parts.items():
        for option in options[name]:
            if option.use in found[name] and option.kernel in own:
                found[name][option.use] = found[name][option.use].model_copy(
                    update={"inputs": own[option.kernel]}
                )
    return found
