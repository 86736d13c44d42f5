"""What loading a bundle costs here, compared with another version of edgeq.

    python benchmarks/load_cost.py minilm.zip OTHER_SOURCE other.zip

OTHER_SOURCE: a folder with the other version's `edgeq`; other.zip: its bundle of the same model.
Each load is one of a fresh process that has loaded the bundle once before; versions alternate.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PAIRS = 15
_LOAD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import edgeq
for name in ("first", "again"):
    clock, processor = time.perf_counter(), time.process_time()
    edgeq.load(Path(sys.argv[2]))
    print(time.perf_counter() - clock, time.process_time() - processor)
"""


def loads(source: Path, bundle: Path) -> list[float]:
    """Seconds by the clock and of a processor, of the first load in a process and the second."""
    command = [sys.executable, "-c", _LOAD, str(source), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main(bundle: Path, other_source: Path, other_bundle: Path) -> None:
    """Print medians of both versions, and of the ratio of each pair."""
    pairs = [(loads(ROOT, bundle), loads(other_source, other_bundle)) for _ in range(_PAIRS)]
    names = ("first, by the clock", "first, processor", "again, by the clock", "again, processor")
    for index, name in enumerate(names):
        here, other = ([pair[side][index] for pair in pairs[1:]] for side in (0, 1))
        ratio = statistics.median(a / b for a, b in zip(here, other, strict=True))
        mid = statistics.median
        print(f"{name}: {mid(here):.3f} s, other {mid(other):.3f} s, ratio {ratio:.3f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
