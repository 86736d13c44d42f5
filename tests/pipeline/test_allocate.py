"""From a budget to a file: sensitivities of a real small model, choices, trials, what is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="the extra 'fit' is not installed")
pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

from edgeq.core.artifact import GGUF_FILE, read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.formats.gguf.header import read_header
from edgeq.pipeline.allocate.allocation import FILE as ALLOCATION
from edgeq.pipeline.allocate.allocation import Allocation, allocate
from edgeq.pipeline.allocate.sensitivity import Cost, Sensitivity, Whole
from edgeq.pipeline.allocate.workflow import foreseen, sensitivity_of_recipe
from edgeq.pipeline.build.build import Built, artifact_maker
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import build_recipe
from tests.support import tiny_decoders

ROOT = Path(__file__).parents[2]
RECIPE = """\
edgeq: 1
name: tiny
model: {{source: ./tiny, task: text-generation}}
data:
  calibration: {{path: calibration.txt}}
  evaluation: {{path: evaluation.txt, samples: 4}}
quantize:
  fit: {fit}
  rules:
    - {{match: "*.layers.0.self_attn.v_proj.weight", use: Q8_0}}
targets: [{{format: gguf, devices: [here]}}]
workload: {{context: 128, prompt: 64, generate: 8}}
"""
SIZE = "{size: 1 MiB}"


def silent(step: str) -> None:
    pass


def write(folder: Path, fit: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(RECIPE.format(fit=fit))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a small model and its store."""
    path = tmp_path_factory.mktemp("allocate")
    tiny_decoders.make(path / "tiny", "smollm2", num_hidden_layers=1)
    text = tiny_decoders.TEXT.read_text()
    (path / "calibration.txt").write_text(text[:16000])
    (path / "evaluation.txt").write_text(text[50000:60000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(path / "store"))
        yield path


@pytest.fixture(scope="module")
def sensitivity(folder: Path) -> Sensitivity:
    return sensitivity_of_recipe(write(folder, SIZE, "sensitivity.yaml"), None, silent)


@pytest.fixture(scope="module")
def built(folder: Path, sensitivity: Sensitivity) -> Built:
    """The best file of half the way between the smallest and the largest."""
    low, high = ends(folder)
    (item,) = build_recipe(
        write(folder, f"{{size: {(low + high) // 2} B, name: half}}"), None, silent
    )
    return item


def ends(folder: Path) -> tuple[int, int]:
    from edgeq.pipeline.allocate.bounds import sizes_of

    return sizes_of(make_plan(write(folder, SIZE, "ends.yaml")), "gguf")


def allocation(folder: Path, recipe: str) -> Allocation:
    planned = make_plan(folder / recipe, weights=True)
    stages = Stages(planned, Store(), silent)
    (fit,) = planned.recipe.quantize.fit
    _, found = allocate(stages, "gguf", fit, artifact_maker(stages))
    return found


def test_wider_formats_cost_less(sensitivity: Sensitivity) -> None:
    for costs in sensitivity.tensors.values():
        losses = [cost.loss for cost in costs.values()]
        assert all(loss > 0 for loss in losses)
        assert losses == sorted(losses, reverse=True)
        assert {cost.how for cost in costs.values()} == {"measured", "interpolated"}


def test_a_sensitivity_is_found_again_and_travels(folder: Path, sensitivity: Sensitivity) -> None:
    path = folder / "sensitivity.json"
    path.write_text(sensitivity.model_dump_json())
    text = RECIPE.format(fit=SIZE).replace(
        "  evaluation", "  sensitivity: {path: sensitivity.json}\n  evaluation"
    )
    (folder / "given.yaml").write_text(text)
    assert sensitivity_of_recipe(folder / "given.yaml", None, silent) == sensitivity
    other = sensitivity.model_copy(update={"model_sha256": "0" * 64})
    path.write_text(other.model_dump_json())
    with pytest.raises(InvalidInput, match="another model"):
        sensitivity_of_recipe(folder / "given.yaml", None, silent)
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="not a sensitivity file of this edgeq version"):
        sensitivity_of_recipe(folder / "given.yaml", None, silent)


def test_the_file_fits_and_rules_are_kept(folder: Path, built: Built) -> None:
    low, high = ends(folder)
    record = read_artifact(built.path)
    assert record.name == "gguf-half"
    assert low < record.bytes <= (low + high) // 2
    assert record.bytes > 0.97 * (low + high) / 2  # next to nothing is left over
    ruled = record.tensors["model.layers.0.self_attn.v_proj.weight"]
    assert (ruled.number_format, ruled.note.split(":")[0]) == ("int8-b32", "rule 1")
    types = {tensor.type.name for tensor in read_header(built.path / GGUF_FILE).tensors.values()}
    assert len(types - {"F32"}) > 2


def test_what_was_planned_is_what_is_written(folder: Path, built: Built) -> None:
    found = allocation(folder, "recipe.yaml")
    for trial in found.trials:
        assert trial.planned_bytes == trial.bytes
    planned = foreseen(make_plan(folder / "recipe.yaml"), silent)
    (artifact,) = planned.plan.artifacts
    assert artifact.pending == ""
    assert artifact.download_bytes == built.artifact.bytes


