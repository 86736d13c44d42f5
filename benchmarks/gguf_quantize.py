"""Quantizing a large F16 model: edgeq against llama.cpp's own quantizer, on the same cores.

    python benchmarks/gguf_quantize.py --llama-python PYTHON [--size 1024] [--mixes Q4_K_M,Q8_0]

PYTHON is an interpreter that has llama-cpp-python. A Llama of random weights is made in a temporary
directory; then, one after the other and as often as asked, a fresh process of each quantizes it.
Printed: the seconds of both without starting up, their ratio (above 1 edgeq is faster), the same of
the time of all threads together, which other work on the machine changes less; the memory of
edgeq's process (highest sample of its anonymous memory; high-water mark of all its memory, which
includes libraries), and whether the files are equal byte for byte.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import TensorSpec, write_gguf
from edgeq.quantize.ggml.mixes import file_type
from edgeq.quantize.ggml.types import TYPES

ORACLE = Path(__file__).parents[1] / "tests" / "llama_oracle.py"
WIDTH, INNER, HEADS, KV_HEADS, VOCABULARY = 2048, 5632, 32, 8, 32000
MIB = 1 << 20
OURS = """
import sys, time
from pathlib import Path
from edgeq.formats.gguf.requantize import quantize_file
start, cpu = time.perf_counter(), time.process_time()
quantize_file(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], threads=int(sys.argv[4]))
print(time.perf_counter() - start, time.process_time() - cpu)
print(open("/proc/self/status").read())
"""


@dataclass(frozen=True)
class Run:
    """Seconds, and those of all threads together; highest sample of anonymous memory, in MiB, and
    the high-water mark of all memory.
    """

    seconds: float
    cpu: float
    anonymous: float = 0.0
    resident: float = 0.0


def specs(layers: int) -> list[TensorSpec]:
    """Tensors of a Llama with that many layers."""
    half, full = TYPES["F16"], TYPES["F32"]
    found: list[TensorSpec] = [("token_embd.weight", (VOCABULARY, WIDTH), half)]
    for layer in range(layers):
        keys = WIDTH // HEADS * KV_HEADS
        shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (keys, WIDTH), "attn_v": (keys, WIDTH)}
        shapes |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH)}
        shapes |= {"ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
        found += [(f"blk.{layer}.{part}.weight", shape, half) for part, shape in shapes.items()]
        found += [(f"blk.{layer}.{x}_norm.weight", (WIDTH,), full) for x in ("attn", "ffn")]
    return [*found, ("output_norm.weight", (WIDTH,), full)]


def make_model(path: Path, mib: int) -> int:
    """A Llama of at least `mib` MiB in F16; returns its size in bytes."""
    layers = 1
    while sum(_bytes(spec) for spec in specs(layers)) < mib * MIB:
        layers += 1
    numbers = {"block_count": layers, "context_length": 2048, "embedding_length": WIDTH}
    numbers |= {"feed_forward_length": INNER, "attention.head_count": HEADS}
    numbers |= {"attention.head_count_kv": KV_HEADS, "vocab_size": VOCABULARY}
    metadata = {"general.architecture": MetaValue("string", "llama")}
    metadata |= {f"llama.{key}": MetaValue("uint32", value) for key, value in numbers.items()}
    metadata["llama.attention.layer_norm_rms_epsilon"] = MetaValue("float32", 1e-5)
    tensors = specs(layers)
    by_name = {spec[0]: spec for spec in tensors}
    rng = np.random.default_rng(0)

    def chunks(name: str) -> Iterator[np.ndarray]:
        _, shape, type = by_name[name]
        for _ in range(shape[0] if len(shape) > 1 else 1):
            row = rng.standard_normal(shape[-1], np.float32) * np.float32(0.02)
            yield row.astype(np.float16) if type.name == "F16" else row

    write_gguf(path, metadata, tensors, chunks)
    return path.stat().st_size


def _bytes(spec: TensorSpec) -> int:
    return int(np.prod(spec[1])) * spec[2].block_bytes


def run_ours(source: Path, destination: Path, mix: str, threads: int) -> Run:
    """A fresh process of edgeq; its anonymous memory is sampled every 10 ms."""
    command = [sys.executable, "-c", OURS, str(source), str(destination), mix, str(threads)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        anonymous = 0
        while process.poll() is None:
            anonymous = max(anonymous, _status(process.pid, "RssAnon"))
            time.sleep(0.01)
        said = process.stdout.read().splitlines() if process.stdout else []
    resident = next(int(line.split()[1]) for line in said if line.startswith("VmHWM"))
    seconds, cpu = map(float, said[0].split())
    return Run(seconds, cpu, anonymous / 1024, resident / 1024)


def _status(process: int, field: str) -> int:
    """KiB of a field of /proc/PID/status; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def run_theirs(python: str, source: Path, destination: Path, mix: str, threads: int) -> Run:
    """A fresh process of llama.cpp."""
    job = {"source": str(source), "destination": str(destination), "file_type": file_type(mix)}
    done = subprocess.run(
        [python, str(ORACLE)],
        input=json.dumps([{**job, "threads": threads}]),
        capture_output=True,
        text=True,
        check=True,
    )
    (answer,) = json.loads(done.stdout.splitlines()[-1])
    if answer["failure"]:
        raise SystemExit(answer["failure"])
    return Run(answer["seconds"], answer["cpu"])


def compare(source: Path, python: str, mix: str, threads: int, repeats: int) -> None:
    """Both in turn, and what came of it."""
    files = {who: source.with_name(f"{who}.gguf") for who in ("edgeq", "llama.cpp")}
    runs: dict[str, list[Run]] = {who: [] for who in files}
    for turn in range(repeats):
        for who in files if turn % 2 else reversed(files):
            if who == "edgeq":
                run = run_ours(source, files[who], mix, threads)
            else:
                run = run_theirs(python, source, files[who], mix, threads)
            runs[who].append(run)
    ours, theirs = (statistics.median(run.seconds for run in runs[who]) for who in files)
    cpu = [statistics.median(run.cpu for run in runs[who]) for who in files]
    first, second = files.values()
    equal = filecmp.cmp(first, second, shallow=False)
    each = ", ".join(f"{who} {[round(run.seconds, 2) for run in runs[who]]}" for who in files)
    print(
        f"{mix}: edgeq {ours:.2f} s, llama.cpp {theirs:.2f} s, ratio {theirs / ours:.2f} "
        f"({each}); of all threads {cpu[0]:.2f} and {cpu[1]:.2f} s, ratio {cpu[1] / cpu[0]:.2f}\n"
        f"  anonymous memory {max(run.anonymous for run in runs['edgeq']):.0f} MiB, "
        f"high-water mark {max(run.resident for run in runs['edgeq']):.0f} MiB; "
        f"files {'equal' if equal else 'DIFFERENT'}",
        flush=True,
    )


def main() -> None:
    """Make the model and compare each mix."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-python", required=True, help="interpreter with llama-cpp-python")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the F16 model")
    parser.add_argument("--mixes", default="Q4_K_M", help="names of mixes, with commas")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "f16.gguf")
        size = make_model(source, given.size)
        print(f"{size / MIB:.0f} MiB of F16, {given.threads} threads", flush=True)
        for mix in given.mixes.split(","):
            compare(source, given.llama_python, mix, given.threads, given.repeats)


if __name__ == "__main__":
    main()
