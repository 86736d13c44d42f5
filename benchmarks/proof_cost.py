"""What the proof of import costs: its CPU-seconds, and those of the whole build around it.

    python benchmarks/proof_cost.py [RECIPE ...]

Each recipe (without any, MiniLM's and wren's) is built into an empty store.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgeq.core.store import Store
from edgeq.pipeline.build.build import build
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.proof import original

ROOT = Path(__file__).parent.parent
RECIPES = ("recipes/minilm.yaml", "recipes/wren.yaml")


def seconds() -> float:
    """CPU-seconds of this process and of all that it waited for."""
    each = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def cost(recipe: Path) -> tuple[float, float]:
    """CPU-seconds of the proof, and of the build with it."""
    spent = 0.0
    run = original.run_original

    def timed(request: Any) -> Any:
        nonlocal spent
        before = seconds()
        try:
            return run(request)
        finally:
            spent += seconds() - before

    original.run_original = timed
    start = seconds()
    try:
        with tempfile.TemporaryDirectory() as folder:
            build(make_plan(recipe, weights=True), Store(Path(folder)), lambda line: None)
    finally:
        original.run_original = run
    return spent, seconds() - start


def main(recipes: list[str]) -> None:
    for name in recipes or RECIPES:
        proof, whole = cost(ROOT / name)
        print(f"{name}: {proof:.1f} of {whole:.1f} CPU-seconds, {proof / whole:.1%}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
