"""A recipe with a Core AI target, from the plan to the bundle and back, by Apple's runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from tests.support.tiny_bert import write_recipe

RECIPE = """\
edgeq: 1
name: tiny-coreai
model: {source: tiny, task: sentence-embedding}
data:
  evaluation: {path: evaluation.tsv, samples: 12}
quantize:
  default:
    - float32
    - int8
    - {weights: int4-b32, method: nearest}
targets:
  - {format: coreai, devices: [iphone-15-pro-ios27]}
  - {format: onnx, devices: [here]}
budgets:
  quality: {cosine: 0.5}
"""
TEXTS = ["ba be bi bo", "ca", "da do du di de da"]


def quiet(step: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def recipe(tiny: Path, tiny_store: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tiny_store))
        yield write_recipe(tiny.parent / "coreai.yaml", RECIPE)


@pytest.fixture(scope="module")
def built(recipe: Path) -> dict[str, Built]:
    return {item.artifact.name: item for item in build_recipe(recipe, None, quiet)}


def test_the_plan_knows_bytes_and_release(recipe: Path, built: dict[str, Built]) -> None:
    for planned in make_plan(recipe).plan.artifacts:
        if planned.format != "coreai":
            continue
        assert planned.deployment_target == "iOS 27 / macOS 27"
        artifact = built[planned.name].artifact
        assert artifact.weight_bytes == planned.weight_bytes
        actual = sum(record.bytes for record in artifact.files.values())
        assert actual == pytest.approx(planned.download_bytes, rel=0.1)


@pytest.mark.parametrize("name", ["float32", "int4-b32-nearest"])
def test_answers_are_those_of_the_same_codes_in_onnx(name: str, built: dict[str, Built]) -> None:
    found, wanted = (
        edgeq.load(built[f"{format}-{name}"].path).embed(TEXTS) for format in ("coreai", "onnx")
    )
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    assert np.sum(found * wanted, axis=1) / lengths == pytest.approx(1, abs=1e-5)


def test_quality_is_emulated_and_times_are_not_run(recipe: Path, built: dict[str, Built]) -> None:
    verdicts = check_recipe(recipe, ["iphone-15-pro-ios27"], False, quiet, None, False, ())
    assert {verdict.artifact for verdict in verdicts} == {n for n in built if "coreai" in n}
    for verdict in verdicts:
        lines = {line.budget: line for line in verdict.lines}
        quality = lines["quality.cosine"]
        assert (quality.status, quality.how) == ("pass", "emulated")
        assert "by Core AI's own runtime on Linux" in quality.reason
        memory = lines["device.memory"]
        assert (memory.status, memory.how) == ("not run", "estimated")
        assert memory.reason.startswith("apps run Core AI on Apple's systems only")


def test_a_bundle_holds_the_model_and_runs(recipe: Path, built: dict[str, Built]) -> None:
    out = recipe.parent / "coreai.zip"
    bundle_recipe(
        BundleRequest(
            recipe, out, device="iphone-15-pro-ios27", artifact="coreai-int8", allow_unchecked=True
        ),
        quiet,
    )
    bundled, unbundled = (
        edgeq.load(path).embed(TEXTS) for path in (out, built["coreai-int8"].path)
    )
    assert np.array_equal(bundled, unbundled)
    with pytest.raises(InvalidInput, match="chooses its own number of threads"):
        edgeq.load(out, threads=1)


@pytest.mark.parametrize(
    ("old", "new", "what", "remedy"),
    [
        ("iphone-15-pro-ios27", "iphone-15-pro", "cannot run the format 'coreai'", "it runs:"),
        ("- int8\n", "- int8-dynamic\n", "", ""),
    ],
)
def test_what_cannot_be_is_named(recipe: Path, old: str, new: str, what: str, remedy: str) -> None:
    changed = write_recipe(recipe.parent / "changed.yaml", RECIPE.replace(old, new))
    if not what:  # the other target holds it
        names = [artifact.name for artifact in make_plan(changed).plan.artifacts]
        assert "onnx-int8-dynamic" in names and "coreai-int8-dynamic" not in names
        return
    with pytest.raises(InvalidInput, match=what) as caught:
        make_plan(changed)
    assert any(remedy in problem.remedy for problem in caught.value.problems)


def test_a_release_without_core_ai_is_refused_with_what_it_reads(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Path(__file__).parents[2] / "devices" / "iphone-15-pro-ios27.yaml"
    older = profile.read_text().replace("id: iphone-15-pro-ios27", "id: older")
    (recipe.parent / "devices").mkdir(exist_ok=True)
    (recipe.parent / "devices" / "older.yaml").write_text(older.replace('"27"', '"26"'))
    monkeypatch.chdir(recipe.parent)
    changed = RECIPE.replace("iphone-15-pro-ios27", "older")
    with pytest.raises(InvalidInput, match="has ios 26, Core AI begins with iOS 27") as caught:
        make_plan(write_recipe(recipe.parent / "changed.yaml", changed))
    (problem,) = caught.value.problems
    assert "write 'format: coreml', which iOS 16 / macOS 13 reads" in problem.remedy
