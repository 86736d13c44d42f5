"""The C# starter compiled with onnxruntime's binding, and judged by the bundle's self-test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")

import edgeq
from edgeq.pipeline.starters.write import write_starter
from tests.support.commands import Done
from tests.support.dotnet import DotNet, dotnet

TEXTS = ["ba be bi", "zu zo", "ba be bo"]
# (file, sound, mistaken) by kind and name; made only where the variable MISTAKE names it.
MISTAKES = {
    "encoder": {
        "mask": ("Text.cs", "Enumerable.Repeat(1L,", "Enumerable.Repeat(MISTAKE ? 0L : 1L,"),
        "tokens": ("Text.cs", "addSpecialTokens: true", "addSpecialTokens: !MISTAKE"),
    },
    "classifier": {
        "label": ("Model.cs", "=> each.Share)", "=> MISTAKE ? -each.Share : each.Share)"),
    },
    "decoder": {
        "past": (
            "Model.cs",
            "new long[] { position }",
            "new long[] { position + (MISTAKE ? 1 : 0) }",
        ),
    },
    "net": {
        "array": (
            "Model.cs",
            "File.ReadAllBytes(path)",
            "(MISTAKE ? new byte[new FileInfo(path).Length] : File.ReadAllBytes(path))",
        ),
    },
}


class Starters:
    """The starter of each kind's bundle, compiled once with its mistakes."""

    def __init__(self, bundles: dict[str, Path], folder: Path, sdk: DotNet) -> None:
        self._bundles, self._folder, self._sdk = bundles, folder, sdk

    def app(self, kind: str) -> Path:
        """The folder of the compiled program."""
        app = self._folder / kind
        if not app.exists():
            write_starter(self._bundles[kind], "csharp", app)
            for name, (file, sound, mistaken) in MISTAKES[kind].items():
                text = (app / file).read_text(encoding="utf-8")
                assert text.count(sound) == 1
                asked = f'(System.Environment.GetEnvironmentVariable("MISTAKE") == "{name}")'
                changed = text.replace(sound, mistaken.replace("MISTAKE", asked))
                (app / file).write_text(changed, encoding="utf-8")
            done = self._sdk.compiled(sorted(app.glob("*.cs")), app / "starter.dll")
            assert done.returncode == 0, done.stdout + done.stderr
        return app

    def run(self, kind: str, *arguments: str, **environment: str) -> Done:
        """The program, run in its folder."""
        app = self.app(kind)
        return self._sdk.run(app / "starter.dll", *arguments, cwd=app, **environment)


@pytest.fixture(scope="module")
def starters(
    encoder: Path,
    classifier: Path,
    net: Path,
    decoder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Starters:
    bundles = {"encoder": encoder, "classifier": classifier, "net": net, "decoder": decoder}
    return Starters(bundles, tmp_path_factory.mktemp("starters"), dotnet(tmp_path_factory))


@pytest.mark.parametrize("kind", ["encoder", "classifier", "net", "decoder"])
def test_a_program_passes_its_self_test_and_gives_the_answers(
    kind: str, starters: Starters, request: pytest.FixtureRequest
) -> None:
    app, bundle = starters.app(kind), request.getfixturevalue(kind)
    done = starters.run(kind, *([] if kind == "net" else TEXTS))
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads((app / "bundle" / "selftest.json").read_text(encoding="utf-8"))["cases"]
    tests, answers = np.split(np.asarray(done.stdout.splitlines()), [len(cases)])
    assert all(": pass, " in line for line in tests)
    model = edgeq.load(bundle)
    if kind == "encoder":
        vectors = model.embed(TEXTS)
        lengths = np.linalg.norm(vectors, axis=1)
        wanted = vectors[0] @ vectors[1:].T / (lengths[0] * lengths[1:])
        np.testing.assert_allclose([float(line.split()[0]) for line in answers], wanted, atol=1e-4)
    elif kind == "decoder":
        for text, line in zip(TEXTS, answers, strict=True):
            assert line == text + "".join(model.generate(text, max_tokens=64))
    elif kind == "classifier":
        found = {line.split()[1]: float(line.split()[0]) for line in answers[1:4]}
        assert found == pytest.approx(model.classify(TEXTS)[0].probabilities, abs=1e-4)
    else:
        with np.load(app / "bundle" / "selftest.npz") as feeds:
            outputs = model.run(dict(feeds))
        for line, (name, values) in zip(answers, outputs.items(), strict=True):
            shape = " ".join(map(str, values.shape))
            assert line.startswith(f"{name}: {shape}, first value {values.flat[0]:.4f}"[:-1])


@pytest.mark.parametrize(
    ("kind", "mistake"), [(kind, name) for kind, all_ in MISTAKES.items() for name in all_]
)
def test_a_mistake_fails_the_self_test(kind: str, mistake: str, starters: Starters) -> None:
    done = starters.run(kind, MISTAKE=mistake)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL" in done.stdout
