"""The C++ starter built by its README's commands, and judged by the bundle's self-test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")


import edgeq
from edgeq.pipeline.starters.write import write_starter
from tests.pipeline.starters.conftest import Bundler
from tests.support import native

TOKENIZERS = Path(native.__file__).parent / "tokenizers_cpp"
ROOT = Path(__file__).parents[3]
TEXTS = ["ba be bi", "zu zo", "ba be bo"]


@pytest.fixture(scope="module", autouse=True)
def json_library() -> None:
    if not Path("/usr/include/nlohmann/json.hpp").is_file():
        pytest.skip("not run: no nlohmann-json here: apt-get install nlohmann-json3-dev")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native.release(tmp_path_factory)


def run(
    folder: Path, *command: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "TOKENIZERS_PYTHON": sys.executable,
        **(variables or {}),
    }
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def built(bundle: Path, folder: Path, runtime: Path, *options: str) -> Path:
    """The starter of a bundle, built by CMake as its README says."""
    app = write_starter(bundle, "cpp", folder)
    for command in (
        ("cmake", "-B", "build", f"-DONNXRUNTIME={runtime}", "-DCMAKE_BUILD_TYPE=Quick", *options),
        ("cmake", "--build", "build"),
    ):
        done = run(app, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    return app


def compiled(app: Path, program: str, runtime: Path, *, tokenizers: bool = False) -> str:
    """One program of a starter, by one command."""
    libraries = runtime / "lib"
    more = ("-DWITH_TOKENIZERS", "-I", str(TOKENIZERS), str(TOKENIZERS / "stand_in.cpp"))
    command = (
        *("g++", "-std=c++17", "-I", str(runtime / "include"), f"{program}.cpp", "-o", program),
        *(more if tokenizers else ()),
    )
    done = run(app, *command, "-L", str(libraries), "-lonnxruntime", f"-Wl,-rpath,{libraries}")
    assert done.returncode == 0, done.stderr
    return f"./{program}"


def make_mistake(app: Path, file: str, before: str, after: str) -> None:
    """Change the code for runs in which the variable MISTAKE is set, to compile it once."""
    text = (app / file).read_text(encoding="utf-8")
    assert text.count(before) == 1
    changed = text.replace(before, after.replace("MISTAKE", 'std::getenv("MISTAKE")'))
    (app / file).write_text(changed, encoding="utf-8")


def require_judged(app: Path, selftest: str) -> None:
    """The self-test passes without the mistake, and fails with it."""
    done = run(app, selftest)
    assert done.returncode == 0, done.stdout + done.stderr
    found = run(app, selftest, variables={"MISTAKE": "1"})
    assert found.returncode == 1, found.stdout
    assert "FAIL" in found.stdout


def test_an_encoder_with_tokenizers(encoder: Path, runtime: Path, tmp_path: Path) -> None:
    app = built(encoder, tmp_path / "app", runtime, f"-DTOKENIZERS={TOKENIZERS}")
    done = run(app, "build/selftest")
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads((app / "bundle" / "selftest.json").read_text(encoding="utf-8"))["cases"]
    assert done.stdout.count(": pass, ") == len(cases)
    vectors = edgeq.load(encoder).embed(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1)
    wanted = vectors[0] @ vectors[1:].T / (lengths[0] * lengths[1:])
    printed = [
        float(line.split()[0]) for line in run(app, "build/main", *TEXTS).stdout.splitlines()
    ]
    np.testing.assert_allclose(printed, wanted, atol=1e-4)


def test_a_classifier_without_tokenizers_refuses_text(
    classifier: Path, runtime: Path, tmp_path: Path
) -> None:
    app = write_starter(classifier, "cpp", tmp_path / "app")
    labels = '.at("labels").at(%s)'
    make_mistake(app, "model.hpp", labels % "i", labels % "MISTAKE ? (i + 1) % 3 : i")
    require_judged(app, compiled(app, "selftest", runtime))
    refused = run(app, compiled(app, "main", runtime), TEXTS[0])
    assert refused.returncode == 1
    assert "-DTOKENIZERS=" in refused.stderr


def test_a_language_model_in_onnx(decoder: Path, runtime: Path, tmp_path: Path) -> None:
    app = write_starter(decoder, "cpp", tmp_path / "app")
    make_mistake(app, "model.hpp", "past{position_}", "past{position_ + !!MISTAKE}")
    selftest = compiled(app, "selftest", runtime, tokenizers=True)
    require_judged(app, selftest)
    main = compiled(app, "main", runtime, tokenizers=True)
    wanted = "".join(edgeq.load(decoder).generate("It was", max_tokens=64))
    assert run(app, main, "It was").stdout == f"It was{wanted}\n"


def test_a_model_of_arrays(net: Path, runtime: Path, tmp_path: Path) -> None:
    app = write_starter(net, "cpp", tmp_path / "app")
    ruined = "view(MISTAKE ? bytes.back().insert(0, 4, 1) : bytes.back(),"
    make_mistake(app, "model.hpp", "view(bytes.back(),", ruined)
    require_judged(app, compiled(app, "selftest", runtime))
    model = edgeq.load(net)
    with np.load(app / "bundle" / "selftest.npz") as feeds:
        outputs = model.run(dict(feeds))
    printed = run(app, compiled(app, "main", runtime)).stdout
    for name, values in outputs.items():
        assert f"{name}: {' '.join(map(str, values.shape))}, first value" in printed


def test_a_language_model_in_gguf(bundle: Bundler, tmp_path: Path) -> None:
    variables = native.llama(tmp_path)
    shutil.copytree(ROOT / "recipes" / "wren", tmp_path / "wren")
    out = bundle(tmp_path, "./wren", "text-generation", "Q8_0", "gguf")
    app = write_starter(out, "cpp", tmp_path / "app")
    clone = Path(native.__file__).parent / "llama_cpp"
    for command in (
        ("cmake", "-B", "build", f"-DLLAMA={clone}", "-DCMAKE_BUILD_TYPE=Quick"),
        ("cmake", "--build", "build"),
        ("build/selftest",),
    ):
        done = run(app, *command, variables=variables)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": pass, ") == 3
    said = run(app, "build/main", "It was").stdout
    wanted = "".join(edgeq.load(out).generate("It was", max_tokens=16))
    assert said.startswith(f"It was{wanted}")


def test_a_mistake_fails_the_self_test(encoder: Path, runtime: Path, tmp_path: Path) -> None:
    app = write_starter(encoder, "cpp", tmp_path / "app")
    make_mistake(app, "text.hpp", "mask(ids.size(), 1)", "mask(ids.size(), MISTAKE ? 0 : 1)")
    require_judged(app, compiled(app, "selftest", runtime))
