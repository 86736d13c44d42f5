"""Starters run for real: installed by npm, run by Node.js, judged by the bundle's self-test."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats.bundle import read_bundle_directory
from edgeq.pipeline.starters.write import write_starter
from edgeq.pipeline.workflow import bundle_recipe

TEXTS = ["ba be bi", "zu zo", "ba be bo"]


RECIPE = """\
edgeq: 1
name: starter
model: {source: tiny, task: sentence-embedding}
quantize: {default: [int8-dynamic]}
targets: [{format: onnx, devices: [here]}]
"""


@pytest.fixture(scope="module")
def bundle(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the small BERT with the pre-tokenizer of published ones.

    The JavaScript tokenizer splits `Whitespace` at letters beyond ASCII, as the self-test shows.
    """
    folder = tmp_path_factory.mktemp("starter")
    shutil.copytree(tiny, folder / "tiny")
    path = folder / "tiny" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = {"type": "BertPreTokenizer"}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    recipe, out = folder / "recipe.yaml", folder / "tiny.zip"
    recipe.write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(folder / "store"))
        bundle_recipe(recipe, "here", out, None, True, lambda step: None)
    return out


@pytest.fixture(scope="module")
def app(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JavaScript starter with its packages; without Node.js or its index nothing runs."""
    if shutil.which("npm") is None:
        pytest.skip("not run: Node.js is not installed")
    folder = write_starter(bundle, "javascript", tmp_path_factory.mktemp("app") / "app")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if installed.returncode:
        pytest.skip(f"not run: npm cannot install: {installed.stderr.strip()[-200:]}")
    return folder


def node(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["node", *arguments], cwd=folder, capture_output=True, text=True)


def changed(app: Path, to: Path, before: str, after: str) -> Path:
    """A copy of the app with one edit in model.mjs."""
    to.mkdir()
    for path in app.iterdir():
        if path.name in ("bundle", "node_modules"):
            (to / path.name).symlink_to(path)
        else:
            shutil.copy(path, to)
    text = (to / "model.mjs").read_text(encoding="utf-8")
    assert text.count(before) == 1
    (to / "model.mjs").write_text(text.replace(before, after), encoding="utf-8")
    return to


def test_the_javascript_starter_passes_its_self_test(app: Path, bundle: Path) -> None:
    done = node(app, "selftest.mjs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("pass") == 4
    vectors = edgeq.load(bundle).embed(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1)
    wanted = vectors[0] @ vectors[1:].T / (lengths[0] * lengths[1:])
    printed = [float(line.split()[0]) for line in node(app, "main.mjs", *TEXTS).stdout.splitlines()]
    np.testing.assert_allclose(printed, wanted, atol=1e-4)


def test_settings_of_another_cpu_are_taken(app: Path, tmp_path: Path) -> None:
    other = changed(app, tmp_path / "app", 'return "";', 'return "x86_64-without-vnni";')
    done = node(other, "selftest.mjs")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("row(ids.map(() => 1))", "row(ids.map((_, i) => Number(i < 2)))"),
        ("if (ids.length <= most) return ids;", "return ids;"),
        ("embed([text])", "embed([text + text])"),
    ],
    ids=["mask", "length", "text"],
)
def test_a_mistake_fails_the_self_test(app: Path, tmp_path: Path, before: str, after: str) -> None:
    done = node(changed(app, tmp_path / "app", before, after), "selftest.mjs")
    assert done.returncode == 1
    assert "FAIL" in done.stdout + done.stderr or "Error" in done.stderr


def test_the_bundle_lies_unpacked_next_to_the_program(bundle: Path, tmp_path: Path) -> None:
    folder = write_starter(bundle, "javascript", tmp_path / "app")
    read_bundle_directory(folder / "bundle")
    with pytest.raises(InvalidInput, match="is there already"):
        write_starter(bundle, "javascript", folder)
    with pytest.raises(InvalidInput, match=r"no starter for 'java'"):
        write_starter(bundle, "java", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["app"]
