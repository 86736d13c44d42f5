"""A bundle of a Core AI model holds a Swift package that fits it: compiled where Swift is."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("optimum", reason="the build side is not installed")

from edgeq.core.artifact import COREAI_ASSET, TOKENIZER_FILE, read_artifact
from edgeq.core.store import Store
from edgeq.formats.apple.swift import PACKAGE_FILE, SWIFT_FILE
from edgeq.formats.coreai.file_format import COREAI
from edgeq.formats.coreai.swift import swift_file
from edgeq.pipeline.build.build import build
from edgeq.pipeline.plan.plan import make_plan
from tests.support import onnx_models, tiny_bert, tiny_decoders
from tests.support.swift_sources import compiler_says, is_balanced, parsed, unknown_calls

CONTEXT = 176
KINDS = ["encoder", "decoder", "net"]
RECIPE = """\
edgeq: 1
name: {name}
model: {{source: {source}, task: {task}}}
quantize: {{default: [float16]}}
workload: {{context: {context}}}
targets: [{{format: coreai, devices: [iphone-15-pro-ios27]}}]
"""


@pytest.fixture(scope="module")
def built(
    tiny: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """An encoder, a language model and a net, as `edgeq build` makes them."""
    folder = tmp_path_factory.mktemp("coreai")
    (folder / "encoder").symlink_to(tiny)
    tiny_decoders.make(
        folder / "decoder", "llama", eos_token_id=[3, 5], max_position_embeddings=CONTEXT
    )
    onnx_models.convolutional(folder / "net.onnx")
    cases = {
        "encoder": ("encoder", "sentence-embedding"),
        "decoder": ("decoder", "text-generation"),
        "net": ("net.onnx", "tensor"),
    }
    found = {}
    for name, (source, task) in cases.items():
        text = RECIPE.format(name=name, source=source, task=task, context=CONTEXT)
        planned = make_plan(tiny_bert.write_recipe(folder / f"{name}.yaml", text), weights=True)
        (artifact,) = build(planned, Store(tiny_store), lambda line: None)
        found[name] = artifact.path
    return found


def swift(artifact: Path) -> str:
    return swift_file(artifact, read_artifact(artifact), has_test=True)


@pytest.mark.parametrize("name", KINDS)
def test_the_files_are_swift_and_call_what_the_frameworks_declare(
    built: dict[str, Path], name: str
) -> None:
    record = read_artifact(built[name])
    files = COREAI.extras(built[name], record, ["selftest.json"])
    for file in (SWIFT_FILE, PACKAGE_FILE):
        assert not parsed(files[file].decode()).has_error
    text = swift(built[name])
    assert files[SWIFT_FILE].decode() == (
        text if TOKENIZER_FILE in record.files else swift_file(built[name], record)
    )
    assert parsed(text[: text.rindex("}")]).has_error
    assert is_balanced(text)
    assert max(map(len, text.splitlines())) <= 100
    assert not unknown_calls(text)
    assert "NOT RUN ON A DEVICE: files like this one run" in text
    assert "@available(iOS 27.0, macOS 27.0, *)" in text
    assert "import CoreAI\n" in text and "CoreML" not in text
    for value in (*record.inputs, *record.outputs):
        assert f'"{value.name}"' in text
    assert f'.copy("{COREAI_ASSET}")' in files[PACKAGE_FILE].decode()


@pytest.mark.parametrize("name", KINDS)
def test_a_compiler_takes_the_files(built: dict[str, Path], name: str, tmp_path: Path) -> None:
    files = COREAI.extras(built[name], read_artifact(built[name]), ["selftest.json"])
    assert not compiler_says(files[SWIFT_FILE].decode(), tmp_path)


@pytest.mark.parametrize("name", KINDS)
def test_every_run_is_awaited(built: dict[str, Path], name: str) -> None:
    runs = [line for line in swift(built[name]).splitlines() if "function.run(" in line]
    assert runs
    assert all("try await function.run(" in line for line in runs)


def test_the_encoder_takes_texts_of_any_length(built: dict[str, Path]) -> None:
    text = swift(built["encoder"])
    assert f"static let longest = {tiny_bert.LONGEST}" in text
    assert '"attention_mask": row([Int32](repeating: 1, count: length))' in text
    assert "public func embedding(of text: String) async throws -> [Float]" in text
    assert "let found = try await answer(to: tokens)" in text


def test_the_decoder_hands_every_state_over(built: dict[str, Path]) -> None:
    text = swift(built["decoder"])
    for layer in range(2):
        for part in ("key", "value"):
            name = f"cache_{layer}_{part}"
            assert f"var {name} = Self.zeros()" in text
            assert f'states.insert(&kept.{name}, for: "{name}")' in text
    assert f"static let context = {CONTEXT}" in text
    assert "static let endTokens: Set<Int> = [2, 3, 5]" in text
    assert "AsyncThrowingStream<Int, Error>" in text


def test_arrays_go_in_and_out_by_their_names(built: dict[str, Path]) -> None:
    text = swift(built["net"])
    assert "func predict(image: [Float]) async throws -> Outputs" in text
    assert "guard image.count == 3072 else" in text
    assert "/// - image: Float, 1 × 3 × 32 × 32" in text
    assert "let logits: [Float]" in text
