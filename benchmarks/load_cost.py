"""What loading a bundle costs here, compared with another version of edgeq.

    python benchmarks/load_cost.py minilm.zip OTHER_SOURCE other.zip

OTHER_SOURCE: a folder with the other version's `edgeq`; other.zip: its bundle of the same model.
Each load is in a fresh process, after one that has filled the cache; versions alternate, each with
a cache of its own, and with its own code in the processes that it starts.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PAIRS = 15
_LOAD = """
import sys, time
from pathlib import Path
import edgeq
assert Path(edgeq.__file__).is_relative_to(sys.argv[1]), edgeq.__file__
for name in ("first", "again"):
    clock, processor = time.perf_counter(), time.process_time()
    edgeq.load(Path(sys.argv[2]))
    print(time.perf_counter() - clock, time.process_time() - processor)
"""


def loads(source: Path, bundle: Path, cache: Path) -> list[float]:
    """Seconds by the clock and of a processor, of the first load in a process and the second."""
    command = [sys.executable, "-c", _LOAD, str(source), str(bundle.resolve())]
    own = {"PYTHONPATH": str(source), "EDGEQ_CACHE": str(cache / source.name)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=source, env={**os.environ, **own}
    )
    return [float(word) for word in done.stdout.split()]


def main(bundle: Path, other_source: Path, other_bundle: Path) -> None:
    """Print medians of both versions, and of the ratio of each pair."""
    sides = ((ROOT, bundle), (other_source.resolve(), other_bundle))
    with tempfile.TemporaryDirectory() as cache:
        pairs = [[loads(*side, Path(cache)) for side in sides] for _ in range(_PAIRS)]
    names = ("first, by the clock", "first, processor", "again, by the clock", "again, processor")
    for index, name in enumerate(names):
        here, other = ([pair[side][index] for pair in pairs[1:]] for side in (0, 1))
        ratio = statistics.median(a / b for a, b in zip(here, other, strict=True))
        mid = statistics.median
        print(f"{name}: {mid(here):.3f} s, other {mid(other):.3f} s, ratio {ratio:.3f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
