"""What a bundle's README says about delivery by a store."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgeq.core.artifact import Artifact, read_artifact
from edgeq.pipeline.bundle.asset_packs import delivery, pack_name
from tests.support import samples


def artifact_named(folder: Path, name: str, format: str = "onnx") -> Artifact:
    made = read_artifact(samples.tensor_artifact(folder / "artifact", width=8))
    model = made.model.model_copy(update={"name": name})
    return made.model_copy(update={"model": model, "format": format})


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("all-MiniLM-L6-v2", "all_minilm_l6_v2"),
        ("7B chat", "model_7b_chat"),
        ("模型", "model"),
        ('a"); evil("', "a_evil"),
    ],
)
def test_names_are_what_both_stores_take(tmp_path: Path, name: str, wanted: str) -> None:
    assert pack_name(artifact_named(tmp_path, name)) == wanted


def test_the_manifest_is_json_and_names_the_directory(tmp_path: Path) -> None:
    text = "\n".join(delivery(artifact_named(tmp_path, "My model")))
    manifest = json.loads(re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)[0])
    assert manifest["assetPackID"] == "my_model"
    assert manifest["fileSelectors"] == [{"directory": "my_model"}]
    assert set(manifest["downloadPolicy"]) == {"essential"}
    assert 'packName.set("my_model")' in text
    assert "not tried in either" in text


def test_a_core_ml_package_is_for_one_store(tmp_path: Path) -> None:
    text = "\n".join(delivery(artifact_named(tmp_path, "My model", "coreml")))
    assert "Google Play" not in text and "App Store" in text
