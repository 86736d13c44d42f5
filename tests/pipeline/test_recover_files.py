"""Adapters in files: llama.cpp and onnxruntime add what the factors say, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="recovery is not installed")
pytest.importorskip("transformers", reason="recovery is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

import torch

from edgeq.core.artifact import ADAPTER_FILE, GGUF_FILE
from edgeq.formats.gguf.adapter import planned_file_bytes, values_of_file, write_adapter
from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.onnx.write import write_codes
from edgeq.models.architectures import Decoder, decoder_of
from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.onnx_session import open_session
from edgeq.pipeline.distil.network import Predictions
from edgeq.pipeline.recover.low_rank import approximated
from edgeq.quantize.adapter import Factors, load_adapter, planned_factors, save_adapter
from edgeq.quantize.number_formats import Floats
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import decide_on, nearest_codes
from tests.support.gguf_artifacts import write_file

RANK = 3
IDS = np.random.default_rng(5).integers(3, 600, 20).astype(np.int32)


class Case:
    """A small model of a family, with factors that change its answers a lot."""

    def __init__(self, folder: Path, family: str) -> None:
        tiny_decoders.make(folder / "model", family)
        self.folder = folder
        self.directory: ModelDirectory = read_directory(folder / "model", "test")
        self.decoder: Decoder = decoder_of(self.directory.config, "test")
        self.shapes = self.decoder.tensors()
        generator = np.random.default_rng(0)

        def random(*shape: int) -> np.ndarray:
            return (0.1 * generator.standard_normal(shape)).astype(np.float16)

        self.adapter = {
            name: Factors(random(RANK, self.shapes[name][1]), random(self.shapes[name][0], RANK))
            for name in planned_factors(self.shapes, RANK)
        }

    @property
    def matrices(self) -> list[str]:
        return [name for name, shape in self.shapes.items() if len(shape) == 2]

    def expected(self, values: Mapping[str, Floats], share: float = 1.0) -> Floats:
        """Logits by torch, of weights into which the factors are multiplied."""
        network = Predictions(self.directory, self.decoder)
        whole = {name: rows.copy() for name, rows in values.items()}
        for name, factors in self.adapter.items():
            up, down = (half.astype(np.float32) for half in (factors.up, factors.down))
            whole[name] = whole[name] + np.float32(share) * (up @ down)
        network.freeze(whole.items())
        with torch.no_grad():
            ids = torch.from_numpy(IDS.astype(np.int64))[None]
            return np.asarray(network.model(input_ids=ids).logits[0])


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "phi3"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp(request.param), request.param)


def by_llama(file: Path, adapter: Path | None) -> Floats:
    model = LlamaModel(file, adapter=adapter)
    model.open_context(n_ctx=64, n_outputs_max=64, n_outputs_max_per_seq=64, type_k=0, type_v=0)
    return model.decode(IDS, every=True)


def apart(found: Floats, wanted: Floats, base: Floats) -> float:
    """How far from what is wanted, as a share of what the factors change."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted - base))


def test_llama_adds_what_the_factors_say(case: Case) -> None:
    """It rounds what meets float16 factors to float16: no closer than that."""
    file = write_file(case.folder / "model", case.folder / GGUF_FILE)
    path = case.folder / ADAPTER_FILE
    write_adapter(path, case.adapter, case.decoder)
    header = read_header(path)
    assert (header.get("general.type"), header.get("adapter.type")) == ("adapter", "lora")
    shapes = {name: case.shapes[name] for name in case.adapter}
    assert planned_file_bytes(case.decoder, shapes, RANK) == path.stat().st_size
    values = dict(values_of_file(file, case.decoder, case.matrices))
    base, found = by_llama(file, None), by_llama(file, path)
    assert apart(found, np.asarray(case.expected(values)), base) < 0.01

    content = bytearray(path.read_bytes())  # llama.cpp divides alpha by the rank
    at = content.index(b"adapter.lora.alpha") + len(b"adapter.lora.alpha") + 4
    assert struct.unpack_from("<f", content, at) == (RANK,)
    struct.pack_into("<f", content, at, 0.5 * RANK)
    path.write_bytes(content)
    assert apart(by_llama(file, path), np.asarray(case.expected(values, 0.5)), base) < 0.01

    nothing = {n: Factors(f.down, np.zeros_like(f.up)) for n, f in case.adapter.items()}
    write_adapter(path, nothing, case.decoder)
    assert np.array_equal(by_llama(file, path), base)


