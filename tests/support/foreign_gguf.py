"""GGUF files of architectures that llama.cpp knows, made from small models of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import write_gguf
from edgeq.quantize.ggml.types import TYPES
from tests.support import tiny_decoders
from tests.support.gguf_artifacts import write_file

Arrays = dict[str, np.ndarray]


def rewritten(source: Path, out: Path, arch: str, facts: dict[str, int], made: Arrays) -> Path:
    """A file of floats as another architecture. made: tensors in place of those of the same kind,
    `ffn_gate_exps` for `ffn_gate`.
    """
    header = read_header(source)
    own = str(header.get("general.architecture"))
    metadata = {k.replace(f"{own}.", f"{arch}."): v for k, v in header.metadata.items()}
    metadata["general.architecture"] = MetaValue("string", arch)
    metadata |= {f"{arch}.{key}": MetaValue("uint32", value) for key, value in facts.items()}
    arrays: Arrays = {}
    for name, entry in header.tensors.items():
        if not any(name.replace(".weight", "_exps.weight") == each for each in made):
            values = np.fromfile(source, np.float32, entry.nbytes // 4, offset=entry.offset)
            arrays[name] = values.reshape(entry.shape)
    arrays |= made
    specs = [(name, values.shape, TYPES["F32"]) for name, values in arrays.items()]
    write_gguf(out, metadata, specs, lambda name: iter([arrays[name].reshape(-1).view(np.uint8)]))
    return out


def make_foreign(folder: Path) -> Path:
    """A model of an architecture that llama.cpp knows and edgeq does not."""
    source = write_file(tiny_decoders.make(folder / "m", "llama"), folder / "llama.gguf")
    return rewritten(source, folder / "foreign.gguf", "internlm2", {}, {})


def make_mixture(folder: Path, **overrides: Any) -> Path:
    """A mixture of four experts, two for each token. overrides: settings of config.json."""
    model = tiny_decoders.make(folder / "m", "qwen3", **overrides)
    source = write_file(model, folder / "qwen3.gguf")
    tensors = read_header(source).tensors
    rng, made = np.random.default_rng(0), {}
    for name in [name for name in tensors if "ffn_" in name and "norm" not in name]:
        shape = (4, *tensors[name].shape)
        own = name.replace(".weight", "_exps.weight")
        made[own] = 0.1 * rng.standard_normal(shape, np.float32)
        if "gate" in name:
            router = name.replace("ffn_gate", "ffn_gate_inp")
            made[router] = rng.standard_normal((4, shape[-1]), np.float32)
    width = tensors["blk.0.ffn_up.weight"].shape[0]
    facts = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": width}
    return rewritten(source, folder / "mixture.gguf", "qwen3moe", facts, made)
