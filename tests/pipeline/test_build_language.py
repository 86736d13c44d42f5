"""Language models, from recipe to files: one rounding for two formats, and matrices that travel."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.artifact import ARTIFACT_FILE, GGUF_FILE, read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.imatrix import read_imatrix
from edgeq.formats.gguf.requantize import quantize_file
from edgeq.formats.language import LanguageModel
from edgeq.formats.loaded import load
from edgeq.measure.divergence import measure, token_windows
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.quantize_gguf import importance_of_recipe
from edgeq.pipeline.workflow import build_recipe

ROOT = Path(__file__).parents[2]
RECIPE = """\
edgeq: 1
name: wren
model: {source: ./wren, task: text-generation}
data:
  calibration: {path: calibration.txt, samples: 4}
quantize:
  default: [float32, int8, int4, Q4_K_M]
  rules:
    - {match: "*.layers.0.mlp.down_proj.weight", use: Q8_0, variants: [Q4_K_M]}
targets:
  - {format: gguf, devices: [here]}
  - {format: onnx, devices: [here]}
"""


def silent(step: str) -> None:
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    shutil.copytree(ROOT / "recipes" / "wren", folder / "wren")
    text = (ROOT / "recipes" / "data" / "wren-calibration.txt").read_text()
    (folder / "calibration.txt").write_text(text[:12000])
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def built(project: Path) -> dict[str, Built]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(project / "store"))
        items = build_recipe(project / "recipe.yaml", None, silent)
    return {item.artifact.name: item for item in items}


def language(item: Built) -> LanguageModel:
    model = load(item.path, threads=1, context=256)
    assert isinstance(model, LanguageModel)
    return model


def mean_kl(reference: Built, candidate: Built) -> float:
    a, b = language(reference), language(candidate)
    text = (ROOT / "recipes" / "data" / "wren-evaluation.txt").read_text()[:12000]
    windows = token_windows(a.tokens(text), 128, None)[:8]
    return measure(a, b, windows, silent).kl.mean


def test_every_variant_is_there_in_each_format_that_holds_it(built: dict[str, Built]) -> None:
    assert set(built) == {
        *(f"gguf-{name}" for name in ("float32", "int8-b32", "int4-b32", "Q4_K_M")),
        *(f"onnx-{name}" for name in ("float32", "int8-b32", "int4-b32")),
    }
    for item in built.values():
        assert read_artifact(item.path) == item.artifact
    rule = built["gguf-Q4_K_M"].artifact.tensors["model.layers.0.mlp.down_proj.weight"]
    assert (rule.number_format, rule.note) == ("Q8_0", "rule 1: *.layers.0.mlp.down_proj.weight")


def test_a_plan_knows_the_sizes(project: Path, built: dict[str, Built]) -> None:
    for artifact in make_plan(project / "recipe.yaml").plan.artifacts:
        size = built[artifact.name].artifact.bytes
        least = 0.999 if artifact.format == "gguf" else 0.99  # the graph itself is estimated
        assert least < artifact.download_bytes / size < 2 - least, artifact.name


@pytest.mark.parametrize("variant", ["int8-b32", "int4-b32"])
def test_two_runtimes_give_the_same_answers_to_the_same_codes(
    built: dict[str, Built], variant: str
) -> None:
    """Both round activations to 8 bits in blocks of 32; what is left is how they round and add."""
    floats = mean_kl(built["gguf-float32"], built["onnx-float32"])
    apart = mean_kl(built[f"gguf-{variant}"], built[f"onnx-{variant}"])
    assert floats < 1e-8
    assert floats < apart < 1e-3
    to_float = mean_kl(built["gguf-float32"], built[f"gguf-{variant}"])
    if variant == "int4-b32":
        assert apart < to_float / 10


def test_the_codes_of_both_formats_are_one_rounding(project: Path, built: dict[str, Built]) -> None:
    """Two variants and two formats, and each set of codes was made once."""
    stages = [path for path in (project / "store" / "codes").iterdir() if path.is_dir()]
    assert len(stages) == 2
    for variant in ("int8-b32", "int4-b32"):
        number_formats = [
            {
                n: (t.number_format, t.method)
                for n, t in item.artifact.tensors.items()
                if "b32" in t.number_format
            }
            for item in (built[f"gguf-{variant}"], built[f"onnx-{variant}"])
        ]
        assert number_formats[0] == number_formats[1] and len(number_formats[0]) == 43


def test_a_matrix_that_was_written_is_read_to_the_same_file(
    project: Path, built: dict[str, Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_STORE", str(project / "store"))
    found = importance_of_recipe(project / "recipe.yaml", project / "imatrix.gguf", silent)
    again = read_imatrix(project / "imatrix.gguf")
    assert set(again.sums) == set(found.sums) and again.counts == found.counts
    assert set(again.counts.values()) == {4 * 512}
    header = read_header(project / "imatrix.gguf")
    assert header.get("general.type") == "imatrix" and header.get("imatrix.chunk_size") == 512
    text = RECIPE.replace("quantize:", "  importance: {path: imatrix.gguf}\nquantize:", 1)
    text = text.replace("[float32, int8, int4, Q4_K_M]", "Q4_K_M")
    text = text.replace("  - {format: onnx, devices: [here]}\n", "")
    (project / "with-matrix.yaml").write_text(text)
    (other,) = build_recipe(project / "with-matrix.yaml", None, silent)
    data = [
        np.fromfile(item.path / GGUF_FILE, np.uint8)[
            read_header(item.path / GGUF_FILE).data_start :
        ]
        for item in (other, built["gguf-Q4_K_M"])
    ]
    assert (data[0] == data[1]).all()


def test_a_mix_is_what_the_float_file_becomes(
    project: Path, built: dict[str, Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Straight from the model or by way of a float GGUF file: the same but for the rule."""
    monkeypatch.setenv("EDGEQ_STORE", str(project / "store"))
    importance_of_recipe(project / "recipe.yaml", project / "imatrix.gguf", silent)
    source = built["gguf-float32"].path / GGUF_FILE
    quantize_file(source, project / "q.gguf", "Q4_K_M", read_imatrix(project / "imatrix.gguf"))
    files = [built["gguf-Q4_K_M"].path / GGUF_FILE, project / "q.gguf"]
    headers = [read_header(file) for file in files]
    for name, entry in headers[1].tensors.items():
        pieces = [
            np.fromfile(
                file, np.uint8, header.tensors[name].nbytes, offset=header.tensors[name].offset
            )
            for file, header in zip(files, headers, strict=True)
        ]
        same = pieces[0].shape == pieces[1].shape and (pieces[0] == pieces[1]).all()
        assert same == (name != "blk.0.ffn_down.weight"), entry


