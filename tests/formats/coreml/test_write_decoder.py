"""A language model's Core ML package answers as transformers and the ONNX artifact do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="the Core ML side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import torch
import transformers
from safetensors.numpy import load_file, save_file

from edgeq.core.errors import InvalidInput
from edgeq.formats.apple.constants import identifier
from edgeq.formats.coreml.deployment_targets import IOS17
from edgeq.formats.coreml.executor import Program, load
from edgeq.formats.coreml.overflow import Call, refuse_overflow
from edgeq.formats.coreml.write import export_decoder_coreml
from edgeq.formats.coreml.write_package import MODEL_PATH, WEIGHTS_PATH
from edgeq.formats.onnx.write import write_codes
from edgeq.models.architectures import decoder_of
from edgeq.models.graphs.decoder_onnx import decoder_feeds
from edgeq.models.huggingface import read_directory
from edgeq.models.onnx_session import open_session
from edgeq.quantize.number_formats import QuantizedTensor
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import WREN, decide_on, float_graph, nearest_codes

CONTEXT, PIECE = 64, 16
PROMPT, NEW = "Once upon a time", 64


def export(
    source: Path, package: Path, codes: dict[str, QuantizedTensor] | None = None, **options: Any
) -> Path:
    directory = read_directory(source, str(source))
    settings = {"context": CONTEXT, "tokens": (1, PIECE), **options}
    export_decoder_coreml(directory, package, codes or {}, **settings)
    return package


def logits(program: Program, ids: np.ndarray) -> np.ndarray:
    """Of every token: in a whole piece, in one filled up with tokens of no meaning, then alone.

    The last one of a piece is also asked for alone, and must be the same.
    """
    state, found, past = program.make_state(), [], 0
    for count in (PIECE, PIECE - 5, *[1] * (len(ids) - 2 * PIECE + 5)):
        piece = ids[past : past + count]
        if count > 1:
            piece = np.concatenate([piece, np.full(PIECE - count, 7)])
        call: Call = {"input_ids": [piece], "position": [past]}
        last = program.predict({**call, "rows": [count - 1]}, state)["logits"]
        outputs = program.predict({**call, "rows": np.arange(len(piece))}, state)
        found.append(outputs["logits"][0, :count])
        assert last.shape == (1, 1, found[-1].shape[-1])
        np.testing.assert_allclose(last[0, 0], found[-1][-1], rtol=1e-3, atol=1e-4)
        past += count
    return np.concatenate(found)


@pytest.mark.parametrize("family", tiny_decoders.ON_APPLE)
def test_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", family)
    network = transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager")
    ids = np.random.default_rng(0).integers(3, 600, 40)  # more than twice a window
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(ids)[None]).logits[0].numpy()
    exact = load(export(source, tmp_path / "a.mlpackage", compute="float32"), "float32")
    scale = np.abs(expected).max()
    assert np.abs(logits(exact, ids) - expected).max() < 2e-5 * scale
    half = load(export(source, tmp_path / "b.mlpackage"))
    assert np.abs(logits(half, ids) - expected).max() < 1e-2 * scale


@dataclass(frozen=True)
class Wren:
    """The small real model: its float graph and its codes on int4-b32."""

    graph: Path
    codes: dict[str, QuantizedTensor]
    folder: Path


@pytest.fixture(scope="module")
def wren(tmp_path_factory: pytest.TempPathFactory) -> Wren:
    folder = tmp_path_factory.mktemp("wren")
    graph = float_graph(WREN, folder / "float")
    return Wren(graph, nearest_codes(graph, "int4-b32"), folder)


def greedy(first: list[int], answer: Callable[[list[int], int], np.ndarray]) -> list[int]:
    """NEW tokens; `answer` gives the last logits after some tokens behind some others."""
    ids = list(first)
    last = answer(ids, 0)
    while len(ids) < len(first) + NEW:
        ids.append(int(last.argmax()))
        last = answer(ids[-1:], len(ids) - 1)
    return ids[len(first) :]


@pytest.mark.parametrize("compute", ["float16", "float32"])
def test_tokens_are_those_of_the_onnx_artifact(wren: Wren, compute: str) -> None:
    from tokenizers import Tokenizer

    prompt = Tokenizer.from_file(str(WREN / "tokenizer.json")).encode(PROMPT).ids
    artifact = wren.folder / f"onnx-{compute}"
    artifact.mkdir()
    write_codes(wren.graph, artifact, decide_on("int4-b32"), wren.codes)
    session = open_session(artifact / "model.onnx", threads=1)
    decoder = decoder_of(read_directory(WREN, "wren").config, "wren")
    seen: list[int] = []

    def on_onnx(ids: list[int], past: int) -> np.ndarray:
        seen[past:] = ids
        return np.asarray(session.run(["logits"], decoder_feeds(decoder, [seen])[0])[0][0, -1])

    package = wren.folder / f"{compute}.mlpackage"
    program = load(export(WREN, package, wren.codes, compute=compute, context=128))
    state = program.make_state()

    def on_coreml(ids: list[int], past: int) -> np.ndarray:
        padded = ids if len(ids) == 1 else ids + [0] * (PIECE - len(ids))
        call: Call = {"input_ids": [padded], "position": [past], "rows": [len(ids) - 1]}
        return np.asarray(program.predict(call, state)["logits"][0, 0])

    assert greedy(prompt, on_coreml) == greedy(prompt, on_onnx)


def test_codes_are_in_the_package_as_they_are(wren: Wren) -> None:
    package = export(WREN, wren.folder / "codes.mlpackage", wren.codes, compute="float32")
    held = load(package).constants()
    for name, codes in wren.codes.items():
        assert np.array_equal(held[identifier(name)], codes.dequantize()), name


def test_a_package_is_as_large_as_its_codes(wren: Wren) -> None:
    """Tied tables are there once. Beside weights: rotary tables, and the program itself."""
    package = export(WREN, wren.folder / "size.mlpackage", wren.codes)
    decoder = decoder_of(read_directory(WREN, "wren").config, "wren")
    norms = sum(2 * shape[0] for shape in decoder.tensors().values() if len(shape) == 1)
    ideal = sum(codes.nbytes for codes in wren.codes.values()) + norms
    held = (package / WEIGHTS_PATH).stat().st_size
    assert ideal < held < 1.03 * ideal
    assert (package / MODEL_PATH).stat().st_size < 25_000 * decoder.layers


def test_a_tied_table_in_both_float_types_is_stored_once(wren: Wren) -> None:
    """The output layer alone computes in float32: the codes are not written twice."""
    sizes = []
    for place, float32 in (("half", ()), ("mixed", ("lm_head",))):
        package = export(WREN, wren.folder / place, wren.codes, float32=float32)
        sizes.append((package / WEIGHTS_PATH).stat().st_size)
        held = load(package).constants()
        tables = [held[name] for name in held if name.startswith("embed_tokens_weight")]
        assert len([t for t in tables if t.dtype == np.float32]) == 1 + bool(float32)
    table = wren.codes["model.embed_tokens.weight"]
    assert sizes[1] - sizes[0] < 6 * table.scales.size < table.codes.size / 2


def test_equal_codes_give_equal_bytes(wren: Wren) -> None:
    pair = [export(WREN, wren.folder / f"{i}.mlpackage", wren.codes) for i in range(2)]
    files = [
        {path.relative_to(p): path.read_bytes() for path in p.rglob("*") if path.is_file()}
        for p in pair
    ]
    assert files[0] == files[1]


def test_an_overflow_is_named_and_float32_ends_it(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", "llama")
    weights = load_file(source / "model.safetensors")
    for part, factor in (("gate", 1e3), ("up", 1e3), ("down", 1e-6)):
        weights[f"model.layers.1.mlp.{part}_proj.weight"] *= factor
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    call: Call = {"input_ids": [list(range(3, 19))], "position": [0], "rows": [15]}
    with pytest.raises(InvalidInput) as caught:
        refuse_overflow(export(source, tmp_path / "a.mlpackage"), [[call]])
    first = caught.value.problems[0]
    assert "'layers_1_mlp_gated' makes infinity" in first.what
    cure = tuple(re.findall(r'"([^"]+)"', caught.value.problems[-1].remedy))
    assert cure == ("layers_1_mlp_gated", "layers_1_mlp_down_proj")
    refuse_overflow(export(source, tmp_path / "b.mlpackage", float32=cure), [[call]])


def test_an_overflow_late_in_a_text_is_found(tmp_path: Path) -> None:
    """One token alone overflows, and it stands in the second call."""
    source = tiny_decoders.make(tmp_path / "model", "llama")
    weights = load_file(source / "model.safetensors")
    late = 7
    weights["model.embed_tokens.weight"][late] = 65500  # what float16 just holds
    weights["model.layers.0.self_attn.o_proj.weight"] *= 1e3
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    package = export(source, tmp_path / "a.mlpackage")
    first: Call = {"input_ids": [[3] * PIECE], "position": [0], "rows": [0]}
    second: Call = {"input_ids": [[late] * PIECE], "position": [PIECE], "rows": [0]}
    refuse_overflow(package, [[first]])
    with pytest.raises(InvalidInput, match="makes infinity"):
        refuse_overflow(package, [[first, second]])


def test_a_weight_beyond_float16_is_named(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", "llama")
    weights = load_file(source / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] *= 1e8
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(InvalidInput, match=r"layers\.0\.mlp\.up_proj\.weight: .* range of float16"):
        export(source, tmp_path / "a.mlpackage")
    assert not (tmp_path / "a.mlpackage").exists()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"iOS 17 / macOS 14 has no states.*\n.*iOS 18"):
        export(WREN, tmp_path / "a.mlpackage", target=IOS17)
    with pytest.raises(InvalidInput, match=r"\*\.nothing: matches no operator"):
        export(WREN, tmp_path / "a.mlpackage", float32=("*.nothing",))
    long = tiny_decoders.make(tmp_path / "model", "phi3-longrope")
    with pytest.raises(InvalidInput, match="at most 256"):
        export(long, tmp_path / "a.mlpackage", context=300)
    assert not (tmp_path / "a.mlpackage").exists()
