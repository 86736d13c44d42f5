"""Time and memory of rounding a language model to four bits, on random models that grow.

    python benchmarks/rounding.py                      hidden sizes 128, 256, 512
    python benchmarks/rounding.py --hidden 256 512 1024 --layers 4 --windows 32
    python benchmarks/rounding.py --hidden 256 --layers 2 --vocabulary 1000 32000 128000

Each model is made, calibrated and rounded in a process of its own, with all the cores there are.
CPU seconds are of all cores together, so that other work beside changes them little. Memory is the
growth of the high-water mark over that of the imports. In depth both should follow the model's
size: the same seconds per million weights, the same MiB. In width memory should follow the size of
a layer. Time cannot quite: making up for a weight's error in all other columns, and the moments to
do so by, take work in proportion to the columns, so that GPTQ's time per weight and column, the
table's "ns per weight and column", is what must not grow. Columns are the mean over weights. The
vocabulary's table is the output layer, too, and rounded with the rest. The last column is the time
that progress said was left after a quarter of it, as a share of what it took. On one core, without
time spent on waiting for other threads:

    OPENBLAS_NUM_THREADS=1 taskset -c 0 python benchmarks/rounding.py ...
"""

from __future__ import annotations

import argparse
import json
import math
import re
import resource
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from time import perf_counter as clock
from time import process_time

import numpy as np

TOKENS = 256


def make(folder: Path, hidden: int, layers: int, vocabulary: int) -> None:
    """A random llama of `hidden` columns, its feed-forward layer three times as wide."""
    shape = {
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "vocab_size": vocabulary,
        "max_position_embeddings": TOKENS,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "model_type": "llama",
    }
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")


def graph(folder: Path) -> int:
    """Write the float graph with random weights; returns how many weights there are."""
    from safetensors.numpy import save_file

    from edgeq.models.architectures import decoder_of
    from edgeq.models.graphs.decoder_graph import DecoderGraph
    from edgeq.models.graphs.decoder_rope import rotations
    from edgeq.models.graphs.rewriting import save_model
    from edgeq.models.weights import Weights

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    decoder = decoder_of(config, "config.json")
    random = np.random.default_rng(0)
    weights = {}
    for name, form in decoder.tensors().items():
        spread = form[-1] ** -0.5 if len(form) > 1 else 0.1
        drawn = random.standard_normal(form, np.float32) * np.float32(spread)
        weights[name] = drawn + np.float32(len(form) == 1)
    save_file(weights, folder / "model.safetensors")
    model = DecoderGraph(decoder, Weights([folder / "model.safetensors"]), TOKENS)
    save_model(model.build(rotations(decoder)), folder / "model.onnx")
    return sum(weight.size for weight in weights.values())


def measure(hidden: int, layers: int, vocabulary: int, windows: int) -> dict[str, float]:
    """Seconds and bytes of rounding one model; runs alone in its process."""
    from edgeq.models.architectures import decoder_of
    from edgeq.models.graphs.decoder_onnx import decoder_feeds
    from edgeq.models.graphs.rounding import find_codes
    from edgeq.quantize.decide import Decision
    from edgeq.quantize.model import Choice

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, hidden, layers, vocabulary)
        count = subprocess.run(
            [sys.executable, __file__, "--graph", place], check=True, capture_output=True, text=True
        ).stdout
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        random = np.random.default_rng(1)
        ids = random.integers(0, vocabulary, (windows, TOKENS)).tolist()
        feeds = decoder_feeds(decoder_of(config, "config.json"), ids)
        choice = Choice("int4-b32", "gptq", "float32", None)
        decision = Decision(choice, "benchmark")
        kept = Decision(None, "small")

        def decide(name: str, shape: tuple[int, ...]) -> Decision:
            return decision if "proj" in name or "embed" in name else kept

        said: list[tuple[float, str]] = []
        before = peak_bytes()
        start, busy = clock(), process_time()
        codes = find_codes(folder, decide, feeds, lambda step: said.append((clock() - start, step)))
        seconds, busy = clock() - start, process_time() - busy
    sizes = [tensor.codes.shape for tensor in codes.values()]
    return {
        "weights": int(count),
        "products": sum(rows * columns * columns for rows, columns in sizes),
        "seconds": seconds,
        "cpu": busy,
        "bytes": peak_bytes() - before,
        "left": foretold(said, seconds),
    }


def foretold(said: list[tuple[float, str]], seconds: float) -> float:
    """The time that was said to be left a quarter of the time in, as a share of what it took."""
    for at, step in said:
        found = re.search(r"about ([0-9]+) (s|min) left", step)
        if found and at > seconds / 4:
            return int(found[1]) * (60 if found[2] == "min" else 1) / (seconds - at)
    return math.nan


def peak_bytes() -> int:
    """The most resident memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure each size in its own process and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[1000])
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--graph", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.graph:
        print(graph(given.graph))
        return
    if given.alone:
        print(
            json.dumps(
                measure(given.hidden[0], given.layers[0], given.vocabulary[0], given.windows)
            )
        )
        return
    print("                                      CPU s per  CPU ns per weight  peak  float  said /")
    print(
        "hidden  layers  tokens  weights      s    M weights   and column        MiB  model MiB"
        "  taken"
    )
    for hidden, layers, vocabulary in product(given.hidden, given.layers, given.vocabulary):
        words = ["--hidden", hidden, "--layers", layers, "--vocabulary", vocabulary]
        words += ["--windows", given.windows]
        command = [sys.executable, __file__, "--alone", *map(str, words)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(ran.stdout)
        millions = found["weights"] / 1e6
        print(
            f"{hidden:6}  {layers:6}  {vocabulary:6}  {millions:6.2f}M  {found['seconds']:5.1f}"
            f"  {found['cpu'] / millions:9.2f}  {found['cpu'] / found['products'] * 1e9:12.3f}"
            f"  {found['bytes'] / 2**20:9.0f}  {millions * 4e6 / 2**20:9.0f}"
            f"  {found['left']:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
