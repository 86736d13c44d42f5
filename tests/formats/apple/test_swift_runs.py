"""The Swift files of bundles at work, with Apple's frameworks played by `tests/support/swift`.

What they compute around a model is theirs: filling, cutting, pieces of prompts, sampling, end
tokens, streams, the self-test. Models and tokenizers answer as in checks.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="the Core ML side is not installed")
pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("optimum", reason="the build side is not installed")

import edgeq
from edgeq.core.artifact import COREML_PACKAGE, read_artifact
from edgeq.core.store import Store
from edgeq.formats.apple.swift import SWIFT_FILE
from edgeq.formats.language import LanguageModel
from edgeq.formats.registry import file_format
from edgeq.pipeline.build.build import build
from edgeq.pipeline.bundle.selftest import selftest
from edgeq.pipeline.plan.plan import make_plan
from tests.support import tiny_bert, tiny_decoders
from tests.support.apple_host import run_program

pytestmark = pytest.mark.slow
CONTEXT = 176
RECIPE = """\
edgeq: 1
name: {name}
model: {{source: {name}, task: {task}}}
quantize: {{default: [float16]}}
workload: {{context: 176}}
targets:
  - {{format: coreml, devices: [iphone-15-pro]}}
  - {{format: coreai, devices: [iphone-15-pro-ios27]}}
