"""Memory that was estimated beside memory that was measured, for every artifact of recipes.

    python benchmarks/memory_estimates.py
    python benchmarks/memory_estimates.py recipes/wren.yaml

Builds what is not built yet, full precision too, runs a memory pass of each in a fresh process and
prints both. Exit status 1 if an estimate is off by more than 5 % and more than 20 MiB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeq.core.store import Store
from edgeq.core.units import MIB
from edgeq.estimate.contents import contents_of_artifact
from edgeq.estimate.interval import Interval
from edgeq.estimate.memory import estimate_memory
from edgeq.estimate.sizes import sizes_of_decoder
from edgeq.pipeline.build.build import Built, build, build_float
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.places.process import Request, run_worker
from edgeq.recipe.budgets import Workload

_SHARE, _BYTES = 0.05, 20 * MIB
RECIPES = (Path("recipes/minilm.yaml"), Path("recipes/wren.yaml"))


def artifacts(planned: Planned) -> list[Built]:
    """All of a recipe and full precision in its formats, each once."""
    store = Store()
    built = build(planned, store, lambda words: None)
    for format in planned.targets:
        built.append(build_float(planned, store, lambda words: None, format))
    return list({item.path: item for item in built}.values())


def row(name: str, what: str, told: Interval, seen: int) -> bool:
    """Print one comparison; whether the estimate is good."""
    off = told.value - seen
    good = abs(off) <= max(_BYTES, _SHARE * seen)
    inside = "yes" if told.low <= seen <= told.high else "no"
    values = f"{told.value / MIB:9.1f} {seen / MIB:9.1f} {off / MIB:+8.1f} {off / seen:+8.1%}"
    print(f"{name:32} {what:10}{values} {inside:>7}{'' if good else '  OFF'}", flush=True)
    return good


def compare(planned: Planned, item: Built) -> list[bool]:
    """Both counts of one artifact."""
    asked = planned.recipe.workload
    writes = planned.model.decoder is not None
    work = Workload(context=asked.context, prompt=asked.prompt, generate=asked.generate)
    seen = run_worker(Request(work="memory", artifact=item.path, workload=work if writes else None))
    sizes = sizes_of_decoder(planned.model.decoder) if planned.model.decoder else None
    told = estimate_memory(contents_of_artifact(item.artifact, sizes), context=asked.context)
    footprint = max(seen["anonymous_peak_bytes"], seen["with_tokenizer"]["anonymous_bytes"])
    name = f"{planned.recipe.name} {item.artifact.name}"
    return [
        row(name, "peak", told.peak, seen["high_water_bytes"]),
        row(name, "footprint", told.footprint, footprint),
    ]


def main() -> int:
    """Print the table; 1 if an estimate is off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", type=Path, default=RECIPES)
    print(f"{'MiB':42}{'estimate':>9} {'measured':>9} {'off':>8} {'':8} {'in its':>7}")
    good = []
    for path in parser.parse_args().recipes:
        planned = make_plan(path, weights=True)
        for item in artifacts(planned):
            good += compare(planned, item)
    print(f"{sum(good)} of {len(good)} within 5 % or 20 MiB")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
