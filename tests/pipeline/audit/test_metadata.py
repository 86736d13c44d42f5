"""Metadata of a GGUF file that are missing or wrong, and bytes that no tensor names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")


from edgeq.formats.gguf.header import MetaValue, read_header
from edgeq.formats.gguf.requantize import quantize_file
from edgeq.pipeline.audit.metadata import judge_metadata
from edgeq.pipeline.audit.run import audit
from tests.support.audited import changed, what_matters


@pytest.mark.parametrize(
    ("metadata", "matters", "said"),
    [
        ({"general.architecture": None}, True, "general.architecture is missing"),
        ({"llama.context_length": None}, True, "llama.context_length is missing"),
        ({"llama.attention.head_count": None}, True, "llama.attention.head_count is missing"),
        ({"llama.rope.freq_base": None}, False, "10000 is assumed"),
        ({"llama.block_count": MetaValue("uint32", 7)}, True, "7 layers, and has 6"),
        ({"tokenizer.ggml.tokens": None}, True, "it has no vocabulary"),
        ({"tokenizer.ggml.pre": None}, True, "tokenizer.ggml.pre is missing"),
        ({"tokenizer.ggml.pre": MetaValue("string", "default")}, False, "is 'default'"),
        ({"tokenizer.ggml.merges": None}, True, "tokenizer.ggml.merges is missing"),
        ({"tokenizer.ggml.eos_token_id": None}, True, "an answer may never end"),
        ({"tokenizer.ggml.bos_token_id": None}, False, "bos_token_id is missing"),
        ({"tokenizer.ggml.eos_token_id": MetaValue("uint32", 4096)}, True, "not one of the 4096"),
        ({"tokenizer.ggml.eos_token_id": MetaValue("string", "x")}, True, "not one of the 4096"),
        ({"general.license": None}, False, "general.license is missing"),
        ({"tokenizer.chat_template": None}, False, "no chat template"),
        (
            {"tokenizer.ggml.token_type": MetaValue("array", np.ones(3, "<i4"), "int32")},
            True,
            "4096 tokens, but 3 entries",
        ),
        (
            {"tokenizer.ggml.tokens": MetaValue("array", ["a", "b"], "string")},
            True,
            "the vocabulary has 2 tokens, and the embedding 4096",
        ),
        ({"quantize.imatrix.file": MetaValue("string", "x")}, False, "its calibration text"),
    ],
    ids=str,
)
def test_holes_in_metadata(
    good: Path, tmp_path: Path, metadata: dict[str, Any], matters: bool, said: str
) -> None:
    found = judge_metadata(read_header(changed(good, tmp_path / "m.gguf", metadata)))
    assert [finding.matters for finding in found if said in finding.what] == [matters]


def test_few_bits_without_an_importance_matrix_are_noted(folder: Path, wide: Path) -> None:
    quantize_file(wide, folder / "few.gguf", "Q2_K")
    found = judge_metadata(read_header(folder / "few.gguf"))
    assert any("fewer than 4 bits" in finding.what for finding in found)


def test_a_file_of_another_kind_is_not_asked_for_a_vocabulary(good: Path, tmp_path: Path) -> None:
    adapter = {"general.type": MetaValue("string", "adapter"), "tokenizer.ggml.tokens": None}
    path = changed(good, tmp_path / "m-Q4_K_M.gguf", adapter)
    found = audit(path)
    assert found.sound
    assert (found.loading.how, found.loading.detail) == ("not run", "it is not a language model")


def test_a_vocabulary_alone_is_named_so(good: Path, tmp_path: Path) -> None:
    path = changed(good, tmp_path / "vocabulary.gguf", without=tuple(read_header(good).tensors))
    found = audit(path)
    assert what_matters(found.findings) == {
        "metadata": "it holds a vocabulary and no weights: it is not a model"
    }
    assert (found.loading.how, found.loading.detail) == ("not run", "it holds no weights")


def test_bytes_behind_the_last_tensor_are_noticed(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.gguf"
    assert not any("last tensor" in found.what for found in judge_metadata(read_header(good)))
    for more, what in ((b"x", "a byte follows"), (bytes(4096), "4,096 bytes follow")):
        path.write_bytes(good.read_bytes() + more)
        (found,) = (f for f in judge_metadata(read_header(path)) if "last tensor" in f.what)
        assert found.what.startswith(what) and not found.matters