def test_a_second_build_finds_everything(
    project: Path, built: dict[str, Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_STORE", str(project / "store"))
    steps: list[str] = []
    again = build_recipe(project / "recipe.yaml", None, steps.append)
    assert {item.artifact.name: item.path for item in again} == {
        name: item.path for name, item in built.items()
    }
    assert all("looking in the store" in step or step == "read the recipe" for step in steps)


def test_an_unknown_architecture_is_told_with_those_that_are_known(
    project: Path, tmp_path: Path
) -> None:
    shutil.copytree(project, tmp_path / "p", ignore=shutil.ignore_patterns("store"))
    config = tmp_path / "p" / "wren" / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"mamba"'))
    with pytest.raises(InvalidInput) as refused:
        build_recipe(tmp_path / "p" / "recipe.yaml", None, silent)
    (problem,) = refused.value.problems
    assert "recipe.yaml:3" in problem.where and "'mamba'" in problem.what
    assert "llama, mistral, " in problem.remedy and "qwen2" in problem.remedy
    assert not (tmp_path / "p" / ".edgeq").exists()


def test_a_weight_that_is_not_there_is_told(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "p", ignore=shutil.ignore_patterns("store"))
    config = tmp_path / "p" / "wren" / "config.json"
    config.write_text(
        config.read_text().replace('"num_hidden_layers": 6', '"num_hidden_layers": 7')
    )
    with pytest.raises(InvalidInput, match=r"lacks model\.layers\.6\.input_layernorm\.weight"):
        build_recipe(tmp_path / "p" / "recipe.yaml", None, silent)


def test_the_record_says_how_every_weight_was_rounded(built: dict[str, Built]) -> None:
    item = built["gguf-Q4_K_M"]
    methods = {t.method for t in item.artifact.tensors.values() if len(t.shape) > 1}
    assert methods == {"importance", "nearest"}  # the rule's Q8_0 has nothing to weigh
    assert item.artifact.settings["method"] == "importance"
    assert (item.path / ARTIFACT_FILE).is_file()
    assert sum(t.bytes for t in item.artifact.tensors.values()) == item.artifact.weight_bytes
