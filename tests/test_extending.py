"""What another package adds works from the recipe to the bundle, with nothing changed in edgeq."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import build_recipe, bundle_recipe
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
from edgeq.recipe.schema import recipe_schema
from tests.support.tiny_bert import run_edgeq, write_recipe

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
"""
LAYER = "encoder.layer.0.output.dense.weight"


def quiet(step: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def toys(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recipe that names a toy of each kind, next to the small BERT."""
    register_number_format(INT3)
    register_rounding_method(Largest())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        yield write_recipe(tiny.parent / "toys.yaml", RECIPE)
    ROUNDING_METHODS.unregister("largest")
    NUMBER_FORMATS.unregister("int3-b32")


@pytest.fixture(scope="module")
def built(toys: Path) -> dict[str, Built]:
    return {item.artifact.name: item for item in build_recipe(toys, None, quiet)}


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
        assert planned[LAYER].grid == "int3-b32"
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


def test_they_are_checked_bundled_and_run(toys: Path, built: dict[str, Built]) -> None:
    verdicts = check_recipe(toys, ["here"], False, quiet, None, False, ())
    assert {verdict.artifact for verdict in verdicts} == set(built)
    assert all(line.status == "pass" for verdict in verdicts for line in verdict.lines)
    out = toys.parent / "toys.zip"
    bundle_recipe(toys, "here", out, "onnx-int3-b32-largest", False, quiet, False)
    item = built["onnx-int3-b32-largest"]
    bundled, unbundled = (edgeq.load(path).embed(["ba be bi"]) for path in (out, item.path))
    assert np.array_equal(bundled, unbundled)
    assert np.isfinite(bundled).all()


def test_a_name_is_one_thing() -> None:
    with pytest.raises(InvalidInput, match="there already is a number format 'int4-b32'"):
        register_number_format(IntegerFormat("int4-b32", bits=4, group_size=64))
    assert register_number_format(INT4_B32) is INT4_B32
    with pytest.raises(InvalidInput, match="did you mean 'gptq'"):
        ROUNDING_METHODS.named("gtpq")


PLUGIN = """\
from edgeq.quantize.number_formats.integers import IntegerFormat

FORMAT = IntegerFormat("int4-b64", bits=4, group_size=64)
"""


def install(folder: Path, entry: str) -> None:
    """A package with one entry point, as pip leaves it."""
    info = folder / "toy_quant-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "toy_quant.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-quant\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[edgeq.number_formats]\n{entry}\n")


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
    done = run_edgeq(
        "schema", store=tmp_path / "store", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")
    )
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
