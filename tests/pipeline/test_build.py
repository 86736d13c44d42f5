"""Builds are found again, survive any death, and say what went in and nothing of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE, DATA_FILE, MODEL_FILE, TOKENIZER_FILE, read_artifact
from edgeq.core.errors import Problem
from edgeq.pipeline.build.build import Partly
from edgeq.pipeline.check import workflow
from tests.conftest import Project
from tests.support import onnx_models, tiny_bert
from tests.support.commands import COMMAND, run_edgeq

NET = """\
edgeq: 1
name: net
model: {source: net.onnx, task: tensor, licence: mit}
data: {calibration: {path: calibration.npz}}
quantize:
  default: [int8-dynamic, int8-static]
  rules: [{match: c1.w, use: float32}]
targets: [{format: onnx, devices: [here]}]
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a convolutional net, calibration data and a recipe."""
    folder = tmp_path_factory.mktemp("net")
    onnx_models.convolutional(folder / "net.onnx")
    write_images(folder / "calibration.npz", seed=0)
    tiny_bert.write_recipe(folder / "recipe.yaml", NET)
    return folder


def write_images(path: Path, seed: int, dtype: type = np.float32) -> None:
    rng = np.random.default_rng(seed)
    np.savez(path, image=rng.standard_normal((8, 3, 32, 32)).astype(dtype))


def build(folder: Path, store: Path) -> dict[str, Path]:
    """The artifacts' directories by name."""
    done = run_edgeq("build", "recipe.yaml", "--json", store=store, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {item["name"]: Path(item["path"]) for item in json.loads(done.stdout)["artifacts"]}


def contents(artifacts: dict[str, Path]) -> dict[str, dict[str, bytes]]:
    return {
        name: {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
        for name, directory in artifacts.items()
    }


def damage(store: Path) -> None:
    """Of three files in a store, leave one empty, one zeroed at its size, and flip a bit of one."""
    files = [path for path in sorted(store.rglob("*")) if path.is_file() and path.stat().st_size]
    for index, path in enumerate(files):
        content = path.read_bytes()
        flipped = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes((b"", bytes(len(content)), flipped)[index % 3])


@pytest.fixture(scope="module")
def store(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def reference(net: Path, store: Path) -> dict[str, dict[str, bytes]]:
    return contents(build(net, store))


def in_the_making(store: Path) -> set[tuple[str, int]]:
    """Directories of stages that are not done; their time tells one build's from another's."""
    found = set()
    for path in store.glob("*/*.partial"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ctime_ns))
    return found


def start(folder: Path, store: Path) -> subprocess.Popen[bytes]:
    """A build in a session of its own, so that all it starts can be killed with it."""
    return subprocess.Popen(
        [*COMMAND, "build", "recipe.yaml"],
        cwd=folder,
        env={**os.environ, "EDGEQ_STORE": str(store)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@contextlib.contextmanager
def killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_an_artifact_holds_its_files_and_nothing_else(project: Project) -> None:
    for item in project.artifacts.values():
        path = Path(item["path"])
        artifact = read_artifact(path)
        assert set(artifact.files) == {MODEL_FILE, DATA_FILE, TOKENIZER_FILE}
        names = {file.name for file in path.iterdir()}
        assert names == {*artifact.files, ARTIFACT_FILE, "stage.json"}
        assert artifact.bytes == item["bytes"] == sum(f.bytes for f in artifact.files.values())


def test_the_record_says_what_went_in(project: Project) -> None:
    calibration = canonical.sha256_of_file(project.folder / "calibration.txt")
    for name, item in project.artifacts.items():
        artifact = read_artifact(Path(item["path"]))
        assert (artifact.name, artifact.model.licence) == (name, "mit")
        assert re.fullmatch("[0-9a-f]{64}", artifact.model.sha256)
        assert artifact.sources == {"calibration": calibration}
        assert {"torch", "onnxruntime", "transformers", "numpy"} <= artifact.tools.keys()
        assert artifact.text is not None
        assert artifact.text.max_tokens == tiny_bert.LONGEST
        assert artifact.dimension == tiny_bert.HIDDEN


def test_the_record_says_nothing_of_this_machine(project: Project) -> None:
    """No absolute path, no time, no user: those differ where the same is built."""
    folders = [project.folder, project.store, Path.home(), Path.cwd()]
    for item in project.artifacts.values():
        text = Path(item["path"], ARTIFACT_FILE).read_text()
        assert not any(str(folder) in text for folder in folders if folder != Path("/"))
        assert not re.search(r'"/[a-z]|"[A-Z]:\\\\', text)
        assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d|\b1[6-9]\d{8}\b", text)


def test_where_a_model_lies_is_not_in_the_record(net: Path, tmp_path: Path) -> None:
    """A source given as an absolute path must not put that path into what is shipped."""
    shutil.copytree(net, tmp_path / "net")
    text = NET.replace("net.onnx", str(tmp_path / "net" / "net.onnx"))
    tiny_bert.write_recipe(tmp_path / "net" / "recipe.yaml", text)
    for path in build(tmp_path / "net", tmp_path / "store").values():
        assert str(tmp_path) not in (path / ARTIFACT_FILE).read_text()


def test_a_second_build_is_found_without_torch(project: Project) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from edgeq.pipeline.workflow import build_recipe\n"
        "built = build_recipe(Path(sys.argv[1]), None, lambda step: None)\n"
        "heavy = [name for name in ('torch', 'transformers', 'optimum') if name in sys.modules]\n"
        "import json; print(json.dumps([[str(item.path) for item in built], heavy]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "recipe.yaml"],
        cwd=project.folder,
        env={**os.environ, "EDGEQ_STORE": str(project.store)},
        capture_output=True,
        text=True,
        check=True,
    )
    paths, heavy = json.loads(done.stdout)
    assert paths == [item["path"] for item in project.artifacts.values()]
    assert heavy == []


def test_a_build_elsewhere_has_the_same_bytes(
    net: Path, tmp_path: Path, reference: dict[str, dict[str, bytes]]
) -> None:
    shutil.copytree(net, tmp_path / "another place")
    assert contents(build(tmp_path / "another place", tmp_path / "store")) == reference


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_build_is_resumed_to_the_same_bytes(
    net: Path, tmp_path: Path, reference: dict[str, dict[str, bytes]], seed: int
) -> None:
    """Killed as its first stage begins, then twice at a random moment of whatever is left."""
    moments = random.Random(seed)
    store = tmp_path / "store"
    kills = 0
    for longest in (0, 0.4, 0.4):
        before = in_the_making(store)
        process = start(net, store)
        with killed(process):
            while process.poll() is None and in_the_making(store) <= before:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, longest))
            kills += process.poll() is None
    assert kills
    for name in ("artifact", "float"):
        for place in (store / name).glob("[0-9a-f]*"):
            if place.is_dir() and place.suffix != ".partial":
                assert (place / "stage.json").is_file()  # whole, or not there
    assert contents(build(net, store)) == reference
    assert not any(store.glob("*/*.partial"))


def test_builds_at_once_do_not_harm_each_other(
    net: Path, tmp_path: Path, reference: dict[str, dict[str, bytes]]
) -> None:
    store = tmp_path / "store"
    both = [start(net, store) for _ in range(2)]
    with killed(both[0]), killed(both[1]):
        for process in both:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()
    stages = [path for path in store.glob("*/*") if path.is_dir()]
    assert len(stages) == 6  # the float graph, its proof, two artifacts, each opened once
    assert contents(build(net, store)) == reference


def test_what_goes_in_decides_the_place(net: Path, tmp_path: Path) -> None:
    folder, store = tmp_path / "net", tmp_path / "store"
    shutil.copytree(net, folder)
    before = build(folder, store)
    write_images(folder / "calibration.npz", seed=1)
    other_data = build(folder, store)
    tiny_bert.write_recipe(folder / "recipe.yaml", NET.replace("c1.w", "c2.w"))
    other_rule = build(folder, store)
    onnx_models.lstm(folder / "other.onnx")
    for name in before:
        assert len({before[name], other_data[name], other_rule[name]}) == 3
    assert len(list((store / "float").glob("*.lock"))) == 1  # the float graph is shared
    tiny_bert.write_recipe(folder / "recipe.yaml", NET)
    write_images(folder / "calibration.npz", seed=0)
    assert build(folder, store) == before


def test_what_an_artifact_does_not_depend_on_leaves_it_alone(net: Path, tmp_path: Path) -> None:
    folder, store = tmp_path / "net", tmp_path / "store"
    shutil.copytree(net, folder)
    before = build(folder, store)
    text = NET.replace("name: net", "name: other") + "budgets: {size: {download: 1 MiB}}\n"
    tiny_bert.write_recipe(folder / "recipe.yaml", text)
    assert build(folder, store) == before


def test_a_store_that_a_power_cut_spoilt_is_made_again(
    net: Path, tmp_path: Path, store: Path, reference: dict[str, dict[str, bytes]]
) -> None:
    shutil.copytree(store, tmp_path / "store")
    damage(tmp_path / "store")
    assert contents(build(net, tmp_path / "store")) == reference


def test_what_is_possible_is_built_beside_an_impossible_variant(tmp_path: Path) -> None:
    onnx_models.convolutional(tmp_path / "net.onnx")
    write_images(tmp_path / "calibration.npz", seed=0)
    tiny_bert.write_recipe(tmp_path / "recipe.yaml", NET.replace("c1.w", "fc.w"))
    for _ in range(2):  # the second time, what is possible lies in the store
        done = run_edgeq("build", "recipe.yaml", "--json", store=tmp_path / "s", cwd=tmp_path)
        reply = json.loads(done.stdout)
        assert done.returncode == reply["exit_status"] == 2, done.stderr
        assert [item["name"] for item in reply["artifacts"]] == ["onnx-int8-static"]
        (problem,) = reply["problems"]
        assert problem["where"] == "recipe.yaml:6:13"
        assert problem["what"].startswith("int8-dynamic quantizes no weight of net.onnx: c1.w")
        assert "int8-static" in problem["remedy"]
    command = ("bundle", "recipe.yaml", "--allow-unchecked", "--out", "x.zip")
    done = run_edgeq(*command, store=tmp_path / "s", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "x.zip: onnx-int8-static" in done.stdout
    assert "recipe.yaml:6:13" in done.stderr


def test_what_is_possible_is_checked(
    net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a stub instead of measurements; the report of what is impossible is the command's own."""
    problem = Problem("recipe.yaml:6:13", "int8-dynamic quantizes no weight", "write another")
    verdicts = [object()]
    monkeypatch.setattr(workflow, "build_possible", lambda *given, **more: ([], [problem]))
    monkeypatch.setattr(workflow, "verdicts_of", lambda *given: verdicts)
    with pytest.raises(Partly) as caught:
        workflow.check_recipe(net / "recipe.yaml", [], False, lambda text: None)
    assert (caught.value.done, caught.value.problems) == (verdicts, (problem,))


def test_calibration_arrays_may_be_float64(net: Path, tmp_path: Path) -> None:
    """numpy's default; running the model takes it, so calibration has to as well."""
    folder = tmp_path / "net"
    shutil.copytree(net, folder)
    write_images(folder / "calibration.npz", seed=0, dtype=np.float64)
    done = run_edgeq("build", "recipe.yaml", store=tmp_path / "store", cwd=folder)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_calibration_array_of_a_wrong_shape_is_refused(net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    shutil.copytree(net, folder)
    np.savez(folder / "calibration.npz", image=np.zeros((4, 3, 32, 31), np.float32))
    done = run_edgeq("build", "recipe.yaml", store=tmp_path / "store", cwd=folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "image" in done.stderr
