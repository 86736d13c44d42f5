"""The Kotlin starter compiled with onnxruntime's binding for Android, and run on a desktop."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")

import edgeq
from edgeq.formats.bundle import read_bundle, read_bundle_directory
from edgeq.formats.language import LanguageModel
from edgeq.pipeline.starters.kotlin import ASSETS, runs
from edgeq.pipeline.starters.write import write_starter
from tests.support.jvm import Kotlin, kotlin

TEXTS = ["ba be bi", "zu zo", "ba be bo"]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Kotlin:
    return kotlin(tmp_path_factory)


class App:
    """A starter, compiled."""

    def __init__(self, bundle: Path, folder: Path, compiler: Kotlin) -> None:
        self.folder = write_starter(bundle, "kotlin", folder / "app")
        self.compiler, self.classes, self.files = compiler, folder / "classes", folder / "files"
        self.files.mkdir()
        done = compiler.compiled(self.folder / "src/main/kotlin", self.classes)
        assert done.returncode == 0, done.stderr

    def run(self, *texts: str) -> tuple[int, list[str], list[str]]:
        """The exit status, and the lines of the self-test and of the answers."""
        assets = self.folder / ASSETS
        done = self.compiler.run(self.classes, str(assets), str(self.files), *texts)
        assert done.returncode in (0, 1), done.stderr
        cases = json.loads((assets / "bundle/selftest.json").read_text(encoding="utf-8"))["cases"]
        lines = done.stdout.splitlines()
        return done.returncode, lines[: len(cases)], lines[len(cases) :]

    def change(self, before: str, after: str) -> None:
        """Another bundle.json."""
        path = self.folder / ASSETS / "bundle" / "bundle.json"
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1
        path.write_text(text.replace(before, after), encoding="utf-8")


def test_a_classifier_and_labels_in_another_order(
    classifier: Path, compiler: Kotlin, tmp_path: Path
) -> None:
    app = App(classifier, tmp_path, compiler)
    status, tests, answers = app.run(*TEXTS)
    assert status == 0
    assert all(": pass, " in line for line in tests)
    wanted = edgeq.load(classifier).classify(TEXTS)[0].probabilities
    found = {line.split()[1]: float(line.split()[0]) for line in answers[1:4]}
    assert found == pytest.approx(wanted, abs=1e-4)
    (unpacked,) = app.files.iterdir()
    record = app.folder / ASSETS / "bundle" / "bundle.json"
    assert (unpacked / "bundle" / "bundle.json").read_bytes() == record.read_bytes()
    labels = list(wanted)
    listed = ",".join(f'"{label}"' for label in labels)
    text = record.read_text(encoding="utf-8")
    turned = ",".join(f'"{label}"' for label in (*labels[1:], labels[0]))
    compact = json.dumps(json.loads(text), separators=(",", ":"))
    record.write_text(compact, encoding="utf-8")
    app.change(listed, turned)
    status, tests, _ = app.run()
    assert status == 1
    assert any("FAIL, OTHER LABELS" in line for line in tests)
    assert list(app.files.iterdir()) != [unpacked]  # a new version takes the old one's place


def test_a_language_model_and_an_end_that_comes_sooner(
    decoder: Path, compiler: Kotlin, tmp_path: Path
) -> None:
    app = App(decoder, tmp_path, compiler)
    status, tests, answers = app.run("It was", "Once")
    assert status == 0
    assert all(": pass, " in line for line in tests)
    model = edgeq.load(decoder)
    assert isinstance(model, LanguageModel)
    wanted = [text + "".join(model.generate(text, max_tokens=64)) for text in ("It was", "Once")]
    assert "\n".join(answers) == "\n".join(wanted)
    ids = list(model.draw(model.tokens("It was"), 64))
    (end,) = read_bundle(decoder).end_tokens
    app.change(f'"end_tokens": [\n    {end}\n  ]', f'"end_tokens": [{ids[9]}]')
    _, _, (sooner, *_) = app.run("It was")
    assert sooner == "It was" + "".join(model.decoded(ids[: ids.index(ids[9])]))


def test_an_encoder_and_another_length(encoder: Path, compiler: Kotlin, tmp_path: Path) -> None:
    app = App(encoder, tmp_path, compiler)
    status, tests, answers = app.run(*TEXTS)
    assert status == 0
    assert all(": pass, " in line for line in tests)
    vectors = edgeq.load(encoder).embed(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1)
    wanted = vectors[0] @ vectors[1:].T / (lengths[0] * lengths[1:])
    np.testing.assert_allclose([float(line.split()[0]) for line in answers], wanted, atol=1e-4)
    most = read_bundle(encoder).artifact.text
    assert most is not None
    app.change(f'"max_tokens": {most.max_tokens}', f'"max_tokens": {most.max_tokens - 2}')
    status, tests, _ = app.run()
    assert status == 1
    assert "FAIL, OTHER TOKEN IDS" in tests[-1]


def test_a_model_of_arrays(net: Path, compiler: Kotlin, tmp_path: Path) -> None:
    app = App(net, tmp_path, compiler)
    status, tests, answers = app.run()
    assert (status, len(tests)) == (0, 1)
    with np.load(app.folder / ASSETS / "bundle" / "selftest.npz") as feeds:
        outputs = edgeq.load(net).run(dict(feeds))
    for line, (name, values) in zip(answers, outputs.items(), strict=True):
        assert line.startswith(f"{name}: {' '.join(map(str, values.shape))}, first value")
    array = app.folder / ASSETS / "inputs" / "0.bin"
    array.write_bytes(os.urandom(len(array.read_bytes())))
    app.change('"verdicts": []\n', '"verdicts": []\n\n')
    status, tests, _ = app.run()
    assert status == 1
    assert "FAIL" in tests[0]


def test_the_bundle_lies_among_the_assets(encoder: Path, tmp_path: Path) -> None:
    app = write_starter(encoder, "kotlin", tmp_path / "app")
    read_bundle_directory(app / ASSETS / "bundle")
    assert "Hugging Face's tokenizers" in (app / "README.md").read_text(encoding="utf-8")


def test_unsigned_arrays_have_none(net: Path) -> None:
    artifact = read_bundle(net).artifact
    assert runs(artifact)
    unsigned = tuple(each.model_copy(update={"dtype": "uint16"}) for each in artifact.outputs)
    assert not runs(artifact.model_copy(update={"outputs": unsigned}))
