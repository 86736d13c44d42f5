"""GGUF files and artifacts of small models, as a build makes them but without plan and store."""

from __future__ import annotations

from pathlib import Path

import edgeq
from edgeq.core.artifact import (
    GGUF_FILE,
    Artifact,
    ModelRecord,
    TextSettings,
    ValueInfo,
    record_files,
    write_artifact,
)
from edgeq.core.known_settings import KV_KEY
from edgeq.core.kv_cache import KvType
from edgeq.formats.gguf.decide import GgufDecision
from edgeq.formats.gguf.model import GgufLanguageModel
from edgeq.formats.gguf.write import write_gguf_model
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.quantize.ggml.types import TYPES, fallback, nbytes

WREN = Path(__file__).parents[2] / "recipes" / "wren"
_UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


def write_file(source: Path, destination: Path, type_name: str = "F32") -> Path:
    """The model in `source` as one GGUF file, its matrices in one type, the rest in float32."""
    directory = read_directory(source, str(source))
    tensors = {name: facts.shape for name, facts in directory.tensors.items()}
    if "num_key_value_heads" in directory.config or "rms_norm_eps" in directory.config:
        tensors = decoder_of(directory.config, str(source)).tensors()
    decisions = {}
    for name, shape in tensors.items():
        if name in _UNUSED:
            continue
        wanted = TYPES[type_name] if len(shape) > 1 else TYPES["F32"]
        kept = fallback(wanted, shape[-1])
        method = "none" if kept.name == "F32" else "nearest"
        decisions[name] = GgufDecision(kept, kept.name, method, "default", nbytes(kept, shape))
    write_gguf_model(directory, destination, decisions, {}, None, mix=type_name, progress=str)
    return destination


def gguf_artifact(
    source: Path, folder: Path, type_name: str = "F32", kv: KvType | None = None
) -> Path:
    """The same with its record, in the new directory `folder`. kv: the type of its KV cache."""
    folder.mkdir(parents=True)
    write_file(source, folder / GGUF_FILE, type_name)
    directory = read_directory(source, str(source))
    is_encoder = directory.config["model_type"] == "bert"
    width = directory.hidden_size
    task = "sentence-embedding" if is_encoder else "text-generation"
    longest = directory.max_tokens if is_encoder else directory.config["max_position_embeddings"]
    vector = ValueInfo(name="sentence_embedding", dtype="float32", shape=(1, width))
    write_artifact(
        folder,
        Artifact(
            name=f"gguf-{type_name}",
            format="gguf",
            variant=type_name,
            task=task,
            model=ModelRecord(source=source.name, sha256="0" * 64),
            inputs=(ValueInfo(name="input_ids", dtype="int64", shape=(1, "tokens")),),
            outputs=(vector,) if is_encoder else (),
            text=TextSettings(max_tokens=longest),
            dimension=width if is_encoder else None,
            weight_bytes=(folder / GGUF_FILE).stat().st_size,
            tensors={},
            settings={KV_KEY: kv} if kv else {},
            files=record_files(folder, [GGUF_FILE]),
            tools={},
        ),
    )
    return folder


def load(path: Path, context: int | None = None, threads: int = 1) -> GgufLanguageModel:
    """The language model in a file, an artifact or a bundle."""
    model = edgeq.load(path, threads=threads, context=context)
    assert isinstance(model, GgufLanguageModel)
    return model
