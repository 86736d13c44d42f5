"""What another package adds works from the recipe to the bundle, with nothing changed in edgeq."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import edgeq
from edgeq.core.budgets import BUDGETS, Budget, register_budget
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import TASKS, register_task
from edgeq.devices.catalogue import load_device
from edgeq.formats.registry import register_file_format, unregister_file_format
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.check.judge import judge
from edgeq.pipeline.check.observations import Observations
from edgeq.pipeline.check.subject import Observation, Subject
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from edgeq.quantize.methods import (
    ROUNDING_METHODS,
    RoundingMethod,
    Statistics,
    register_rounding_method,
)
from edgeq.quantize.number_formats import (
    NUMBER_FORMATS,
    Floats,
    NumberFormat,
    QuantizedTensor,
    register_number_format,
)
from edgeq.quantize.number_formats.integers import INT4_B32, IntegerFormat
from edgeq.recipe.budgets import Budgets
from edgeq.recipe.json_schema import recipe_schema
from edgeq.report.console import Console
from edgeq.report.explain.facts import budget_words
from edgeq.report.explain.measured import facts_of
from edgeq.report.explain.piece import write
from edgeq.report.page.gather import report_of
from edgeq.report.page.write import write_page
from edgeq.report.terminal import print_verdict
from tests.support import toy_plugin
from tests.support.commands import start_edgeq
from tests.support.tiny_bert import write_recipe

# Three bits that onnxruntime's kernels read as four.
INT3 = IntegerFormat("int3-b32", bits=3, group_size=32, stored_bits=4)


class Largest(RoundingMethod):
    """The scale that just holds the largest weight of each group, as textbooks have it."""

    name = "largest"
    title = "rounding by the largest weight"
    summary = "The largest weight of each group gets the largest code."
    source = "a test, https://example.org/"

    def rounds_onto(self, number_format: NumberFormat) -> bool:
        return type(number_format) is IntegerFormat

    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        assert isinstance(number_format, IntegerFormat)
        largest = np.abs(number_format.split(weight)).max(-1)
        scales = number_format.storable(largest / number_format.highest)
        codes = number_format.encode(weight, scales)
        return QuantizedTensor(number_format, codes, scales, self.name)


def worst_text(observations: Observations) -> Observation:
    """The cosine of the text that quantization hurt most."""
    return observations.worst_output(lambda output: (output.cosine_min, None), min)


WORST_TEXT = Budget(
    section="quality",
    key="worst_text",
    unit="cosine",
    bound="at least",
    words="the similarity of its worst answer to the original's",
    measured_by="quality",
    tasks=("sentence-embedding",),
    summary="Lower bound of the cosine of every text's embedding with the full-precision one.",
    read=worst_text,
)

RECIPE = """\
edgeq: 1
name: toys
model: {source: tiny, task: sentence-embedding}
data:
  evaluation: {path: evaluation.tsv}
quantize:
  default: [int3-b32, {weights: int3-b32, method: largest}]
  rules:
    - {match: "*.attention.self.value.weight", use: int3-b32}
targets:
  - {format: onnx, devices: [here]}
budgets:
  size: {download: 2 MiB}
  quality: {worst_text: -1}