"""
FORMATS = ["coreml", "coreai"]


class App(NamedTuple):
    """An artifact, the folder that holds a bundle's files, and the actor's name."""

    artifact: Path
    resources: Path
    actor: str

    @property
    def source(self) -> str:
        return (self.resources / SWIFT_FILE).read_text()


@pytest.fixture(scope="module")
def apps(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], App]:
    """Bundles of an encoder and of a language model, in both formats, by model and format."""
    folder = tmp_path_factory.mktemp("swift")
    (folder / "encoder").symlink_to(tiny)
    tiny_decoders.make(
        folder / "decoder", "llama", eos_token_id=[3, 5], max_position_embeddings=CONTEXT
    )
    found = {}
    for name, task in (("encoder", "sentence-embedding"), ("decoder", "text-generation")):
        recipe = tiny_bert.write_recipe(
            folder / f"{name}.yaml", RECIPE.format(name=name, task=task)
        )
        planned = make_plan(recipe, weights=True)
        for built in build(planned, Store(folder / "store"), lambda line: None):
            record = read_artifact(built.path)
            found[name, record.format] = _app(built.path, folder / f"{name}-{record.format}")
    return found


def _app(artifact: Path, resources: Path) -> App:
    record = read_artifact(artifact)
    shutil.copytree(artifact, resources)
    _, _, files = selftest(artifact, None)
    files |= file_format(record.format).extras(artifact, record, list(files))
    for name, content in files.items():
        (resources / name).write_bytes(content)
    if (resources / COREML_PACKAGE).exists():  # as Xcode compiles it
        (resources / COREML_PACKAGE).with_suffix(".mlmodelc").symlink_to(COREML_PACKAGE)
    actor = re.search(r"public actor (\w+)", files[SWIFT_FILE].decode())
    assert actor is not None
    return App(artifact, resources, actor[1])


def run(app: App, statements: str, folder: Path) -> list[Any]:
    """What statements tell that have the loaded `model`."""
    load = f"let model = try await {app.actor}.load()\n"
    return run_program(f"{app.source}\n{load}{statements}\n", app.resources, folder)


@pytest.mark.parametrize("format", FORMATS)
def test_an_encoder_answers_as_it_was_checked(
    apps: dict[tuple[str, str], App], format: str, tmp_path: Path
) -> None:
    app = apps["encoder", format]
    texts = ["A dog runs.", "a", "word " * 60]
    said = run(
        app,
        "tell(try await model.selfTest())\ntell(try await model.textsWithOtherTokens())\n"
        f"for text in {json.dumps(texts)} {{\n"
        "    tell(try await model.embedding(of: text).map { Double($0) })\n}",
        tmp_path,
    )
    assert said[0] < 1e-2
    assert said[1] == []
    model = edgeq.load(app.artifact)
    for text, found in zip(texts, said[2:], strict=True):
        np.testing.assert_allclose(found, model.embed([text])[0], atol=2e-3)


@pytest.mark.parametrize("format", FORMATS)
def test_another_answer_fails_the_self_test(
    apps: dict[tuple[str, str], App], format: str, tmp_path: Path
) -> None:
    app = apps["encoder", format]
    other = app._replace(resources=tmp_path / "other")
    shutil.copytree(app.resources, other.resources, symlinks=True)
    test = other.resources / "selftest.json"
    record = json.loads(test.read_text())
    values = record["cases"][0]["outputs"][0]["values"]
    record["cases"][0]["outputs"][0]["values"] = [-value for value in values]
    test.write_text(json.dumps(record))
    said = run(
        other,
        "do { tell(try await model.selfTest()) } catch { tell(String(describing: error)) }",
        tmp_path,
    )
    assert re.match(r"differs\(1\.9|differs\(2\.0", said[0])


@pytest.mark.parametrize("format", FORMATS)
def test_a_language_model_writes_as_edgeq_does(
    apps: dict[tuple[str, str], App], format: str, tmp_path: Path
) -> None:
    app = apps["decoder", format]
    prompts = ["Once upon a time", "word " * 45]
    said = run(
        app,
        f"for prompt in {json.dumps(prompts)} {{\n"
        "    await model.reset()\n"
        "    let ids = try await model.tokens(of: prompt)\n"
        "    var written: [Int] = []\n"
        "    for try await token in model.generate(after: ids, maxTokens: 24) {\n"
        "        written.append(token)\n    }\n"
        "    tell([ids, written])\n"
        "    await model.reset()\n"
        '    var text = ""\n'
        "    for try await piece in model.generate(after: prompt, maxTokens: 24) {\n"
        "        text += piece\n    }\n    tell(text)\n}",
        tmp_path,
    )
    model = edgeq.load(app.artifact)
    assert isinstance(model, LanguageModel)
    for number, prompt in enumerate(prompts):
        ids, written = said[2 * number]
        assert ids == model.tokens(prompt)
        assert written == list(model.draw(ids, 24))
        assert said[2 * number + 1] == "".join(model.decoded(written))


def test_chance_follows_its_seed_and_a_full_context_ends_a_text(
    apps: dict[tuple[str, str], App], tmp_path: Path
) -> None:
    app = apps["decoder", "coreml"]
    said = run(
        app,
        "for seed in [1, 1, 2] as [UInt64] {\n"
        "    await model.reset()\n"
        f"    let sampling = {app.actor}.Sampling(temperature: 1.5, topK: 40, seed: seed)\n"
        "    var written: [Int] = []\n"
        "    let stream = model.generate(after: [7, 8], maxTokens: 12, sampling: sampling)\n"
        "    for try await token in stream { written.append(token) }\n"
        "    tell(written)\n}\n"
        "await model.reset()\n"
        f"do {{ _ = try await model.logits(after: [Int](repeating: 7, count: {CONTEXT + 1})) }}\n"
        "catch { tell(String(describing: error)) }\n"
        f"_ = try await model.logits(after: [Int](repeating: 7, count: {CONTEXT - 3}))\n"
        "var count = 0\n"
        "for try await _ in model.generate(after: [7], maxTokens: 50) { count += 1 }\n"
        "tell([count, await model.position])\n",
        tmp_path,
    )
    first, again, other, refused, (count, position) = said
    assert first == again != other
    assert refused == f"tokenCount({CONTEXT + 1})"
    assert position <= CONTEXT
    assert count <= 3


@pytest.mark.parametrize("format", FORMATS)
def test_whoever_stops_reading_stops_the_model(
    apps: dict[tuple[str, str], App], format: str, tmp_path: Path
) -> None:
    said = run(
        apps["decoder", format],
        "for try await _ in model.generate(after: [7], maxTokens: 150) { break }\n"
        "try await Task.sleep(nanoseconds: 300_000_000)\n"
        "let stopped = await model.position\n"
        "try await Task.sleep(nanoseconds: 300_000_000)\n"
        "tell([stopped, await model.position])\n"
        "await model.reset()\n"
        "tell(await model.position)",
        tmp_path,
    )
    assert said[0][0] == said[0][1] < 150
    assert said[1] == 0
