"""Our files against other tools' at the same bytes, each run by its own runtime.

    python benchmarks/better_bits.py --all                   the table of docs/measured/bits.md
    python benchmarks/better_bits.py --only onnx coreml
    python benchmarks/better_bits.py --model my-model.gguf --only gguf --methods gptq
    python benchmarks/better_bits.py --calibration a.txt --evaluation b.txt --windows 80

llama.cpp rounds with an importance matrix of the same calibration text; onnxruntime's and
coremltools' quantizers get our float graph and package, since what they are asked for is rounding.
Ours: the same number format by GPTQ and by learned rounding, and number formats chosen for the very
bytes of the peer's file. Core ML packages are run by our executor. Rows are kept in `--data`: what
is there already is not measured again, so that a run that was stopped goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

if __name__ == "__main__":
    from benchmarks.bits.bench import main

    main()