"""
LAYER = "encoder.layer.0.output.dense.weight"


def declare(folder: Path, entries: Mapping[str, str]) -> None:
    """The record of an installed package, with an entry point for each group of `entries`."""
    info = folder / "toy_quant-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-quant\nVersion: 1.0\n")
    text = "".join(f"[{group}]\n{entry}\n" for group, entry in entries.items())
    (info / "entry_points.txt").write_text(text)


def quiet(step: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def toys(tiny: Path, tiny_store: Path) -> Iterator[Path]:
    """A recipe that names a toy of each kind, next to the small BERT."""
    register_number_format(INT3)
    register_rounding_method(Largest())
    register_budget(WORST_TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tiny_store))
        yield write_recipe(tiny.parent / "toys.yaml", RECIPE)
    BUDGETS.unregister("quality.worst_text")
    ROUNDING_METHODS.unregister("largest")
    NUMBER_FORMATS.unregister("int3-b32")


@pytest.fixture(scope="module")
def built(toys: Path) -> dict[str, Built]:
    return {item.artifact.name: item for item in build_recipe(toys, None, quiet)}


@pytest.fixture(scope="module")
def verdicts(toys: Path, built: dict[str, Built]) -> list[Verdict]:
    return check_recipe(toys, ["here"], False, quiet, None, False, ())


def test_the_schema_completes_and_checks_the_toys(toys: Path) -> None:
    variant = recipe_schema()["$defs"]["VariantSpec"]["properties"]
    assert "int3-b32" in str(variant["weights"])
    assert "largest" in str(variant["method"])
    mistyped = write_recipe(
        toys.parent / "mistyped.yaml", RECIPE.replace("[int3-b32,", "[int3b32,")
    )
    with pytest.raises(InvalidInput, match="did you mean 'int3-b32'"):
        make_plan(mistyped)


def test_a_plan_knows_their_bytes(toys: Path, built: dict[str, Built]) -> None:
    for artifact in make_plan(toys).plan.artifacts:
        planned = {tensor.name: tensor for tensor in artifact.tensors}
        recorded = built[artifact.name].artifact.tensors
        assert planned[LAYER].number_format == "int3-b32"
        assert {name: planned[name].bytes for name in recorded if name in planned} == {
            name: record.bytes for name, record in recorded.items() if name in planned
        }


def test_the_file_holds_the_toys_own_codes(toys: Path, built: dict[str, Built]) -> None:
    import onnx
    from onnx.numpy_helper import to_array
    from safetensors.numpy import load_file

    weight = load_file(toys.parent / "tiny" / "model.safetensors")[LAYER]
    groups = weight.reshape(len(weight), -1, 32)
    scales = (np.abs(groups).max(-1) / 3).astype(np.float16).astype(np.float32)
    wanted = np.clip(np.rint(groups / scales[..., None]), -4, 3)

    item = built["onnx-int3-b32-largest"]
    assert item.artifact.tensors[LAYER].method == "largest"
    model = onnx.load(item.path / "model.onnx")
    (packed,) = (to_array(t) for t in model.graph.initializer if t.name == f"{LAYER}.codes")
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(wanted.shape).astype(np.int8) - 8
    assert np.array_equal(codes, wanted)


def test_they_are_checked_bundled_and_run(
    toys: Path, built: dict[str, Built], verdicts: list[Verdict]
) -> None:
    assert {verdict.artifact for verdict in verdicts} == set(built)
    assert all(line.status == "pass" for verdict in verdicts for line in verdict.lines)
    out = toys.parent / "toys.zip"
    bundle_recipe(BundleRequest(toys, out, artifact="onnx-int3-b32-largest"), quiet)
    item = built["onnx-int3-b32-largest"]
    bundled, unbundled = (edgeq.load(path).embed(["ba be bi"]) for path in (out, item.path))
    assert np.array_equal(bundled, unbundled)
    assert np.isfinite(bundled).all()


def test_the_schema_knows_the_toy_budget(toys: Path) -> None:
    quality = recipe_schema()["$defs"]["QualityBudget"]["properties"]
    assert "every text's embedding" in quality["worst_text"]["description"]
    budgets = make_plan(toys).recipe.budgets
    assert budgets.limit(WORST_TEXT) == -1
    assert budgets.model_dump(mode="json")["quality"]["worst_text"] == -1


@pytest.mark.parametrize(
    ("old", "new", "what", "remedy"),
    [
        ("worst_text: -1", "worst_text: low", "quality.worst_text|expected a number", ""),
        ("worst_text: -1", "worst_text: '0.9'", "expected a number", ""),
        ("worst_text: -1", "worst_text: -1, cosines: 2", "unknown key 'cosines'", "cosine"),
        ("worst_text: -1", "worst_text: -1, cosine: 2", "less than or equal to 1", ""),
        ("  evaluation: {path: evaluation.tsv}\n", "  {}\n", "no data to measure it on", ""),
    ],
)
def test_a_mistake_in_the_toy_budget_is_named(
    toys: Path, old: str, new: str, what: str, remedy: str
) -> None:
    assert old in RECIPE
    mistaken = write_recipe(toys.parent / "mistaken.yaml", RECIPE.replace(old, new))
    with pytest.raises(InvalidInput) as raised:
        make_plan(mistaken)
    (problem,) = raised.value.problems
    assert re.search(what, problem.what)
    assert remedy in problem.remedy


@pytest.mark.parametrize(("by", "status"), [(-1e-9, "pass"), (1e-9, "fail")])
def test_the_toy_budget_is_judged_and_shown(
    verdicts: list[Verdict], by: float, status: str
) -> None:
    verdict = verdicts[0]
    measured = verdict.measurement
    assert measured.quality is not None
    value = min(output.cosine_min for output in measured.quality.outputs.values())
    assert value < 1
    here = load_device("here")
    subject = Subject(verdict.variant, measured, verdict.float_measurement, here, {})
    budgets = Budgets.model_validate({"quality": {"worst_text": value + by}})
    judged = judge(subject, here, budgets)
    (line,) = [line for line in judged.lines if line.budget == "quality.worst_text"]
    assert (line.status, line.value, line.samples) == (status, value, 24)
    shown = io.StringIO()
    print_verdict(judged, Console(file=shown, width=80))
    assert budget_words()[line.budget] == WORST_TEXT.words
    assert re.search(rf"quality.worst_text +>= {value:.5f} .* {status}", shown.getvalue())


@pytest.mark.parametrize("reading", [None, lambda observations: 0.9])
def test_a_budget_that_cannot_be_read_is_refused(
    verdicts: list[Verdict], reading: Callable[[Observations], float] | None
) -> None:
    verdict, here = verdicts[0], load_device("here")
    subject = Subject(verdict.variant, verdict.measurement, verdict.float_measurement, here, {})
    unreadable = register_budget(dataclasses.replace(WORST_TEXT, key="unread", read=reading))
    try:
        budgets = Budgets.model_validate({"quality": {"unread": 0.5}})
        with pytest.raises(InvalidInput, match="must be read from the measurements"):
            judge(subject, here, budgets)
    finally:
        BUDGETS.unregister(unreadable.name)


def test_a_budget_in_bytes_is_written_with_its_unit() -> None:
    budget = Budget("memory", "mapped", "bytes", "at most", "mapped memory", "memory")
    register_budget(budget)
    try:
        read = Budgets.model_validate_json('{"memory": {"mapped": "2 MiB", "peak": "3 MiB"}}')
        assert (read.limit(budget), read.memory.peak) == (2 << 20, 3 << 20)
        assert Budgets.model_validate_json(read.model_dump_json()) == read
        for key in ("mapped", "peak"):
            with pytest.raises(ValidationError, match=rf"memory\.{key}\n.*has no unit"):
                Budgets.model_validate_json(f'{{"memory": {{"mapped": "1 B", "{key}": 2}}}}')
    finally:
        BUDGETS.unregister(budget.name)


def test_a_budget_uses_the_words_of_verdicts() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'seconds'"):
        dataclasses.replace(WORST_TEXT, unit="second")  # type: ignore[arg-type]


def test_a_name_is_one_thing() -> None:
    with pytest.raises(InvalidInput, match="the number format 'int4-b32' already exists"):
        register_number_format(IntegerFormat("int4-b32", bits=4, group_size=64))
    assert register_number_format(INT4_B32) is INT4_B32
    with pytest.raises(InvalidInput, match="did you mean 'gptq'"):
        ROUNDING_METHODS.named("gtpq")


PLAIN_RECIPE = """\
edgeq: 1
name: plain
model: {source: tiny, task: text-fingerprint}
data:
  evaluation: {path: evaluation.tsv}
