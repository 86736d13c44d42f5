"""A file is run in a process of its own first, where the runtime may abort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")

from edgeq.core import child
from edgeq.core.errors import InvalidInput
from edgeq.formats.apple.writer import Input
from edgeq.formats.coreai.trial import answers_of
from edgeq.formats.coreai.write_program import ProgramWriter


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It adds 1 to any number of numbers."""
    path = tmp_path_factory.mktemp("trial") / "model.aimodel"
    with ProgramWriter([Input("x", ((1, 1), (1, 2)), "float32")], "float32") as writer:
        writer.finish({"y": writer.emit("add", "y", x=writer.inputs["x"], y=1.0)})
    writer.save(path)
    return path


def test_answers_come_from_another_process(asset: Path) -> None:
    found = answers_of(asset, {"x": np.array([[1, 2, 3]], np.float32)})
    np.testing.assert_array_equal(found["y"], [[2, 3, 4]])


def test_what_the_runtime_refuses_is_refused(asset: Path) -> None:
    with pytest.raises(InvalidInput, match="input 'x': has shape"):
        answers_of(asset, {"x": np.zeros(3, np.float32)})


def test_an_abort_of_the_runtime_ends_its_own_process(
    asset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = child.command

    def killed(module: str, *arguments: str) -> list[str]:
        return [*command(module, *arguments)[:2], "-c", "import os; os.abort()"]

    monkeypatch.setattr(child, "command", killed)
    with pytest.raises(InvalidInput, match="is killed by SIGABRT"):
        answers_of(asset, {"x": np.zeros((1, 1), np.float32)})
