"""The C# starter compiled with onnxruntime's binding, and judged by the bundle's self-test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")

import edgeq
from edgeq.pipeline.starters.write import write_starter
from tests.support.dotnet import DotNet, dotnet

TEXTS = ["ba be bi", "zu zo", "ba be bo"]


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> DotNet:
    return dotnet(tmp_path_factory)


def compiled(app: Path, sdk: DotNet) -> Path:
    program = app / "starter.dll"
    done = sdk.compiled(sorted(app.glob("*.cs")), program)
    assert done.returncode == 0, done.stdout + done.stderr
    return program


@pytest.mark.parametrize("kind", ["encoder", "classifier", "net"])
def test_a_program_passes_its_self_test_and_gives_the_answers(
    kind: str, sdk: DotNet, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle = request.getfixturevalue(kind)
    app = write_starter(bundle, "csharp", tmp_path / "app")
    texts = [] if kind == "net" else TEXTS
    done = sdk.run(compiled(app, sdk), *texts, cwd=app)
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
    ("kind", "file", "before", "after"),
    [
        ("encoder", "Text.cs", "Enumerable.Repeat(1L,", "Enumerable.Repeat(0L,"),
        ("encoder", "Text.cs", "addSpecialTokens: true", "addSpecialTokens: false"),
        ("classifier", "Model.cs", "OrderByDescending", "OrderBy"),
        ("net", "Model.cs", "File.ReadAllBytes(path)", "new byte[new FileInfo(path).Length]"),
    ],
    ids=["mask", "tokens", "label", "array"],
)
def test_a_mistake_fails_the_self_test(
    kind: str,
    file: str,
    before: str,
    after: str,
    sdk: DotNet,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    app = write_starter(request.getfixturevalue(kind), "csharp", tmp_path / "app")
    text = (app / file).read_text(encoding="utf-8")
    assert text.count(before) == 1
    (app / file).write_text(text.replace(before, after), encoding="utf-8")
    done = sdk.run(compiled(app, sdk), cwd=app)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL" in done.stdout
