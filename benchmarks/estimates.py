"""How good the estimates of speed are on chips they did not know; `--write` fits them again.

    python benchmarks/estimates.py
    python benchmarks/estimates.py --write    # after a change to edgeq/estimate/speeds.csv

Each chip is left out in turn, the rest is fitted, and its own figures are predicted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from edgeq.core import canonical
from edgeq.estimate.fitting import fit, without_each_chip
from edgeq.estimate.kinds import backend_kind, group
from edgeq.estimate.prompt import fit_prompt, prompt_without_each_chip
from edgeq.estimate.speed import CONSTANTS, Constants
from edgeq.estimate.spread import (
    Miss,
    calibrated_misses,
    decode_misses,
    prompt_misses,
    range_of,
    ranges,
)
from edgeq.estimate.table import points

_SERIES = "discussions/4167"  # llama.cpp's own table of Apple chips: one model, one procedure


def _line(name: str, misses: Sequence[Miss]) -> None:
    if not misses:
        return
    errors = [miss.error for miss in misses]
    chips = {miss.point.chip for miss in misses}
    median, tail = np.quantile(errors, [0.5, 0.9])
    held = _coverage(misses)
    print(f"{name:28} {len(misses):6} {len(chips):6} {median:8.1%} {tail:8.1%} {held:>9}")


def _coverage(misses: Sequence[Miss]) -> str:
    """The share of a chip's truths in the interval that the other chips' misses make."""
    chips = sorted({miss.point.chip for miss in misses})
    if len(chips) < 4:
        return "few chips"
    inside = 0
    for chip in chips:
        low, high = range_of([miss for miss in misses if miss.point.chip != chip])
        inside += sum(low <= m.log_ratio <= high for m in misses if m.point.chip == chip)
    return f"{inside / len(misses):.0%}"


def _table(title: str, misses: Sequence[Miss]) -> None:
    print(f"\n{title:28} {'points':>6} {'chips':>6} {'median':>8} {'p90':>8} {'covered':>9}")
    _line("llama.cpp's Apple table", [m for m in misses if _SERIES in m.point.source])
    for kind in sorted({backend_kind(miss.point.backend) for miss in misses}):
        _line(kind, [m for m in misses if backend_kind(m.point.backend) == kind])
    for name in ("metal flat", "metal k"):
        _line(name, [m for m in misses if group(m.point.backend, m.point.quant) == name])
    _line("all", misses)


def main() -> None:
    """Print the tables; with `--write`, keep the constants too."""
    used = points()
    fits, prompts = without_each_chip(used), prompt_without_each_chip(used)
    decode = decode_misses(used, fits)
    calibrated = calibrated_misses(used, fits)
    prompt = prompt_misses(used, prompts)
    _table("decode, unseen chip", decode)
    _table("decode, two points given", calibrated)
    _table("prompt, unseen chip", prompt)
    if "--write" in sys.argv[1:]:
        made = Constants(
            points=len(used),
            chips=len({point.chip for point in used}),
            bytes_range=(min(p.bytes for p in used), max(p.bytes for p in used)),
            bandwidth_range=(min(p.bandwidth for p in used), max(p.bandwidth for p in used)),
            decode=fit(used),
            decode_range=ranges(decode),
            calibrated_range=ranges(calibrated, fewest=2),
            prompt=fit_prompt(used),
            prompt_range=ranges(prompt),
        )
        CONSTANTS.write_text(canonical.to_json(made.model_dump(mode="json")), encoding="utf-8")
        print(f"\nwritten: {CONSTANTS}")


if __name__ == "__main__":
    main()
