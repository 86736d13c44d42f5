"""Small models, by names and shapes alone, that llama.cpp's rules for mixes treat differently."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import write_gguf
from edgeq.quantize.ggml.mixes import MixFacts, file_type
from edgeq.quantize.ggml.types import TYPES

PYTHON = "EDGEQ_LLAMA_CPP_PYTHON"
"""The environment variable that names an interpreter with llama-cpp-python."""

_ORACLE = Path(__file__).with_name("llama_oracle.py")
_ROWS = 2
_DENSE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_MIXTURE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp")


@dataclass(frozen=True)
class Case:
    """A model: what rules look at, the widths of its rows, and the kinds of tensors of a layer.

    tied: whether there is no `output.weight`. others: names of tensors outside of layers.
    """

    name: str
    facts: MixFacts
    width: int = 256
    inner: int = 256
    tied: bool = False
    parts: Sequence[str] = _DENSE
    others: Sequence[str] = ()

    @property
    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes, rows first."""
        found: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (4, self.width))]
        found += [(name, (_ROWS, self.width)) for name in self.others]
        found += [("output_norm.weight", (self.width,))]
        if not self.tied:
            found += [("output.weight", (4, self.width))]
        for layer in range(self.facts.layers):
            found += [(f"blk.{layer}.attn_norm.weight", (self.width,))]
            for part in self.parts:
                columns = self.inner if "ffn_down" in part else self.width
                name = f"blk.{layer}.{part}"
                if part.endswith(".bias"):
                    found += [(name, (columns,))]
                elif part.endswith("exps"):
                    found += [(f"{name}.weight", (self.facts.experts, _ROWS, columns))]
                else:
                    found += [(f"{name}.weight", (_ROWS, columns))]
        return found

    @property
    def metadata(self) -> dict[str, MetaValue]:
        """What llama.cpp's quantizer wants to read before it looks at tensors."""
        facts, arch = self.facts, self.facts.architecture
        numbers = {
            "block_count": facts.layers,
            "context_length": 64,
            "embedding_length": self.width,
            "feed_forward_length": self.inner,
            "attention.head_count": facts.heads,
            "attention.head_count_kv": facts.kv_heads,
            "attention.key_length": 32,
            "attention.value_length": 32,
            "rope.dimension_count": 32,
            "attention.sliding_window": 16,
            "vocab_size": 4,
        }
        if facts.experts:
            numbers |= {"expert_count": facts.experts, "expert_used_count": 2}
            numbers |= {"expert_feed_forward_length": self.inner}
        values = {f"{arch}.{key}": MetaValue("uint32", number) for key, number in numbers.items()}
        values[f"{arch}.attention.layer_norm_rms_epsilon"] = MetaValue("float32", 1e-5)
        values[f"{arch}.attention.layer_norm_epsilon"] = MetaValue("float32", 1e-5)
        values[f"{arch}.attention.causal"] = MetaValue("bool", True)
        return {"general.architecture": MetaValue("string", arch), **values}

    def write(self, path: Path, seed: int | None = None, kind: str = "F32") -> Path:
        """A file of it; weights are 0 without a seed. One-dimensional tensors are F32."""
        rng = None if seed is None else np.random.default_rng(seed)
        shapes = dict(self.tensors)
        stored = {name: TYPES[kind if len(shape) > 1 else "F32"] for name, shape in shapes.items()}

        def chunks(name: str) -> list[np.ndarray]:
            values = np.zeros(shapes[name], np.float32)
            if rng is not None:
                values = rng.standard_normal(shapes[name]).astype(np.float32) * np.float32(0.05)
            if stored[name].name == "F16":
                return [values.astype(np.float16)]
            if stored[name].name == "BF16":
                return [(values.view(np.uint32) >> 16).astype(np.uint16)]
            return [values]

        write_gguf(path, self.metadata, [(n, s, stored[n]) for n, s in shapes.items()], chunks)
        return path

    def importance(self, seed: int) -> dict[str, np.ndarray]:
        """Importance, float32, for all tensors of layers: `(columns,)`, or of experts their own."""
        rng = np.random.default_rng(seed)
        found = {}
        for name, shape in self.tensors:
            if name.startswith("blk.") and len(shape) > 1:
                columns = (*shape[:-2], shape[-1])
                found[name] = rng.random(columns).astype(np.float32) + np.float32(1e-3)
        return found


def _case(name: str, arch: str, layers: int, heads: int, kv: int, **more: Any) -> Case:
    experts = more.pop("experts", 0)
    return Case(name, MixFacts(arch, layers, heads, kv, experts), **more)


_EXPERTS = (*_MIXTURE, "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
_FEW = ("attn_v", "ffn_down")
_BIASES = tuple(f"{part}.bias" for part in ("attn_q", "attn_k", "attn_v"))
CASES = {
    case.name: case
    for case in (
        _case("llama", "llama", 18, 8, 8),
        _case("llama-tied-shared", "llama", 10, 8, 2, tied=True),
        _case("llama-576", "llama", 9, 9, 3, width=576, inner=1536, tied=True),
        _case("llama-288", "llama", 8, 8, 2, width=288, inner=768),
        _case("llama-odd", "llama", 3, 4, 1, width=100, inner=160),
        _case("llama-70b", "llama", 80, 8, 1, parts=_FEW),
        _case("llama-65b", "llama", 80, 8, 8, parts=_FEW),
        _case("mixtral", "llama", 9, 8, 2, experts=8, parts=_EXPERTS),
        _case("qwen2", "qwen2", 8, 14, 2, width=896, inner=512, tied=True, parts=_DENSE + _BIASES),
        _case("qwen2-80", "qwen2", 80, 8, 8, parts=_FEW),
        _case("qwen3", "qwen3", 7, 8, 4, parts=(*_DENSE, "attn_q_norm", "attn_k_norm")),
        _case("qwen3moe", "qwen3moe", 9, 8, 2, experts=16, parts=_EXPERTS),
        _case("gemma2", "gemma2", 8, 8, 4, tied=True),
        _case("gemma3", "gemma3", 8, 4, 1, tied=True),
        _case(
            *("phi3", "phi3", 8, 8, 8),
            parts=("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
        ),
        _case(
            *("bert", "bert", 6, 12, 12),
            width=384,
            inner=1536,
            tied=True,
            parts=("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"),
            others=("position_embd.weight", "token_types.weight"),
        ),
        _case("deci-80", "deci", 80, 8, 8, parts=_FEW),
        _case("olmo-80", "olmo", 80, 8, 8, parts=_FEW),
        _case("qwen3-80", "qwen3", 80, 8, 1, parts=_FEW),
    )
}


def job(source: Path, destination: Path, mix: str, **more: Any) -> dict[str, Any]:
    """A job for the oracle."""
    paths = {"source": str(source), "destination": str(destination)}
    return {**paths, "file_type": file_type(mix), **more}


def interpreter() -> str | None:
    """An interpreter with llama-cpp-python: the named one, or this one if it has it."""
    import importlib.util
    import sys

    named = os.environ.get(PYTHON)
    return named or (sys.executable if importlib.util.find_spec("llama_cpp") else None)


def ask(python: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let llama.cpp do the jobs."""
    command = [python, str(_ORACLE)]
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers
