"""Several models in one bundle: one verdict, and the answers of each as by itself."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnxruntime
from typer.testing import CliRunner

import edgeq
from edgeq.cli.main import app
from edgeq.core.artifact import read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.pipeline import parts as parts_module
from edgeq.pipeline.check import check as check_module
from edgeq.pipeline.check import workflow
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.parts import assemble
from edgeq.pipeline.workflow import Bundled, BundleRequest, build_recipe, bundle_recipe, check
from edgeq.recipe.parts import load_parts
from edgeq.report.explain.measured import facts_of
from edgeq.report.explain.piece import write
from edgeq.report.page.render import render
from edgeq.report.page.write import open_report
from tests.support import onnx_models
from tests.support.tiny_bert import write_recipe

PART = """\
edgeq: 1
name: {name}
model: {{source: ./{name}.onnx, task: tensor, licence: {licence}}}
data:
  evaluation: {{path: {name}.npz}}
quantize: {{default: [int8]}}
targets: [{{format: onnx, devices: [here]}}]
budgets: {{quality: {{error: {error}}}}}
"""
WHOLE = """\
edgeq: 1
name: pair
parts:
  eye: eye.yaml
  mouth: {recipe: mouth.yaml, runs: 3}
budgets:
  size: {download: 1 MiB}
  memory: {peak: 2 GiB}
  latency: {p90: 10 s}
"""
SHAPES = {"eye": (256, 192), "mouth": (192, 128)}


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def save_parts(folder: Path, error: str = "0.1") -> Path:
    rng = np.random.default_rng(0)
    for seed, (name, (width, height)) in enumerate(SHAPES.items()):
        onnx_models.product(folder / f"{name}.onnx", seed, width, height)
        rows = rng.standard_normal((24, 1, width)).astype(np.float32)
        np.savez(folder / f"{name}.npz", row=rows)
        licence = {"eye": "mit", "mouth": "apache-2.0"}[name]
        text = PART.format(name=name, licence=licence, error=error)
        write_recipe(folder / f"{name}.yaml", text)
    return write_recipe(folder / "pair.yaml", WHOLE)


@dataclass(frozen=True)
class Pair:
    recipe: Path
    bundled: Bundled

    @property
    def folder(self) -> Path:
        return self.recipe.parent


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    recipe = save_parts(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        patch.setenv("EDGEQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Emulated CPUs take a minute, and tests of their own.
        patch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
        out = folder / "pair.zip"
        yield Pair(recipe, bundle_recipe(BundleRequest(recipe, out), quiet))


def test_the_verdict_is_one_of_all(pair: Pair) -> None:
    verdict = pair.bundled.verdict
    assert verdict is not None
    assert (verdict.artifact, verdict.status) == ("onnx-parts", "pass")
    assert verdict.measurement.reference == "the float models of its parts"
    lines = {line.budget: line for line in verdict.lines}
    assert {*lines} == {
        *("device.memory", "memory.peak", "latency.p90", "size.download"),
        *("eye.quality.error", "mouth.quality.error"),
    }
    built = {
        each.artifact.model.name: each.artifact for each in build_recipe(pair.recipe, None, quiet)
    }
    size = lines["size.download"].value
    assert size is not None
    assert size > sum(each.bytes for each in built.values())
    assert size < 0.3 * (lines["size.download"].float_value or 0) + 40_000  # graphs and records
    assert any("eye" in note and "mouth" in note and "× 3" in note for note in verdict.notes)


def test_the_whole_is_timed_as_its_parts_run(pair: Pair) -> None:
    verdict = pair.bundled.verdict
    assert verdict is not None
    latency = verdict.measurement.latency
    assert latency is not None
    assert "eye/row 1×256, mouth/row 1×192" in latency.conditions.inputs
    memory, floats = verdict.measurement.memory, verdict.float_measurement.memory
    assert memory is not None and floats is not None
    assert memory.conditions.inputs == latency.conditions.inputs


def test_parts_answer_as_by_themselves(pair: Pair) -> None:
    model = edgeq.load(pair.bundled.path)
    assert [*model.parts] == ["eye", "mouth"]
    for built in build_recipe(pair.recipe, None, quiet):
        name = built.artifact.model.name.removesuffix(".onnx")
        with np.load(pair.folder / f"{name}.npz") as rows:
            row = rows["row"][0]
        (wanted,) = onnxruntime.InferenceSession(built.path / "model.onnx").run(None, {"row": row})
        assert np.array_equal(model.parts[name].run({"row": row})["y"], wanted)
    with pytest.raises(InvalidInput, match=r"use \.parts\['eye'\] or \.parts\['mouth'\]"):
        model.embed(["a"])
    with pytest.raises(InvalidInput, match="lacks inputs: mouth/row"):
        model.run({"eye/row": row})


def test_a_bundle_describes_each_part(pair: Pair, tmp_path: Path) -> None:
    with zipfile.ZipFile(pair.bundled.path) as archive:
        archive.extractall(tmp_path)
    for name in SHAPES:
        assert (tmp_path / "about" / name / "selftest.json").is_file()
        assert f"| `{name}/` |" in (tmp_path / "README.md").read_text()
    assert [*edgeq.load(tmp_path).parts] == [*SHAPES]
    (tmp_path / "eye" / "model.onnx").write_bytes(b"another")
    with pytest.raises(InvalidInput, match=r"eye/model\.onnx"):
        edgeq.load(tmp_path)


def test_licences_add_up(pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built = {
        each.artifact.model.name.removesuffix(".onnx"): each
        for each in build_recipe(pair.recipe, None, quiet)
    }
    record = read_artifact(assemble(pair.recipe, load_parts(pair.recipe), "onnx", built).path)
    assert record.model.licence == "apache-2.0 AND mit"
    assert record.parts == {"eye": 1, "mouth": 3}


def test_commands_for_one_model_name_the_parts(pair: Pair) -> None:
    result = CliRunner().invoke(app, ["frontier", str(pair.recipe)])
    assert isinstance(result.exception, InvalidInput)
    assert "eye.yaml" in str(result.exception)
    with pytest.raises(InvalidInput, match="leave it out"):
        bundle_recipe(
            BundleRequest(pair.recipe, pair.folder / "b.zip", artifact="onnx-int8"), quiet
        )


def test_a_report_shows_the_whole_and_measures_nothing_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (parts_module, check_module):
        monkeypatch.setattr(module, "check", None)
    report, verdict = open_report(pair.recipe, ["here"], quiet), pair.bundled.verdict
    assert verdict is not None
    assert report.verdicts == (verdict,)
    piece = write(facts_of(report)).piece.text
    assert "pair is 2 models that ship together, eye and mouth." in piece
    assert "Fewer bits: INT8." in piece
    for line in verdict.lines:
        if ".quality." in line.budget:
            assert line.value is not None
            assert f"{line.budget.partition('.')[0]}: the error of its answers" in piece
            assert format_value(line.value, line.unit) in piece
    pytest.importorskip("jinja2", reason="the report extra is not installed")
    page = render(report)
    assert "What ships: each part" in page
    for name, (width, height) in SHAPES.items():
        assert f"<td>{name}</td><td>INT8</td>" in page
        assert f"{width} × {height}" in page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("eye: eye.yaml", "eye: other.yaml", "pair.yaml:4:8: parts.eye: .*does not exist"),
        ("eye: eye.yaml", "eye: pair.yaml", "has parts"),
        ("  eye:", "  Eye:", "cannot name a part"),
        ("runs: 3", "runs: 0", "parts.mouth.runs"),
        ("p90: 10 s", "first_token: 10 s", "latency.first_token: is not measured for all"),
        ("{p90: 10 s}", "{p90: 10 s}\n  quality: {error: 0.1}", "write it in a part's recipe"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    recipe = save_parts(tmp_path)
    write_recipe(recipe, WHOLE.replace(old, new))
    with pytest.raises(InvalidInput, match=message):
        check(recipe, ["here"], False, quiet)


def test_parts_need_a_target_in_common(tmp_path: Path) -> None:
    recipe = save_parts(tmp_path)
    mouth = tmp_path / "mouth.yaml"
    write_recipe(mouth, mouth.read_text().replace("[here]", "[pi5-8gb]"))
    with pytest.raises(InvalidInput, match="eye: onnx on here; mouth: onnx on pi5-8gb"):
        check(recipe, [], False, quiet)
