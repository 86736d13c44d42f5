"""A build ends well only with files that open and run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx_ir as ir

from edgeq.core.artifact import MODEL_FILE, read_artifact, read_record, record_files, write_artifact
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.pipeline.proof.result import run_once
from tests.conftest import Project


def copy_of(project: Project, name: str, to: Path) -> Path:
    return Path(shutil.copytree(project.artifacts[name]["path"], to / name))


def test_what_opens_is_run_once_and_remembered(project: Project, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folders = [copy_of(project, name, tmp_path) for name in project.artifacts]
    built = {folder: read_artifact(folder) for folder in folders}
    steps: list[str] = []
    run_once(built, store, None, steps.append)
    assert len(list((tmp_path / "store" / "opened").glob("*/opened"))) == len(built)
    for folder in folders:
        (folder / MODEL_FILE).unlink()
    assert len(steps) == 1
    run_once(built, store, None, steps.append)  # not opened again
    assert len(steps) == 1


def test_a_file_with_an_operator_that_no_runtime_has_is_refused(
    project: Project, tmp_path: Path
) -> None:
    good, bad = (copy_of(project, name, tmp_path) for name in list(project.artifacts)[:2])
    model = ir.load(bad / MODEL_FILE)
    next(node for node in model.graph if node.op_type == "Add").op_type = "AddOfMine"
    ir.save(model, bad / MODEL_FILE)
    record = read_record(bad)
    files = record_files(bad, list(record.files))
    write_artifact(bad, record.model_copy(update={"files": files}))
    built = {folder: read_artifact(folder) for folder in (good, bad)}
    with pytest.raises(InvalidInput, match="AddOfMine") as error:
        run_once(built, Store(tmp_path / "store"), None, lambda step: None)
    assert str(error.value).startswith(record.name)
    assert not (tmp_path / "store").exists()
