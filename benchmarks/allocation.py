"""What allocation buys: at the sizes of llama.cpp's mixes, its KL beside theirs, and as predicted.

    python benchmarks/allocation.py [RECIPE] [--device here]

The recipe needs a GGUF target, calibration and evaluation text; without one, the wren model's is
taken. Predictions are made on calibration text before a file exists; losses are measured on the
evaluation text by `edgeq frontier`, whose points are found again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from edgeq.frontier import frontier

ROOT = Path(__file__).parent.parent
_PREFIX = "gguf-fit-at-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "recipes" / "wren.yaml")
    parser.add_argument("--device", default="here")
    asked = parser.parse_args()
    begun = time.monotonic()
    found = frontier(asked.recipe, asked.device, lambda step: None)
    points = {point.name: point for point in found.points}
    mixes = {name.removeprefix("gguf-").lower(): point for name, point in points.items()}
    row = "{:10} {:>10} {:>19} {:>19} {:>6} {:>9}"
    print(row.format("size of", "bytes", "llama.cpp", "allocation", "ratio", "predicted"))
    for name, point in points.items():
        if not name.startswith(_PREFIX):
            continue
        peer = mixes[name.removeprefix(_PREFIX)]
        print(
            row.format(
                peer.name.removeprefix("gguf-"),
                point.bytes,
                f"{peer.loss:.5f} ± {peer.error:.5f}",
                f"{point.loss:.5f} ± {point.error:.5f}",
                f"{point.loss / peer.loss:.2f}",
                f"{point.predicted:.5f}",
            )
        )
    print(f"{time.monotonic() - begun:.0f} s, with what the store already had")


if __name__ == "__main__":
    main()
