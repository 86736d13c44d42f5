"""A bundle of a Core ML package holds a Swift file that fits the package, the same every time."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("coremltools", reason="the Core ML side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.artifact import COREML_PACKAGE, TOKENIZER_FILE, read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.devices.catalogue import load_device
from edgeq.formats.apple.swift import (
    CONFIGURATION_FILE,
    PACKAGE_FILE,
    SWIFT_FILE,
    identifiers,
    text,
)
from edgeq.formats.bundle import BUNDLE_FILE, extract, read_bundle, read_bundle_directory
from edgeq.formats.coreml.swift import swift_file, swift_files
from edgeq.pipeline.build.build import build
from edgeq.pipeline.bundle.app_store_limits import sized
from edgeq.pipeline.bundle.write import write_bundle
from edgeq.pipeline.plan.plan import make_plan
from tests.support import onnx_models, tiny_bert, tiny_decoders
from tests.support.swift_sources import (
    bare,
    compiler_says,
    is_balanced,
    parsed,
    unknown_calls,
)

WEIGHTS = f"{COREML_PACKAGE}/Data/com.apple.CoreML/weights/weight.bin"
CONTEXT = 176
KINDS = ["encoder", "decoder", "net", "pictures"]
RECIPE = """\
edgeq: 1
name: {name}
model: {{source: {source}, task: {task}}}
quantize: {{default: [float16]}}
workload: {{context: {context}}}
coreml: {{{coreml}}}
targets: [{{format: coreml, devices: [iphone-15-pro]}}]
"""


@pytest.fixture(scope="module")
def built(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An encoder of two lengths, a language model and an image net, as `edgeq build` makes them."""
    folder = tmp_path_factory.mktemp("apple")
    shutil.copytree(tiny, folder / "encoder")
    tiny_decoders.make(
        folder / "decoder", "llama", eos_token_id=[3, 5], max_position_embeddings=CONTEXT
    )
    onnx_models.convolutional(folder / "net.onnx")
    shutil.copy(folder / "net.onnx", folder / "pictures.onnx")
    (folder / "labels.txt").write_text("".join(f"class {n}\n" for n in range(10)))
    cases = {
        "encoder": ("encoder", "sentence-embedding", "lengths: [24, 8]"),
        "decoder": ("decoder", "text-generation", ""),
        "net": ("net.onnx", "tensor", ""),
        "pictures": (
            "pictures.onnx",
            "tensor",
            "image: {input: image, scale: 0.0078125, bias: -1}, labels: labels.txt",
        ),
    }
    found = {}
    for name, (source, task, coreml) in cases.items():
        text = RECIPE.format(name=name, source=source, task=task, coreml=coreml, context=CONTEXT)
        recipe = tiny_bert.write_recipe(folder / f"{name}.yaml", text)
        planned = make_plan(recipe, weights=True)
        (artifact,) = build(planned, Store(folder / "store"), lambda line: None)
        found[name] = artifact.path
    return found