def test_equal_budgets_make_equal_bytes(folder: Path, built: Built, tmp_path: Path) -> None:
    """With another store, and another evaluation text: neither can matter."""
    other = tmp_path / "project"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("store"))
    shutil.copytree(folder / "store" / "sensitivity", other / "store" / "sensitivity")
    (other / "evaluation.txt").write_text(tiny_decoders.TEXT.read_text()[60000:70000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(other / "store"))
        (again,) = build_recipe(other / "recipe.yaml", None, silent)
    assert (again.path / GGUF_FILE).read_bytes() == (built.path / GGUF_FILE).read_bytes()


def test_quality_is_kept_by_the_smallest_file(
    folder: Path, built: Built, sensitivity: Sensitivity
) -> None:
    kl = 1.5 * allocation(folder, "recipe.yaml").kept.measured
    write(folder, f"{{quality: {{kl: {kl}}}, name: near}}", "near.yaml")
    found = allocation(folder, "near.yaml")
    assert found.kept.measured <= kl
    assert found.kept.bytes <= built.artifact.bytes
    assert found.kept.bytes == min(t.bytes for t in found.trials if t.measured <= kl)


def test_what_cannot_be_kept_names_what_can(folder: Path, sensitivity: Sensitivity) -> None:
    low, high = ends(folder)
    for fit, nearest in (
        (f"{{size: {low // 2} B}}", "takes at least"),
        (f"{{size: {(low + high) // 2} B, quality: {{kl: 0.0000001}}}}", "predicted to lose"),
        ("{memory: 1 MiB}", "of memory on here"),
    ):
        path = write(folder, fit, "tight.yaml")
        with pytest.raises(InvalidInput, match=nearest):
            build_recipe(path, None, silent)


def test_whole_models_correct_sums() -> None:
    wholes = tuple(
        Whole(additive=a, loss=b, error=0.0, bytes=1) for a, b in ((0.01, 0.005), (1.0, 2.0))
    )
    sums = [10 ** (i / 10) for i in range(-40, 10)]
    known = [0.01, 1.0, *sums]
    found = Sensitivity(
        format="gguf",
        measure="kl",
        model_sha256="",
        data_sha256="",
        samples=2,
        whole_samples=2,
        tensors={
            "layer": {
                str(i): Cost(loss=each, error=None, local=1.0, how="interpolated", inputs=0.001)
                for i, each in enumerate(known)
            }
        },
        wholes=wholes,
    )
    for index, whole in enumerate(wholes):
        assert found.predicted({"layer": str(index)}) == pytest.approx(whole.loss + 0.001)
    assert found.predicted({"layer": "float"}) == 0
    predicted = [found.predicted({"layer": str(i)}) for i in range(2, len(known))]
    assert predicted == sorted(predicted)


_WATCH = """
import inspect, sys
from pathlib import Path
evaluation, recipe = sys.argv[1:]
opened = {True: 0, False: 0}
calibration = 0
def watch(event, given):
    global calibration
    if event == "open" and str(given[0]).endswith("calibration.txt"):
        calibration += 1
    if event == "open" and str(given[0]).endswith(evaluation):
        opened[any(frame.function == "check_data" for frame in inspect.stack(0))] += 1
sys.addaudithook(watch)
from edgeq.pipeline.workflow import build_recipe
build_recipe(Path(recipe), None, lambda step: None)
print(opened[True], opened[False], calibration)
"""


def test_rounding_never_sees_the_evaluation_data(folder: Path) -> None:
    """Sensitivities, trials and the file are made in a process that watches what it opens.

    The evaluation data are opened by what compares them with the calibration data, before anything
    is made, and that returns nothing but problems.
    """
    recipe = write(folder, "{size: 900 KiB, trials: 1}", "watched.yaml")
    command = [sys.executable, "-c", _WATCH, "evaluation.txt", str(recipe)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    compared, elsewhere, calibration = map(int, done.stdout.split())
    assert compared > 0  # the watch sees what is opened
    assert calibration > compared
    assert elsewhere == 0


def test_a_build_refuses_text_that_is_in_both_files(folder: Path) -> None:
    text = (folder / "calibration.txt").read_text(encoding="utf-8")
    (folder / "leaked.txt").write_text(text[:2000], encoding="utf-8")
    recipe = write(folder, "{size: 900 KiB}", "leaked.yaml")
    leaked = recipe.read_text(encoding="utf-8").replace("evaluation.txt", "leaked.txt")
    recipe.write_text(leaked, encoding="utf-8")
    with pytest.raises(InvalidInput, match="are in the calibration data too"):
        build_recipe(recipe, None, lambda step: None)


def test_trials_are_records(folder: Path, built: Built) -> None:
    places = list((folder / "store" / "allocation").glob(f"*/{ALLOCATION}"))
    assert places
    for place in places:
        found = Allocation.model_validate(json.loads(place.read_text()))
        assert found.trials[found.best] == found.kept
