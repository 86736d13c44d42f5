"""What a language model carries on: its type, and the bytes that llama.cpp allocates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")


from edgeq.core.artifact import ARTIFACT_FILE, seal
from edgeq.core.errors import InvalidInput
from edgeq.core.kv_cache import KvType
from edgeq.measure.scoring import score
from edgeq.quantize.ggml.llama_abi import LogCallback
from edgeq.quantize.ggml.llama_api import library
from tests.support import tiny_decoders
from tests.support.gguf_artifacts import WREN, gguf_artifact, load, write_file


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines llama.cpp writes meanwhile."""
    lines: list[str] = []
    listening = LogCallback(lambda level, text, user: lines.append(text.decode()))
    llama = library()
    llama.lib.llama_log_set(listening, None)
    yield lines
    llama.lib.llama_log_set(llama._log.callback, None)


def allocated(lines: list[str]) -> float:
    """MiB that llama.cpp says it has allocated for keys and values, and for other states."""
    buffers = [line for line in lines if "KV buffer size" in line or "RS buffer size" in line]
    sizes = [line.split("size =")[1].split("MiB")[0] for line in buffers]
    assert sizes
    return sum(map(float, sizes))


@pytest.mark.parametrize("context", [20, 256, 257, 1000])
@pytest.mark.parametrize("precision", ["plain", "small"])
def test_cache_bytes_are_what_is_allocated(
    precision: str, context: int, request: pytest.FixtureRequest, said: list[str]
) -> None:
    model = load(request.getfixturevalue(precision), context=context)
    model.prefill([1, 2, 3])
    assert model.cache_bytes(context) == allocated(said) * 2**20
    assert model.cache_type == {"plain": "f32", "small": "f16"}[precision]


@pytest.mark.parametrize(("kv", "most"), [("q8_0", 1e-3), ("q4_0", 0.1)])
def test_a_record_names_the_type_of_the_cache(
    kv: KvType, most: float, small: Path, tmp_path: Path, said: list[str]
) -> None:
    """llama.cpp says what it allocated; a text read from it is scored a little differently."""
    path = gguf_artifact(WREN, tmp_path / kv, "Q8_0", kv)
    model = load(path, context=300)
    found = model.last_logits(list(range(300)), 100)
    assert model.cache_bytes(300) / 2**20 == pytest.approx(allocated(said), abs=0.01)
    assert any(f"K ({kv})" in line and f"V ({kv})" in line for line in said)
    usual = load(small, context=300).logits(list(range(300)))[-100:]
    assert 0 < score(usual, found, [0] * 100).kl.mean() < most


def test_a_record_with_an_unknown_type_of_cache_is_refused(small: Path, tmp_path: Path) -> None:
    record = json.loads((small / ARTIFACT_FILE).read_bytes())
    del record["digest"]
    (tmp_path / ARTIFACT_FILE).write_bytes(seal({**record, "settings": {"kv": "q9_9"}}))
    with pytest.raises(InvalidInput, match="'f32', 'f16', 'q8_0' or 'q4_0'"):
        load(tmp_path)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "gpt_oss", "qwen3"])
def test_windowed_layers_keep_their_window(family: str, tmp_path: Path, said: list[str]) -> None:
    """Of windowed layers where llama.cpp keeps fewer positions, and where it keeps all."""
    pytest.importorskip("transformers", reason="the build side is not installed")
    longer = {"max_position_embeddings": 2048, "num_hidden_layers": 7}
    source = tiny_decoders.make(tmp_path / "model", family, **longer)
    model = load(write_file(source, tmp_path / "a.gguf", "Q8_0"), context=2048)
    model.prefill([1, 2, 3])
    assert model.cache_bytes(2048) / 2**20 == pytest.approx(allocated(said), abs=0.01)


def test_convolutions_carry_on_a_few_positions(tmp_path: Path, said: list[str]) -> None:
    """Token by token as the whole text, and the memory that llama.cpp allocates for it."""
    pytest.importorskip("transformers", reason="the build side is not installed")
    layers = ["conv"] * 15 + ["full_attention"]
    wide = {"layer_types": layers, "num_hidden_layers": 16, "conv_L_cache": 8}
    source = tiny_decoders.make(tmp_path / "model", "lfm2", **wide)
    model = load(write_file(source, tmp_path / "a.gguf", "F32"))
    ids = np.random.default_rng(0).integers(3, model.vocabulary, 40)
    model.prefill(ids[::-1])
    assert model.cache_bytes(model.context) / 2**20 == pytest.approx(allocated(said), abs=0.01)
    expected = model.logits(ids)
    stepped = [model.prefill(ids[:1]), *(model.step(int(token)) for token in ids[1:])]
    assert np.abs(np.stack(stepped) - expected).max() < 1e-4 < np.abs(expected).max()