quantize:
  default: {weights: int8-b32, method: largest}
  rules:
    - {match: "embeddings.*", use: float32}
targets:
  - {format: plain, devices: [here]}
budgets:
  quality: {cosine: 0.5}
"""


@pytest.fixture(scope="module")
def plain(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recipe that names the file format and the task of a package, which is installed."""
    site = tmp_path_factory.mktemp("site")
    shutil.copyfile(toy_plugin.__file__, site / "toy_plugin.py")
    entries = {"edgeq.file_formats": "PLAIN", "edgeq.tasks": "FINGERPRINT"}
    declare(site, {group: f"toy = toy_plugin:{name}" for group, name in entries.items()})
    register_file_format(toy_plugin.PLAIN)
    register_task(toy_plugin.FINGERPRINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)  # of the processes that measure, too
        yield write_recipe(toys.parent / "plain.yaml", PLAIN_RECIPE)
    TASKS.unregister("text-fingerprint")
    unregister_file_format("plain")


@pytest.fixture(scope="module")
def plain_built(plain: Path) -> Built:
    (built,) = build_recipe(plain, None, quiet)
    return built


def test_the_schema_completes_and_checks_format_and_task(plain: Path) -> None:
    definitions = recipe_schema()["$defs"]
    assert "plain" in definitions["TargetSpec"]["properties"]["format"]["enum"]
    task = definitions["ModelSpec"]["properties"]["task"]
    assert "text-fingerprint" in task["enum"]
    assert "text-fingerprint: text to a fingerprint." in task["description"]
    for word, near in (("plain,", "plan,"), ("text-fingerprint", "text-fingerprints")):
        mistyped = PLAIN_RECIPE.replace(word, near)
        with pytest.raises(InvalidInput, match=f"did you mean '{word.strip(',')}'"):
            make_plan(write_recipe(plain.parent / "mistyped.yaml", mistyped))


