"""A graph in pieces computes what it computes whole, and codes follow from what came before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeq.core.steps import Steps
from edgeq.formats.onnx.write import write_codes
from edgeq.models.architectures import decoder_of
from edgeq.models.graphs import sequential
from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
from edgeq.models.graphs.pieces import Pieces, Samples
from edgeq.models.graphs.rounding import find_codes
from edgeq.models.graphs.sequential import round_in_sequence
from edgeq.models.graphs.weights import Weight, find_weights
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.onnx_session import open_session
from edgeq.quantize.decide import Decision
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed
from tests.support import tiny_decoders

WREN = Path(__file__).parents[2] / "recipes" / "wren"


@pytest.fixture(scope="module")
def wren(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wren")
    export_decoder(read_directory(WREN, "test"), folder)
    return folder


def feeds_of(directory: ModelDirectory, count: int, length: int = 48) -> list[Feed]:
    decoder = decoder_of(directory.config, "test")
    generator = np.random.default_rng(0)
    windows = generator.integers(2, decoder.vocabulary, (count, length)).tolist()
    return list(decoder_feeds(decoder, windows))


def products(graph: Path, match: str) -> list[Weight]:
    found = find_weights(ir.load(graph / "model.onnx"))
    return [weight for weight in found if match in weight.name and weight.product is not None]


@pytest.mark.parametrize("family", tiny_decoders.FAMILIES)
def test_pieces_give_the_whole_graphs_logits(family: str, tmp_path: Path) -> None:
    folder, graph, spill = (tmp_path / name for name in ("model", "graph", "spill"))
    for path in (graph, spill):
        path.mkdir()
    tiny_decoders.make(folder, family)
    directory = read_directory(folder, "test")
    export_decoder(directory, graph)
    feeds = feeds_of(directory, 2, 20)
    weights = {weight.name: weight for weight in products(graph, "layers")}
    given = {name: weight.matrix() for name, weight in weights.items()}
    pieces, samples = Pieces(graph, weights), Samples(feeds, spill)
    stops = [weight.product.activation.name for weight in weights.values() if weight.product]
    for stop in (*dict.fromkeys(stops), "logits"):
        assert stop is not None
        piece = pieces.until(stop, samples[0])
        if piece is not None:
            samples.advance(piece, given)
            samples.drop()
    session = open_session(graph / "model.onnx", threads=1)
    for feed, found in zip(feeds, samples.values("logits"), strict=True):
        whole = session.run(["logits"], dict(feed))[0][0]
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)
    assert len(list(spill.iterdir())) == 1, "only the last tensor is kept"


def choices(graph: Path, layers: Sequence[int]) -> list[tuple[Weight, Choice]]:
    choice = Choice("int4-b32", "gptq", "float32", None)
    wanted = [weight for layer in layers for weight in products(graph, f"layers.{layer}.")]
    return [(weight, choice) for weight in wanted]


def same(left: QuantizedTensor, right: QuantizedTensor) -> bool:
    return np.array_equal(left.codes, right.codes) and np.array_equal(left.scales, right.scales)


def test_a_stopped_build_goes_on_with_the_same_codes(wren: Path, tmp_path: Path) -> None:
    feeds = feeds_of(read_directory(WREN, "test"), 8)
    whole = round_in_sequence(wren, choices(wren, [0, 1]), {}, feeds, str)
    kept = Steps(tmp_path / "kept")

    def stop(step: str) -> None:
        if "layer 4 of" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        round_in_sequence(wren, choices(wren, [0, 1]), {}, feeds, stop, kept)
    finished = [kept.find(f"{index}.npz") for index in range(4)]
    assert [path is not None for path in finished] == [True, True, True, False]
    third = finished[2]
    assert third is not None
    third.write_bytes(bytes(third.stat().st_size))  # what a power cut can leave
    steps: list[str] = []
    again = round_in_sequence(wren, choices(wren, [0, 1]), {}, feeds, steps.append, kept)
    assert not any("quantize model.layers.0.self_attn" in step for step in steps)
    assert any("quantize model.layers.0.mlp.gate_proj" in step for step in steps)
    assert list(again) == list(whole)
    assert all(same(again[name], whole[name]) for name in whole)


def test_a_stopped_build_repeats_no_pass(
    wren: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless what both models had made is not as it was."""
    monkeypatch.setattr(sequential, "_SECONDS_BETWEEN_SAVES", 0.0)
    feeds = feeds_of(read_directory(WREN, "test"), 2, 16)
    whole = round_in_sequence(wren, choices(wren, [0]), {}, feeds, str)

    def stop(step: str) -> None:
        if "gate_proj" in step:
            raise KeyboardInterrupt

    stopped, damaged = tmp_path / "stopped", tmp_path / "damaged"
    with pytest.raises(KeyboardInterrupt):
        round_in_sequence(wren, choices(wren, [0]), {}, feeds, stop, Steps(stopped))
    shutil.copytree(stopped, damaged)
    spilled = min((damaged / "samples" / "rounded").iterdir())
    spilled.write_bytes(bytes(spilled.stat().st_size))
    passes: list[Samples] = []
    advance = Samples.advance

    def counted(samples: Samples, *arguments: Any) -> None:
        passes.append(samples)
        advance(samples, *arguments)

    monkeypatch.setattr(Samples, "advance", counted)
    for kept, layers in ((stopped, 1), (damaged, 4)):
        passes.clear()
        again = round_in_sequence(wren, choices(wren, [0]), {}, feeds, str, Steps(kept))
        assert len(passes) == 2 * layers, "of both models, up to each layer's input"
        assert list(again) == list(whole)
        assert all(same(again[name], whole[name]) for name in whole)


