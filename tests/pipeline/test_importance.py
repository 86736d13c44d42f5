"""Our importance matrix is llama.cpp's: the same sums, seen from inside llama.cpp itself."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.inside import importance_inside
from edgeq.formats.gguf.products import _Tensor
from edgeq.models.architectures import decoder_of
from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
from edgeq.models.huggingface import read_directory
from edgeq.pipeline.allocate.whole_file import candidates
from edgeq.pipeline.build.importance import importance_of
from edgeq.quantize.decide import SMALLEST_WEIGHT
from edgeq.quantize.ggml.llama_api import library
from edgeq.recipe.windows import split
from tests.support import qwen35, tiny_decoders
from tests.support.gguf_artifacts import write_file

ROOT = Path(__file__).parents[2]
WREN = ROOT / "recipes" / "wren"


def windows_of(directory: Path, size: int, count: int) -> list[list[int]]:
    text = (ROOT / "recipes" / "data" / "wren-calibration.txt").read_text()[:20000]
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(text).ids
    return split(ids, size, None, "text")[:count]


def ours(directory: Path, windows: list[list[int]], folder: Path) -> Importance:
    facts = read_directory(directory, "model")
    export_decoder(facts, folder)
    decoder = decoder_of(facts.config, "model")
    return importance_of(folder, facts, decoder_feeds(decoder, windows), "text.txt")


def model_of(family: str, folder: Path) -> Path:
    if family == "wren":
        return WREN
    if family == "qwen35":  # with values that share keys, which llama.cpp has in another order
        return qwen35.make(folder, value_heads=6)[0]
    return tiny_decoders.make(folder, family)


@pytest.mark.parametrize(
    "family",
    ["wren", "qwen3", "qwen3_moe", "gemma2", "phi3", "gpt_oss", "lfm2", "qwen35"],
)
def test_sums_are_those_inside_llama_cpp(family: str, tmp_path: Path) -> None:
    directory = model_of(family, tmp_path / "model")
    windows = windows_of(directory, 64, 3)
    (tmp_path / "graph").mkdir()
    found = ours(directory, windows, tmp_path / "graph")
    path = write_file(directory, tmp_path / "float.gguf")
    names = candidates(read_header(path))
    seen = importance_inside(path, names, windows, "text.txt", 1, str)
    header = read_header(path)
    small = {n for n in seen.sums if math.prod(header.tensors[n].shape) < SMALLEST_WEIGHT}
    assert set(found.sums) == set(seen.sums) - small
    assert (found.chunks, found.chunk_tokens) == (seen.chunks, seen.chunk_tokens)
    for name in found.sums:
        sums = seen.sums[name]
        np.testing.assert_array_equal(found.counts[name], seen.counts[name])
        used = 2 if "_exps" in name else 1
        assert np.sum(seen.counts[name]) == used * 3 * 64
        # Gemma's GELU is looked up in a table of float16 in llama.cpp, which moves what is behind.
        tolerance = 5e-3 if family == "gemma2" else 1e-4
        scale = sums.mean()
        np.testing.assert_allclose(found.sums[name], sums, rtol=tolerance, atol=tolerance * scale)


def test_the_structure_of_a_tensor_has_the_librarys_size() -> None:
    overhead = library().lib.ggml_tensor_overhead
    overhead.restype = ctypes.c_size_t
    object_bytes, after_the_name = 32, 16  # `struct ggml_object`; `extra` and `padding`
    assert ctypes.sizeof(_Tensor) + object_bytes + after_the_name == overhead()
