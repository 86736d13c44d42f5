"""JavaScript starters run for real, in Node.js and in Chromium, judged by their self-tests."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats.bundle import read_bundle, read_bundle_directory
from edgeq.pipeline.starters.javascript import INSTALL, NODE, TOKENIZER, WEB, runs
from edgeq.pipeline.starters.write import STARTERS, write_starter
from tests.support.browser import Browser, browser, needs_browser

TEXTS = ["ba be bi", "zu zo", "ba be bo"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the starters' package.json ask for, installed once."""
    if shutil.which("npm") is None:
        pytest.skip("not run: Node.js is not installed")
    folder = tmp_path_factory.mktemp("packages")
    wanted = {"dependencies": {**NODE, **WEB, **TOKENIZER}}
    (folder / "package.json").write_text(json.dumps(wanted), encoding="utf-8")
    command = [*INSTALL.split(), "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"not run: npm cannot install: {done.stderr.strip()[-200:]}")
    assert not list(folder.rglob("*providers_cuda*"))
    return folder / "node_modules"


def app(bundle: Path, language: str, folder: Path, packages: Path) -> Path:
    """A starter whose packages are installed already."""
    written = write_starter(bundle, language, folder)
    wanted = json.loads((written / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert wanted.items() <= {**NODE, **WEB, **TOKENIZER}.items()
    assert f"\n    {INSTALL}\n" in (written / "README.md").read_text(encoding="utf-8")
    assert STARTERS[language].next.startswith(f"{INSTALL} && ")
    (written / "node_modules").symlink_to(packages)
    return written


def node(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["node", *arguments], cwd=folder, capture_output=True, text=True)


def change(folder: Path, file: str, before: str, after: str) -> None:
    text = (folder / file).read_text(encoding="utf-8")
    assert text.count(before) == 1
    (folder / file).write_text(text.replace(before, after), encoding="utf-8")


def test_a_tokenizer_that_reads_a_text_otherwise_fails(
    encoder: Path, packages: Path, tmp_path: Path
) -> None:
    folder = app(encoder, "javascript", tmp_path / "app", packages)
    test = json.loads((folder / "bundle" / "selftest.json").read_text(encoding="utf-8"))
    ordinary, odd = test["ordinary_texts"], test["odd_texts"]
    assert len(ordinary) > 40 and len(odd) > 20
    odd[0]["token_ids"], ordinary[3]["token_ids"] = [1], [1]
    (folder / "bundle" / "selftest.json").write_text(json.dumps(test), encoding="utf-8")
    done = node(folder, "selftest.mjs")
    assert done.returncode == 1
    assert done.stdout.count("FAIL") == 1
    assert f"FAIL, OTHER TOKEN IDS than those checked: {json.dumps(ordinary[3]['text'])}" in (
        done.stdout
    )
    assert "note: other token ids than those checked: " in done.stdout


def similarities(bundle: Path) -> np.ndarray:
    """Cosines of the first of TEXTS with the others."""
    vectors = edgeq.load(bundle).embed(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1)
    return np.asarray(vectors[0] @ vectors[1:].T / (lengths[0] * lengths[1:]))


@pytest.mark.parametrize("kind", ["encoder", "classifier", "net", "decoder"])
def test_a_program_for_node_passes_its_self_test(
    kind: str, packages: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle = request.getfixturevalue(kind)
    folder = app(bundle, "javascript", tmp_path / "app", packages)
    done = node(folder, "selftest.mjs")
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads((folder / "bundle" / "selftest.json").read_text(encoding="utf-8"))["cases"]
    assert done.stdout.count(": pass, ") == len(cases)
    shown = node(folder, "main.mjs", *TEXTS).stdout.splitlines()
    model = edgeq.load(bundle)
    if kind == "encoder":
        printed = [float(line.split()[0]) for line in shown]
        np.testing.assert_allclose(printed, similarities(bundle), atol=1e-4)
    elif kind == "classifier":
        wanted = model.classify(TEXTS)[0].probabilities
        found = {line.split()[1]: float(line.split()[0]) for line in shown[1:4]}
        assert found == pytest.approx(wanted, abs=1e-4)
    elif kind == "decoder":
        for text, line in zip(TEXTS, shown, strict=True):
            assert line == text + "".join(model.generate(text, max_tokens=64))
    else:
        with np.load(folder / "bundle" / "selftest.npz") as feeds:
            for name, values in model.run(dict(feeds)).items():
                assert any(
                    line.startswith(f"{name}: {' '.join(map(str, values.shape))}, first value")
                    for line in shown
                )


def test_settings_of_another_cpu_are_taken(encoder: Path, packages: Path, tmp_path: Path) -> None:
    folder = app(encoder, "javascript", tmp_path / "app", packages)
    change(folder, "platform.mjs", 'return "";', 'return "x86_64-without-vnni";')
    done = node(folder, "selftest.mjs")
    assert done.returncode == 0, done.stdout + done.stderr


def test_outputs_that_are_probabilities_stay(
    classifier: Path, packages: Path, tmp_path: Path
) -> None:
    folder = app(classifier, "javascript", tmp_path / "app", packages)
    change(folder, "bundle/bundle.json", '"function": "softmax"', '"function": "none"')
    done = node(folder, "selftest.mjs")
    assert done.returncode == 0, done.stdout  # of a sample the largest, below one half too
    shown = node(folder, "main.mjs", TEXTS[0]).stdout.splitlines()[1:]
    found = {line.split()[1]: float(line.split()[0]) for line in shown}
    outputs = json.loads((folder / "bundle" / "selftest.json").read_text(encoding="utf-8"))
    assert found.keys() >= set(outputs["cases"][0]["labels"])
    wanted = edgeq.load(classifier).classify(TEXTS[:1])[0].probabilities
    powers = {label: np.exp(score) for label, score in found.items()}
    shares = {label: power / sum(powers.values()) for label, power in powers.items()}
    assert shares == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "file", "before", "after"),
    [
        ("encoder", "text.mjs", "ids.map(() => 1)", "ids.map((_, i) => Number(i < 2))"),
        ("encoder", "text.mjs", "if (ids.length <= most) return ids;", "return ids;"),
        ("encoder", "model.mjs", "embed([text])", "embed([text + text])"),
        ("classifier", "model.mjs", "[label, of(i)]", "[label, of((i + 1) % 3)]"),
        ("decoder", "model.mjs", "[this.position], [1]", "[this.position + 1], [1]"),
        (
            "net",
            "model.mjs",
            "new ARRAYS[dtype](bytes.buffer)",
            "new ARRAYS[dtype](bytes.length / 4)",
        ),
    ],
    ids=["mask", "length", "text", "label", "past", "array"],
)
def test_a_mistake_fails_the_self_test(
    kind: str,
    file: str,
    before: str,
    after: str,
    packages: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder = app(request.getfixturevalue(kind), "javascript", tmp_path / "app", packages)
    change(folder, file, before, after)
    done = node(folder, "selftest.mjs")
    assert done.returncode == 1
    assert "FAIL" in done.stdout + done.stderr or "Error" in done.stderr


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with browser() as found:
        yield found


def opened(shown: Browser, folder: Path, texts: list[str]) -> tuple[list[str], list[str]]:
    """The lines of a page's self-test and answers, served as its README says."""
    command = ["node", "serve.mjs", "0"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        query = urlencode([("text", text) for text in texts])
        shown.go(f"{address}?{query}")
        shown.wait("globalThis.done")
        assert {request.rsplit("/", 1)[0] for request in shown.requests()} <= {
            address.rstrip("/"),
            *(f"{address}{path}" for path in ("bundle", "inputs")),
            *(f"{address}node_modules/{name}/dist" for name in {**WEB, **TOKENIZER}),
        }
        cases, answers = (
            shown.run(f"document.getElementById('{name}').textContent")
            for name in ("cases", "answers")
        )
        # Texts of notes have other ends of lines in them.
        return cases.strip("\n").split("\n"), answers.splitlines()
    finally:
        server.terminate()
        server.wait()


@needs_browser
def test_a_page_passes_its_self_test_in_a_browser(
    shown: Browser, encoder: Path, packages: Path, tmp_path: Path
) -> None:
    folder = app(encoder, "web", tmp_path / "app", packages)
    cases, answers = opened(shown, folder, TEXTS)
    assert cases[-1] == "all passed", cases
    assert not [
        line for line in cases[:-1] if not line.startswith("note: ") and not line.endswith(" ms")
    ]
    printed = [float(line.split()[0]) for line in answers]
    # Activations become codes in other kernels.
    np.testing.assert_allclose(printed, similarities(encoder), atol=0.01)


@needs_browser
@pytest.mark.parametrize("kind", ["classifier", "net", "decoder"])
def test_other_models_run_in_a_browser(
    kind: str,
    shown: Browser,
    packages: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder = app(request.getfixturevalue(kind), "web", tmp_path / "app", packages)
    cases, answers = opened(shown, folder, TEXTS[:1])
    assert cases[-1] == "all passed", cases
    assert answers


@needs_browser
def test_a_mistake_fails_in_a_browser(
    shown: Browser, classifier: Path, packages: Path, tmp_path: Path
) -> None:
    folder = app(classifier, "web", tmp_path / "app", packages)
    change(folder, "model.mjs", "[label, of(i)]", "[label, of((i + 1) % 3)]")
    cases, _ = opened(shown, folder, [])
    assert any("FAIL, OTHER LABELS" in line for line in cases)


def test_the_bundle_lies_unpacked_next_to_the_program(encoder: Path, tmp_path: Path) -> None:
    folder = write_starter(encoder, "javascript", tmp_path / "app")
    read_bundle_directory(folder / "bundle")
    with pytest.raises(InvalidInput, match="is there already"):
        write_starter(encoder, "javascript", folder)
    with pytest.raises(InvalidInput, match=r"no starter for 'java'"):
        write_starter(encoder, "java", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


@pytest.mark.parametrize("task", ["image-classification", "reranking"])
def test_other_tasks_have_no_starter(encoder: Path, task: str) -> None:
    artifact = read_bundle(encoder).artifact
    assert runs(artifact)
    assert not runs(artifact.model_copy(update={"task": task}))


def test_a_language_model_whose_length_changes_it_has_none(decoder: Path) -> None:
    artifact = read_bundle(decoder).artifact
    assert runs(artifact)
    longer = artifact.inputs[0].model_copy(update={"name": "text_length"})
    assert not runs(artifact.model_copy(update={"inputs": (*artifact.inputs, longer)}))


def test_a_net_of_float16_has_none(net: Path) -> None:
    artifact = read_bundle(net).artifact
    halves = tuple(each.model_copy(update={"dtype": "float16"}) for each in artifact.outputs)
    assert not runs(artifact.model_copy(update={"outputs": halves}))