@pytest.fixture(scope="module")
def bundle(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundled(built["encoder"], tmp_path_factory.mktemp("bundle") / "encoder.zip")


def bundled(artifact: Path, out: Path) -> Path:
    return write_bundle(
        artifact,
        out,
        recipe_text="edgeq: 1\n",
        verdicts=[],
        licence=None,
        licence_text=None,
        unchecked=True,
        limits=sized(read_artifact(artifact), load_device("iphone-15-pro")),
    )


def swift(artifact: Path) -> str:
    return swift_file(artifact, read_artifact(artifact), has_test=True)


@pytest.mark.parametrize("name", KINDS)
def test_the_swift_file_is_whole(built: dict[str, Path], name: str) -> None:
    text = swift(built[name])
    assert text == swift(built[name])
    assert text.isascii() or "…" in text or "×" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "%" not in text
    assert is_balanced(text)
    assert "NOT RUN ON A DEVICE: files like this one run" in text
    artifact = read_artifact(built[name])
    target = artifact.settings["deployment_target"]
    assert f"@available(iOS {target['ios']}.0, macOS {target['macos']}.0, *)" in text
    for value in (*artifact.inputs, *artifact.outputs):
        assert f'"{value.name}"' in text
    assert ("selfTest()" in bare(text)) == (TOKENIZER_FILE in artifact.files)


@pytest.mark.parametrize("name", KINDS)
def test_a_grammar_of_swift_reads_it(built: dict[str, Path], name: str) -> None:
    """The files' syntax is right. Types are for a compiler to check."""
    record = read_artifact(built[name])
    files = swift_files(built[name], record, ["selftest.json"])
    for file in (SWIFT_FILE, PACKAGE_FILE):
        assert not parsed(files[file].decode()).has_error
    text = swift(built[name])
    assert parsed(text[: text.rindex("}")]).has_error


@pytest.mark.parametrize("name", KINDS)
def test_it_calls_what_the_frameworks_declare(built: dict[str, Path], name: str) -> None:
    assert not unknown_calls(swift(built[name]))


def test_examples_in_the_docs_are_swift() -> None:
    docs = Path(__file__).parents[3] / "docs"
    found = [
        example
        for page in docs.rglob("*.md")
        for example in re.findall(r"```swift\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert found
    for example in found:
        assert not parsed(example).has_error
        # The model is an actor.
        assert not re.search(r"(?<!await )(?<!await in )(?<!in )model\.", example)


def test_two_models_have_different_names(built: dict[str, Path]) -> None:
    found = {
        re.search(r"public actor (\w+)", swift(path))[1]  # type: ignore[index]
        for path in built.values()
    }
    assert len(found) == len(built)
    files = swift_files(built["encoder"], read_artifact(built["encoder"]))
    package = files[PACKAGE_FILE].decode()
    settings = json.loads(files["tokenizer_config.json"])
    assert settings == {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    assert 'let name = "EdgeqEncoderCoremlFloat16"' in package
    assert '.copy("tokenizer_config.json")' in package and "selftest.json" not in package


@pytest.mark.parametrize("name", KINDS)
def test_a_compiler_takes_the_files(built: dict[str, Path], name: str, tmp_path: Path) -> None:
    assert not compiler_says(swift(built[name]), tmp_path)


def test_a_compiler_takes_the_example_of_the_docs(built: dict[str, Path], tmp_path: Path) -> None:
    (page,) = Path(__file__).parents[3].glob("docs/howto/ios.md")
    blocks = re.findall(r"```swift\n(.*?)```", page.read_text(), re.DOTALL)
    uses = {"encoder": blocks[0].partition("\n\n")[2], "decoder": blocks[1]}
    for kind, use in uses.items():
        text = swift(built[kind])
        actor = re.search(r"public actor (\w+)", text)[1]  # type: ignore[index]
        named = re.sub(r"(?:GtAllMinilm|Wren)\w+", actor, use)
        example = f"func example(model: {actor}) async throws {{\n{named}}}\n"
        target = re.search(r"@available\(.*\)", text)[0]  # type: ignore[index]
        assert "error:" not in compiler_says(f"{text}\n{target}\n{example}", tmp_path)


def test_a_compiler_finds_what_is_wrong(built: dict[str, Path], tmp_path: Path) -> None:
    text = swift(built["decoder"])
    assert "'async'" in compiler_says(text.replace("await self?.reset", "self?.reset"), tmp_path)
    other = text.replace("using: state)", "using: position)")
    assert "MLState" in compiler_says(other, tmp_path)


def test_the_encoder_fills_up_to_the_lengths_of_the_package(built: dict[str, Path]) -> None:
    text = swift(built["encoder"])
    assert "static let lengths = [8, 24]" in text
    assert '"attention_mask": row([Int32](repeating: 1, count: ids.count) + filling)' in text
    assert "AutoTokenizer.from(modelFolder:" in text
    assert "MLState" not in text


def test_the_decoder_knows_context_pieces_and_end_tokens(built: dict[str, Path]) -> None:
    text = swift(built["decoder"])
    assert f"static let context = {CONTEXT}" in text
    assert "static let piece = 32" in text
    assert "static let endTokens: Set<Int> = [2, 3, 5]" in text
    assert "model.makeState()" in text
    assert "model.prediction(from: features, using: state)" in text
    assert "AsyncThrowingStream<Int, Error>" in text


def test_a_classifier_takes_pixels_and_gives_a_label(built: dict[str, Path]) -> None:
    text = swift(built["pictures"])
    assert "func predict(image: CVPixelBuffer) throws -> Outputs" in text
    assert "func predict(_ image: CGImage) throws -> Outputs" in text
    assert "public let classLabel: String" in text
    assert "public let classLabel_probs: [String: Double]" in text


def test_arrays_go_in_and_out_by_their_names(built: dict[str, Path]) -> None:
    text = swift(built["net"])
    assert "func predict(image: MLShapedArray<Float>) throws -> Outputs" in text
    assert "/// - image: Float, 1 × 3 × 32 × 32" in text
    assert "let logits: MLShapedArray<Float>" in text
    assert TOKENIZER_FILE not in text


def test_a_package_of_another_kind_is_refused(built: dict[str, Path]) -> None:
    artifact = read_artifact(built["net"])
    for changes in ({"task": "text-generation"}, {"text": {"max_tokens": 8}}):
        other = artifact.model_validate({**artifact.model_dump(mode="json"), **changes})
        with pytest.raises(InvalidInput, match=COREML_PACKAGE):
            swift_file(built["net"], other)


@given(st.lists(st.text(min_size=1), unique=True, max_size=5))
def test_any_name_is_an_identifier_and_a_literal(names: list[str]) -> None:
    words = identifiers(names)
    assert len(set(words)) == len(names)
    assert all(re.fullmatch(r"`?[A-Za-z_][A-Za-z0-9_]*`?", word) and word != "_" for word in words)
    for name in names:
        literal = text(name)
        assert re.fullmatch(r'"([^"\\\n\r]|\\u\{[0-9a-f]+\})*"', literal)
        back = re.sub(r"\\u\{([0-9a-f]+)\}", lambda found: chr(int(found[1], 16)), literal[1:-1])
        assert back == name


def test_the_bundle_holds_the_package_and_the_swift_file(
    built: dict[str, Path], bundle: Path, tmp_path: Path
) -> None:
    record = read_bundle(bundle)
    assert set(record.files) == set(record.artifact.files)
    assert WEIGHTS in record.files and TOKENIZER_FILE in record.files
    wanted = {SWIFT_FILE, PACKAGE_FILE, CONFIGURATION_FILE, "tokenizer_config.json"}
    assert set(record.extras) == wanted
    assert [line.device for line in record.limits] == ["iphone-15-pro"] * 4
    with zipfile.ZipFile(bundle) as archive:
        assert archive.namelist() == [BUNDLE_FILE, *sorted(record.contents)]
        assert archive.read(SWIFT_FILE).decode() == swift_file(
            built["encoder"], read_artifact(built["encoder"])
        )
        place = archive.getinfo(WEIGHTS).header_offset
    header = bundle.read_bytes()[place : place + 30]
    assert (place + 30 + sum(struct.unpack_from("<HH", header, 26))) % 4096 == 0
    copy = tmp_path / "elsewhere"
    shutil.copytree(built["encoder"], copy, copy_function=shutil.copyfile)
    assert bundled(copy, tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_directories_are_made_where_a_bundle_is_opened(bundle: Path, tmp_path: Path) -> None:
    record = read_bundle(bundle)
    extract(bundle, record.files, tmp_path)
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == set(record.files)


def test_a_change_in_an_unzipped_bundle_is_named(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path)
    read_bundle_directory(tmp_path)
    for name in (WEIGHTS, SWIFT_FILE):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InvalidInput, match=Path(name).name):
            read_bundle_directory(tmp_path)
        (tmp_path / name).write_bytes(content)
