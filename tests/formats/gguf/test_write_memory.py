"""Writing a GGUF file takes memory for one tensor, not for the model."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.models.architectures import decoder_of

WREN = Path(__file__).parents[3] / "recipes" / "wren"
Floats = np.ndarray[Any, np.dtype[np.float32]]


MEMORY = """
import sys, threading
from pathlib import Path
from edgeq.formats.gguf.write import write_gguf_model
from edgeq.quantize.ggml.types import TYPES, nbytes
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.formats.gguf.decide import GgufDecision

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024

source, destination, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
directory = read_directory(source, "test")
shapes = decoder_of(directory.config, "test").tensors()
chosen = lambda shape: TYPES[name if len(shape) > 1 else "F32"]
decisions = {
    n: GgufDecision(chosen(s), chosen(s).name, "nearest", "", nbytes(chosen(s), s))
    for n, s in shapes.items()
}
start, peak, done = None, 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, anonymous())

def progress(step):
    global start
    if start is None and step != "compare token ids":  # the library and the tokenizer are loaded
        start = anonymous()

threading.Thread(target=watch, daemon=True).start()
write_gguf_model(directory, destination, decisions, {}, None, mix=name, progress=progress)
done.set()
print(peak - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.mkdir()
    size = save_large(source, hidden=1024, layers=13, wide=2816)
    assert size > 280 << 20
    command = [sys.executable, "-c", textwrap.dedent(MEMORY)]
    arguments = [str(source), str(tmp_path / "large.gguf"), "Q8_0"]
    run = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=True, timeout=100
    )
    assert int(run.stdout) < 60 << 20


def save_large(folder: Path, hidden: int, layers: int, wide: int) -> int:
    """Wren with more and wider layers of float16 zeros and ones, written without holding them."""
    for file in WREN.glob("*.json"):
        shutil.copyfile(file, folder / file.name)
    config = json.loads((WREN / "config.json").read_text())
    config.update(hidden_size=hidden, num_hidden_layers=layers, intermediate_size=wide)
    config.update(num_attention_heads=hidden // 64, num_key_value_heads=hidden // 128)
    (folder / "config.json").write_text(json.dumps(config))
    entries, offset = {}, 0
    for name, shape in decoder_of(config, "large").tensors().items():
        length = 2 * int(np.prod(shape))
        entries[name] = {
            "dtype": "F16",
            "shape": shape,
            "data_offsets": [offset, offset + length],
        }
        offset += length
    header = json.dumps(entries).encode()
    pattern = np.tile(np.array([0, 1, 0.5, -1], np.float16), 1 << 18).tobytes()
    with (folder / "model.safetensors").open("wb") as out:
        out.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, offset, len(pattern)):
            out.write(pattern[: offset - start])
    return offset
