"""A GGUF file as a source: the directory that it is unpacked into is the model that it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

from tokenizers import Tokenizer

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import TensorEntry, read_header
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.source.directory import notes_of, unpacked
from edgeq.formats.gguf.source.tokenizer import tokenizer_of
from edgeq.formats.gguf.source.weights import float_rows
from edgeq.formats.gguf.tokens import TokenType
from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import write_gguf
from edgeq.formats.hard_texts import ORDINARY_TEXTS
from edgeq.formats.tokenizer import open_tokenizer
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.models.weights import open_weights
from edgeq.quantize.ggml.types import TYPES
from tests.formats.gguf.test_write import open_model, write
from tests.support import tiny_decoders

CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"attention_bias": True}),
    ("smollm2", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    ("llama3", {}),
    ("qwen2", {}),
    ("qwen3", {}),
    ("gemma2", {}),
    ("gemma3_text", {"final_logit_softcapping": 30.0}),
    ("smollm3", {"rope_scaling": tiny_decoders.YARN}),
    ("granite", {}),
    ("olmo2", {}),
    ("glm4", {}),
    ("lfm2", {"conv_L_cache": 4}),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("family", "overrides"), CASES, ids=[case[0] for case in CASES])
def test_configuration_weights_and_tokens_are_those_of_the_model(
    tmp_path: Path, family: str, overrides: dict[str, Any]
) -> None:
    if family == "llama3":  # only published scalings can be told from their divisors
        rope = {**tiny_decoders.LLAMA3_ROPE, "original_max_position_embeddings": 8192}
        overrides = {"rope_scaling": rope, "max_position_embeddings": 16384}
    source = tiny_decoders.make(tmp_path / "model", family, **overrides)
    write(source, tmp_path / "model.gguf")
    directory = unpacked(tmp_path / "model.gguf", "recipe")
    before, after = read_directory(source, "a"), read_directory(directory, "b")
    wanted, found = (decoder_of(d.config, "config.json") for d in (before, after))
    scale = pytest.approx(wanted.rope.magnitude, rel=1e-6)
    assert found.rope.magnitude == scale
    assert replace(found, rope=replace(found.rope, magnitude=wanted.rope.magnitude)) == wanted
    ours, theirs = open_weights(before), open_weights(after)
    for name in wanted.tensors():
        # 1 was added to Gemma's norms
        assert np.abs(ours.read(name) - theirs.read(name)).max() < 3e-7
    llama, own = open_model(tmp_path / "model.gguf"), open_tokenizer(after.tokenizer_json())
    for text in ORDINARY_TEXTS:
        assert own.encode(text).ids == llama.tokens(text)
    assert notes_of(directory, tmp_path / "model.gguf") == ()


def test_more_than_float_weights_are_read_and_named(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", "qwen3")
    write(source, tmp_path / "model.gguf", "Q4_0")
    directory = unpacked(tmp_path / "model.gguf", "recipe")
    (note,) = notes_of(directory, tmp_path / "model.gguf")
    assert "already quantized" in note and "Q4_0" in note and "model.gguf" in note
    name = "model.layers.0.mlp.up_proj.weight"
    error = open_weights(read_directory(directory, "b")).read(name)
    error = error - open_weights(read_directory(source, "a")).read(name)
    assert 0 < np.abs(error).mean() < 0.02


def test_what_is_not_understood_is_refused(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", "qwen3")
    write(source, tmp_path / "model.gguf")
    header = read_header(tmp_path / "model.gguf")

    def refusal(**changes: Any) -> str:
        metadata = {**header.metadata, **{k.replace("__", "."): v for k, v in changes.items()}}
        write_gguf(tmp_path / "other.gguf", metadata, [], lambda name: [])
        with pytest.raises(InvalidInput) as error:
            unpacked(tmp_path / "other.gguf", "recipe")
        return str(error.value)

    assert "'mamba'" in refusal(general__architecture=MetaValue("string", "mamba"))
    assert "parts" in refusal(split__count=MetaValue("uint16", 2))
    assert "token_embd" in refusal()
    with pytest.raises(InvalidInput, match="no such model"):
        unpacked(tmp_path / "none.gguf", "recipe")
    assert json.loads((source / "config.json").read_text())["model_type"] == "qwen3"


@pytest.mark.parametrize(
    ("family", "key", "value", "said"),
    [
        ("qwen3", "token_type", [1, 1, 59137], "types \\[59137\\]"),
        ("qwen3", "token_type", [1], "types of 1"),
        ("gemma2", "scores", [0.0], "scores of 1"),
    ],
)
def test_lists_that_do_not_fit_the_tokens_are_refused(
    family: str, key: str, value: list[float], said: str, tmp_path: Path
) -> None:
    write(tiny_decoders.make(tmp_path / "model", family), tmp_path / "model.gguf")
    header, name = read_header(tmp_path / "model.gguf"), f"tokenizer.ggml.{key}"
    count = len(header.get("tokenizer.ggml.tokens"))
    value = (value + [1] * count)[:count] if len(value) > 1 else value
    dtype = np.float32 if key == "scores" else np.int32
    changed = replace(header.metadata[name], value=np.array(value, dtype))
    with pytest.raises(InvalidInput, match=said):
        tokenizer_of(replace(header, metadata={**header.metadata, name: changed}))


@pytest.mark.parametrize("value", [MetaValue("uint32", 1 << 20), MetaValue("string", "<s>")])
def test_a_first_token_that_is_none_is_refused(value: MetaValue, tmp_path: Path) -> None:
    write(tiny_decoders.make(tmp_path / "model", "llama"), tmp_path / "model.gguf")
    header = read_header(tmp_path / "model.gguf")
    metadata = {**header.metadata, "tokenizer.ggml.bos_token_id": value}
    with pytest.raises(InvalidInput, match=r"bos_token_id is .*, and it has"):
        tokenizer_of(replace(header, metadata=metadata))


def rewritten(path: Path, out: Path, changes: Mapping[str, Any]) -> Path:
    """The file with other values of some keys."""
    header, content = read_header(path), path.read_bytes()
    changed = {key: replace(header.metadata[key], value=value) for key, value in changes.items()}
    specs = [(name, entry.shape, entry.type) for name, entry in header.tensors.items()]

    def data(name: str) -> Any:
        entry = header.tensors[name]
        return iter([np.frombuffer(content, np.uint8, entry.nbytes, entry.offset)])

    write_gguf(out, {**header.metadata, **changed}, specs, data)
    return out


@pytest.mark.parametrize(
    ("family", "token", "spelling", "note"),
    [
        ("llama", "</s>", "</s>", False),
        ("llama", "<s>", "<s>", False),
        ("gemma2", "</s>", "</s>", False),
        ("gemma2", "<h1>", "<h1>", True),
        ("qwen3", "<|end|>", "<|im_end|>", False),
        ("qwen3", "<|im_start|>", "<|im_start|>", True),
    ],
)
def test_tokens_that_are_ordinary_by_mistake_are_read_as_llama_cpp_reads_them(
    family: str, token: str, spelling: str, note: bool, tmp_path: Path
) -> None:
    """It takes some for control tokens by their spelling; the others are noted if a chat needs
    them."""
    write(tiny_decoders.make(tmp_path / "model", family), tmp_path / "model.gguf")
    header = read_header(tmp_path / "model.gguf")
    texts = [*header.get("tokenizer.ggml.tokens")]
    types = np.array(header.get("tokenizer.ggml.token_type"), np.int32)
    id = texts.index(token)
    texts[id], types[id] = spelling, TokenType.NORMAL
    template = f"{{% for m in messages %}}{spelling}{{{{ m['content'] }}}}{{% endfor %}}"
    changes = {"tokenizer.ggml.tokens": texts, "tokenizer.ggml.token_type": types}
    changes |= {"tokenizer.chat_template": template}
    out = rewritten(tmp_path / "model.gguf", tmp_path / "mistaken.gguf", changes)
    folder = unpacked(out, "recipe")
    found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    llama = LlamaModel(out, vocabulary_only=True)
    marked = [f"Hi{spelling} there", f"{spelling}user\n", f"a {spelling}{spelling}\n b"]
    for text in [*ORDINARY_TEXTS, *marked, "<0x0A>", "a<0x41>b", "\x01", "a\n\n\nb"]:
        assert found.encode(text).ids == llama.tokens(text), text
    notes = (f"its chat template writes {spelling}, ordinary tokens of the file",) if note else ()
    assert tuple(said.split(": ")[0] for said in notes_of(folder, out)) == notes


def test_a_token_that_is_there_twice_is_refused_before_the_file_is_unpacked(
    tmp_path: Path,
) -> None:
    """llama.cpp ends a process that opens one."""
    write(tiny_decoders.make(tmp_path / "model", "llama"), tmp_path / "model.gguf")
    tokens = read_header(tmp_path / "model.gguf").get("tokenizer.ggml.tokens")
    twice = [*tokens[:-1], tokens[-2]]
    changes = {"tokenizer.ggml.tokens": twice}
    rewritten(tmp_path / "model.gguf", tmp_path / "twice.gguf", changes)
    with pytest.raises(InvalidInput, match="has a token twice"):
        unpacked(tmp_path / "twice.gguf", "recipe")


def test_a_type_whose_values_are_unknown_is_refused(tmp_path: Path) -> None:
    kind = TYPES["Q8_K"]
    (tmp_path / "rows").write_bytes(bytes(kind.block_bytes))
    entry = TensorEntry("w", (1, kind.block), kind, 0, kind.block_bytes, tmp_path / "rows")
    with pytest.raises(InvalidInput, match="w is stored as Q8_K"):
        next(float_rows(entry))
