"""A bundle proves itself to an app that has never heard of edgeq: README and self-test alone."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")

import onnxruntime
from tokenizers import Tokenizer

from edgeq.core.artifact import Artifact, ModelRecord, TextSettings
from edgeq.formats.selftest import listed
from edgeq.pipeline.bundle.readme import _texts
from edgeq.pipeline.bundle.selftest import Facts
from edgeq.pipeline.workflow import BundleRequest, bundle_recipe
from tests.conftest import Project
from tests.support import onnx_models

NET = """\
edgeq: 1
name: net
model: {source: net.onnx, task: tensor}
quantize: {default: [int8]}
targets: [{format: onnx, devices: [here]}]
"""


def unpacked(recipe: Path, store: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of an unchecked bundle of a recipe."""
    monkeypatch.setenv("EDGEQ_STORE", str(store))
    out = to / "bundle.zip"
    bundle_recipe(BundleRequest(recipe, out, allow_unchecked=True), lambda step: None)
    with zipfile.ZipFile(out) as archive:
        archive.extractall(to / "bundle")
    return to / "bundle"


def gap(output: dict[str, Any], values: np.ndarray[Any, Any]) -> float:
    """The distance that the README describes."""
    got, wanted = values.ravel()[list(output["at"])], np.array(output["values"])
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def test_tokenizers_and_onnxruntime_alone_pass_an_encoders_self_test(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unpacked(project.recipe, project.store, tmp_path, monkeypatch)
    test = json.loads((folder / "selftest.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [value.name for value in session.get_inputs()]
    distances, first_tokens = [], []
    for case in test["cases"]:
        encoding = tokenizer.encode(case["text"])
        assert encoding.ids == case["token_ids"]
        columns = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        feeds = {name: np.array([columns[name]]) for name in names}
        (output,) = case["outputs"]
        (vector,) = session.run([output["name"]], feeds)
        distances.append(gap(output, vector))
        half = {name: value[:, : value.shape[1] // 2] for name, value in feeds.items()}
        first_tokens.append(gap(output, session.run([output["name"]], half)[0]))
    assert max(distances) <= test["largest_distance_same_cpu"]
    assert max(first_tokens) > test["largest_distance_other_cpu"], "another input is noticed"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Pooling (mean) is part of the model" in text
    assert "`sentence_embedding`" in text
    assert "with `--language cpp` or `--language javascript`" in text


def test_a_net_of_arrays_carries_its_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_models.convolutional(tmp_path / "net.onnx")
    recipe = tmp_path / "net.yaml"
    recipe.write_text(NET, encoding="utf-8")
    folder = unpacked(recipe, tmp_path / "store", tmp_path, monkeypatch)
    (case,) = json.loads((folder / "selftest.json").read_text(encoding="utf-8"))["cases"]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    with np.load(folder / case["arrays"]) as feeds:
        answers = session.run([each["name"] for each in case["outputs"]], dict(feeds))
    for output, answer in zip(case["outputs"], answers, strict=True):
        assert list(answer.shape) == output["shape"]
        assert gap(output, answer) <= 1e-3


def test_a_bundle_is_written_to_the_same_bytes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        unpacked(project.recipe, project.store, tmp_path / name, monkeypatch)
    first, second = (tmp_path / name / "bundle.zip" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_a_large_output_is_listed_by_what_matters() -> None:
    output = np.random.default_rng(0).standard_normal((3, 5000)).astype(np.float32)
    expected = listed("logits", output)
    assert len(expected.at) == len(expected.values) <= 512
    assert int(np.abs(output).argmax()) in expected.at
    shown = expected.model_dump()
    assert gap(shown, output) == 0
    assert gap(shown, output[:, ::-1]) > 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ""),
        ({"kv": "f32"}, "in f32: set `type_k` and `type_v` to it."),
        (
            {"kv": "q8_0"},
            "in q8_0: set `type_k` and `type_v` to it and `flash_attn_type` to enabled.",
        ),
    ],
)
def test_the_readme_names_the_cache_that_was_checked(settings: dict[str, str], said: str) -> None:
    artifact = described("text-generation", settings=settings)
    lines = "\n".join(_texts(artifact, TextSettings(max_tokens=64), Facts()))
    assert said in lines
    assert ("type_k" in lines) == bool(settings)


def test_an_empty_prompt_is_nothing_in_front_of_the_text() -> None:
    prompts = {"query": "find: ", "document": ""}
    text = TextSettings(max_tokens=64, pooling="mean", prompts=prompts)
    lines = list(_texts(described("sentence-embedding"), text, Facts()))
    assert "- Prompt `query`: put `find: ` in front of the text." in lines
    assert "- Prompt `document`: put nothing in front of the text." in lines


def described(task: str, **more: Any) -> Artifact:
    """An artifact's record with nothing in it but its task, and `more`."""
    return Artifact(
        name="gguf-Q8_0",
        format="gguf",
        variant="Q8_0",
        task=task,
        model=ModelRecord(source="m", sha256="0" * 64),
        inputs=(),
        outputs=(),
        weight_bytes=1,
        tensors={},
        files={},
        tools={},
        **more,
    )