def test_budgets_are_those_of_the_task(plain: Path) -> None:
    other = PLAIN_RECIPE.replace("{cosine: 0.5}", "{spearman: 50}")
    with pytest.raises(InvalidInput, match="not measured for the task 'text-fingerprint'"):
        make_plan(write_recipe(plain.parent / "other.yaml", other))


def test_the_files_of_the_format_are_what_transformers_makes_of_the_codes(
    plain: Path, plain_built: Built
) -> None:
    import torch
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer, BertModel

    planned = {t.name: t.number_format for t in make_plan(plain).plan.artifacts[0].tensors}
    recorded = plain_built.artifact.tensors
    assert {name: planned[name] for name in recorded} == {
        n: r.number_format for n, r in recorded.items()
    }
    folder = plain.parent / "tiny"
    weights = load_file(folder / "model.safetensors")
    coded = [name for name, record in recorded.items() if record.number_format == "int8-b32"]
    assert LAYER in coded
    network = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    for name in coded:
        groups = weights[name].reshape(len(weights[name]), -1, 32)
        scales = (np.abs(groups).max(-1, keepdims=True) / 127).astype(np.float16)
        rounded = np.rint(groups / scales.astype(np.float32)).clip(-128, 127) * scales
        tensor = torch.from_numpy(rounded.astype(np.float32).reshape(weights[name].shape))
        network.get_parameter(name).data.copy_(tensor)
    text = "ba be bi bo"
    ids = AutoTokenizer.from_pretrained(folder)(text, padding=False, return_tensors="pt")
    with torch.inference_mode():
        pooled = network(**ids)[0][0].mean(0).numpy()
    found = edgeq.load(plain_built.path).embed([text])[0]
    assert found == pytest.approx(pooled, abs=1e-4)


def test_format_and_task_are_checked_bundled_and_reported(plain: Path, plain_built: Built) -> None:
    (verdict,) = check_recipe(plain, ["here"], False, quiet, None, False, ())
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.cosine"].status == "pass"
    assert 0.99 < (lines["quality.cosine"].value or 0) < 1
    out = plain.parent / "plain.zip"
    bundle_recipe(BundleRequest(plain, out), quiet)
    bundled, unbundled = (edgeq.load(path).embed(["ba be"]) for path in (out, plain_built.path))
    assert np.array_equal(bundled, unbundled)
    report = report_of(plain, ["here"], quiet)
    assert report.task == "text-fingerprint"
    page = plain.parent / "plain.html"
    write_page(report, page)
    assert plain_built.artifact.name in page.read_text(encoding="utf-8")
    said = write(facts_of(report)).piece.text
    assert "a model that makes a fingerprint of a text" in said


PLUGIN = """\
from edgeq.quantize.number_formats.integers import IntegerFormat

FORMAT = IntegerFormat("int4-b64", bits=4, group_size=64)
"""


def install(folder: Path, entry: str) -> None:
    """A package with one entry point, as pip leaves it."""
    declare(folder, {"edgeq.number_formats": entry})
    (folder / "toy_quant.py").write_text(PLUGIN)


@pytest.mark.parametrize(
    ("entry", "status", "said"),
    [
        ("b64 = toy_quant:FORMAT", 0, '"int4-b64"'),
        ("b64 = toy_quant:ABSENT", 2, "toy-quant: entry point edgeq.number_formats: b64"),
        ("b64 = toy_quant:IntegerFormat", 2, "is not a NumberFormat"),
    ],
)
def test_an_installed_package_is_found(tmp_path: Path, entry: str, status: int, said: str) -> None:
    install(tmp_path / "site", entry)
    done = start_edgeq(
        "schema", store=tmp_path / "store", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")
    )
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
