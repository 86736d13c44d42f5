"""Our importance matrix is llama.cpp's: the same sums, seen from inside llama.cpp itself."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.models.architectures import decoder_of
from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
from edgeq.models.huggingface import read_directory
from edgeq.pipeline.build.importance import importance_of
from edgeq.quantize.ggml.llama_abi import F32, EvalCallback
from edgeq.recipe.windows import split
from tests.support import tiny_decoders
from tests.support.gguf_artifacts import write_file

ROOT = Path(__file__).parents[2]
WREN = ROOT / "recipes" / "wren"


class _Tensor(ctypes.Structure):
    """The fields of `struct ggml_tensor` up to its name (ggml.h)."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    ]


class _Watcher:
    """Adds up the squares of what meets each weight, as llama.cpp's own tool does."""

    def __init__(self) -> None:
        self.sums: dict[str, np.ndarray] = {}
        self.counts: dict[str, int] = {}
        self.callback = EvalCallback(self._see)

    def _see(self, address: int, ask: bool, _user_data: Any) -> bool:
        node = _Tensor.from_address(address)
        if not node.src[0] or not node.src[1]:
            return not ask
        weight, met = (_Tensor.from_address(node.src[i]) for i in range(2))
        name = weight.name.decode()
        if not name.endswith(".weight") or met.type != F32 or weight.ne[0] != met.ne[0]:
            return not ask
        if weight.ne[1] == 1:  # a norm's, which multiplies element by element
            return not ask
        if not ask:
            rows = met.ne[1] * met.ne[2] * met.ne[3]
            pointer = ctypes.cast(met.data, ctypes.POINTER(ctypes.c_float))
            values = np.ctypeslib.as_array(pointer, (rows, met.ne[0])).astype(np.float64)
            self.sums[name] = self.sums.get(name, 0) + np.square(values).sum(0)
            self.counts[name] = self.counts.get(name, 0) + rows
        return True


def windows_of(directory: Path, size: int, count: int) -> list[list[int]]:
    text = (ROOT / "recipes" / "data" / "wren-calibration.txt").read_text()[:20000]
    ids = Tokenizer.from_file(str(directory / "tokenizer.json")).encode(text).ids
    return split(ids, size, None, "text")[:count]


def ours(directory: Path, windows: list[list[int]], folder: Path) -> Importance:
    facts = read_directory(directory, "model")
    export_decoder(facts, folder)
    decoder = decoder_of(facts.config, "model")
    return importance_of(folder, facts, decoder_feeds(decoder, windows), "text.txt")


def theirs(file: Path, windows: list[list[int]]) -> _Watcher:
    watcher = _Watcher()
    model = LlamaModel(file)
    size = len(windows[0])
    model.open_context(
        n_ctx=size, n_batch=size, n_ubatch=size, n_threads=1, n_threads_batch=1,
        type_k=F32, type_v=F32, cb_eval=watcher.callback, n_outputs_max_per_seq=0,
    )  # fmt: skip
    for window in windows:
        model.clear()
        model.decode(np.array(window, np.int32), every=True)
    return watcher


@pytest.mark.parametrize("family", ["wren", "qwen3", "gemma2", "phi3"])
def test_sums_are_those_inside_llama_cpp(family: str, tmp_path: Path) -> None:
    directory = WREN if family == "wren" else tiny_decoders.make(tmp_path / "model", family)
    windows = windows_of(directory, 64, 3)
    (tmp_path / "graph").mkdir()
    found = ours(directory, windows, tmp_path / "graph")
    seen = theirs(write_file(directory, tmp_path / "float.gguf"), windows)
    assert set(found.sums) == set(seen.sums)
    for name, sums in seen.sums.items():
        assert found.counts[name] == seen.counts[name] == 3 * 64
        # Gemma's GELU is looked up in a table of float16 in llama.cpp, which moves what is behind.
        tolerance = 5e-3 if family == "gemma2" else 1e-4
        scale = sums.mean()
        np.testing.assert_allclose(found.sums[name], sums, rtol=tolerance, atol=tolerance * scale)