def test_a_fall_back_is_told_and_recorded(wren: Path, tmp_path: Path) -> None:
    """One token, over and over, teaches nothing that holds for the text that judges."""
    feeds = feeds_of(read_directory(WREN, "test"), 8)
    for feed in feeds[:7]:
        feed["input_ids"][:] = 7
    choice = Choice("int4-b32", "gptq", "float32", None)

    def decide(name: str, shape: tuple[int, ...]) -> Decision:
        return Decision(choice if ".5.mlp" in name else None, "asked for")

    steps: list[str] = []
    codes = find_codes(wren, decide, feeds, steps.append)
    plain = {name for name, tensor in codes.items() if tensor.method == "nearest"}
    told = {step.split()[1].rstrip(":") for step in steps if "worse on held-out samples" in step}
    assert plain == told != set()
    written = write_codes(wren, tmp_path, decide, codes)
    for name in codes:
        assert ("for gptq was worse" in written.tensors[name].note) == (name in plain)
        assert written.tensors[name].method == codes[name].method


def test_no_gain_from_the_evaluation_text(tmp_path: Path) -> None:
    """Whatever is opened while a file is built, the text it will be judged by is not among it.

    A plan reads that text, to refuse passages that are in the calibration data too; what builds
    gets nothing of it but its name.
    """
    model = tiny_decoders.make(tmp_path / "model", "smollm2", hidden_size=256, num_hidden_layers=1)
    for name in ("calibration", "evaluation"):
        text = " ".join(f"{name} word {n} of a {name} text." for n in range(900))
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
edgeq: 1
name: audited
model: {{source: {model}, task: text-generation, licence: apache-2.0}}
data:
  calibration: {{path: calibration.txt, samples: 2}}
  evaluation: {{path: evaluation.txt, samples: 2}}
quantize: {{default: [int4-b32, {{weights: Q4_K_M, method: gptq}}]}}
targets:
  - {{format: gguf, devices: [x86-laptop-8gb]}}
  - {{format: onnx, devices: [x86-laptop-8gb]}}
workload: {{context: 128, prompt: 16, generate: 4}}
""",
        encoding="utf-8",
    )
    program = f"""
import sys
from pathlib import Path
from edgeq.pipeline.build.build import build
from edgeq.pipeline.plan.plan import make_plan
from edgeq.core.store import Store
planned = make_plan(Path({str(recipe)!r}), weights=True)
opened = set()
sys.addaudithook(lambda event, given: opened.add(str(given[0])) if event == "open" else None)
print(len(build(planned, Store(Path({str(tmp_path / "store")!r})), str)), "built")
for name in ("calibration", "evaluation"):
    print(name, any(name + ".txt" in path for path in opened))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "3 built" in ran.stdout
    assert "calibration True" in ran.stdout
    assert "evaluation False" in ran.stdout


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
def test_experts_are_rounded_on_the_tokens_that_choose_them(tmp_path: Path, family: str) -> None:
    """The two models' tokens differ there; rounding for inputs still beats plain rounding."""
    folder, graph = tmp_path / "model", tmp_path / "graph"
    graph.mkdir()
    tiny_decoders.make(folder, family, num_hidden_layers=2)
    directory = read_directory(folder, "test")
    export_decoder(directory, graph)
    feeds, judges = feeds_of(directory, 16), feeds_of(directory, 20)[16:]
    pieces = Pieces(graph, ())
    for weight in products(graph, "layers"):
        assert weight.product is not None
        name = weight.product.activation.name or ""
        assert pieces.has_chosen_rows(name) == (".experts." in weight.name)
    losses = {}
    session = open_session(graph / "model.onnx", threads=1)
    wanted = [session.run(["logits"], dict(feed))[0] for feed in judges]
    for method in ("gptq", "nearest"):
        choice = Choice("int4-b32", method, "float32", None)

        def decide(name: str, shape: tuple[int, ...], choice: Choice = choice) -> Decision:
            return Decision(choice if ".experts." in name else None, "asked for")

        codes = find_codes(graph, decide, feeds, str)
        assert len(codes) == 2 * 5 * 3
        written = tmp_path / method
        written.mkdir()
        write_codes(graph, written, decide, codes)
        rounded = open_session(written / "model.onnx", threads=1)
        found = [rounded.run(["logits"], dict(feed))[0] for feed in judges]
        losses[method] = sum(
            float(np.square(a - b).mean()) for a, b in zip(found, wanted, strict=True)
        )
    assert 0 < losses["gptq"] < losses["nearest"]