def test_values_are_those_of_the_file(case: Case) -> None:
    """In the model's own order, whatever the file's is, and rounded as the file has them."""
    names = case.matrices
    exact = write_file(case.folder / "model", case.folder / "exact.gguf")
    coarse = write_file(case.folder / "model", case.folder / "coarse.gguf", "Q4_0")
    network = Predictions(case.directory, case.decoder)
    own = dict(network.model.named_parameters(remove_duplicate=False))
    rounded = dict(values_of_file(coarse, case.decoder, names))
    for name, rows in values_of_file(exact, case.decoder, names):
        assert np.array_equal(rows, own[name].numpy()), name
        error = np.linalg.norm(rounded[name] - rows) / np.linalg.norm(rows)
        assert 0.02 < error < 0.15, name


def test_onnxruntime_adds_what_the_factors_say(case: Case) -> None:
    """Without an adapter it is as far from torch, in its products with 8-bit weights."""
    graph, out = case.folder / "graph", case.folder / "onnx"
    graph.mkdir()
    export_decoder(case.directory, graph)
    codes = nearest_codes(graph, "int8-b32")
    feed = dict(decoder_feeds(case.decoder, [IDS.tolist()])[0])

    def logits(adapter: Mapping[str, Factors]) -> Floats:
        out.mkdir(exist_ok=True)
        written = write_codes(graph, out, decide_on("int8-b32"), codes, adapter)
        assert set(written.tensors) >= set(case.adapter)
        model = onnx.load(out / "model.onnx")
        assert model.opset_import == onnx.load(graph / "model.onnx").opset_import
        for node in model.graph.node:  # without it inputs are not rounded
            for attribute in [a for a in node.attribute if a.name == "accuracy_level"]:
                node.attribute.remove(attribute)
        onnx.save(model, out / "exact.onnx")
        (logits,) = open_session(out / "exact.onnx", threads=1).run(["logits"], feed)
        return np.asarray(logits[0])

    values = {name: codes[name].dequantize() for name in case.matrices if name in codes}
    base, found = logits({}), logits(case.adapter)
    assert apart(found, np.asarray(case.expected(values)), base) < 3e-3
    nothing = {n: Factors(f.down, np.zeros_like(f.up)) for n, f in case.adapter.items()}
    assert np.array_equal(logits(nothing), base)


def test_an_adapter_for_weights_the_graph_lacks_is_refused(case: Case) -> None:
    graph, out = case.folder / "other", case.folder / "none"
    graph.mkdir()
    out.mkdir()
    export_decoder(case.directory, graph)
    codes = nearest_codes(graph, "int8-b32")
    strange = {"model.layers.9.mlp.up_proj.weight": next(iter(case.adapter.values()))}
    with pytest.raises(ValueError, match=r"no product in the graph for model\.layers\.9"):
        write_codes(graph, out, decide_on("int8-b32"), codes, strange)


def test_equal_adapters_have_equal_bytes(case: Case, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_adapter(tmp_path / name, case.adapter)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = load_adapter(tmp_path / "a.npz")
    assert list(again) == list(case.adapter)
    for name, factors in again.items():
        assert np.array_equal(factors.up, case.adapter[name].up)
        assert factors.nbytes == planned_factors(case.shapes, RANK)[name]


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (3, 30)])
def test_factors_begin_as_the_nearest_of_their_rank(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(shape, generator=generator) * torch.linspace(1, 0.05, shape[1]) ** 2
    up, down = approximated(matrix, 5)
    assert (up.shape, down.shape) == ((shape[0], 5), (5, shape[1]))
    sizes = torch.linalg.svdvals(matrix)
    least = float(sizes[5:].square().sum().sqrt())
    assert float((matrix - up @ down).norm()) <= 1.001 * least + 1e-5
