"""A record sets what is on a list of ours; all else is refused by name, wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.core.artifact import Artifact, read_record, write_artifact
from edgeq.core.errors import InvalidInput
from edgeq.core.known_settings import SESSION_ENTRIES, SESSION_KEY, require_session_entries
from edgeq.models import onnx_session
from tests.support import samples
from tests.support.bundles import unchecked_bundle

READS_FILES = "session.model_external_initializers_file_folder_path"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.tensor_artifact(tmp_path_factory.mktemp("settings") / "artifact", width=64)


def with_settings(artifact: Path, settings: dict[str, Any]) -> Artifact:
    """A record that a stranger might write: nothing of ours looked at it."""
    return read_record(artifact).model_copy(update={"settings": settings})


HARMFUL: dict[str, tuple[dict[str, Any], str]] = {
    "a folder to read": ({SESSION_KEY: {READS_FILES: "/etc"}}, READS_FILES),
    "a file to write": ({SESSION_KEY: {"session.optimized_model_filepath": "x"}}, "optimized"),
    "an unknown entry": ({SESSION_KEY: {"session.of_the_future": "1"}}, "of_the_future"),
    "another value": ({SESSION_KEY: {"session.x64quantprecision": "2"}}, "x64quantprecision"),
    "another type": ({SESSION_KEY: {"session.x64quantprecision": True}}, "x64quantprecision"),
    "a list": ({SESSION_KEY: ["session.x64quantprecision"]}, SESSION_KEY),
    "source text": ({"deployment_target": {"ios": "16 */ evil()", "macos": 13}}, "ios"),
    "a bias without end": (
        {"image": {"input": "x", "scale": [1.0], "bias": [float("inf")], "color": "RGB"}},
        "bias",
    ),
    "more of an image": (
        {"image": {"input": "x", "scale": [1], "bias": [0], "color": "RGB", "more": 1}},
        "more",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
@pytest.mark.parametrize("bundled", [False, True])
def test_what_is_not_on_the_list_is_refused_by_name(
    case: str, bundled: bool, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, named = HARMFUL[case]
    record = with_settings(artifact, settings)
    for file in artifact.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path
    if bundled:
        monkeypatch.setattr("edgeq.pipeline.bundle.write.read_artifact", lambda _: record)
        path = unchecked_bundle(tmp_path, tmp_path / "b.zip")
    else:
        write_artifact(tmp_path, record)
    with pytest.raises(InvalidInput, match=named):
        edgeq.load(path)


def test_entries_on_the_list_reach_the_session(artifact: Path, tmp_path: Path) -> None:
    for file in artifact.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name, values in SESSION_ENTRIES.items():
        chosen = {name: values[0]}
        write_artifact(tmp_path, with_settings(artifact, {SESSION_KEY: chosen}))
        assert edgeq.load(tmp_path).run(samples.tensor_feeds(width=64))


def test_what_edgeq_itself_sets_is_on_the_list(artifact: Path) -> None:
    for cure in onnx_session.CURES.values():
        assert require_session_entries(cure) == cure
    with pytest.raises(ValueError, match=READS_FILES):
        onnx_session.open_session(
            artifact / "model.onnx", threads=1, settings={READS_FILES: "/etc"}
        )
