"""`edgeq audit`, the command: what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")


from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import MetaValue
from edgeq.formats.gguf.writer import write_gguf
from edgeq.pipeline.audit.run import audit
from tests.support.audited import TEXT, WREN
from tests.support.commands import refused, run_edgeq


def test_what_is_asked_wrongly_is_refused(good: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ([good, "--text", TEXT], "--reference DIR"),
        ([good, "--reference", tmp_path], "config.json"),
        ([good, "--reference", WREN, "--text", tmp_path / "none"], "no such file"),
        ([tmp_path / "none.gguf"], "does not exist"),
        ([tmp_path], "is not a file"),
    ):
        assert said in refused(run_edgeq("audit", *arguments, store=tmp_path, cwd=tmp_path), 2)


def test_the_command_needs_no_torch(good: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from edgeq.pipeline.audit.run import audit; from pathlib import Path; "
        f"found = audit(Path({str(good)!r})); assert found.sound; "
        "heavy = {'torch', 'transformers', 'onnx', 'onnx_ir', 'xllamacpp'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_importance_matrix_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    write_gguf(path, {"general.type": MetaValue("string", "imatrix")}, [], lambda name: ())
    said = refused(run_edgeq("audit", path, store=tmp_path, cwd=tmp_path), 2)
    assert "is an importance matrix, not a model" in " ".join(said.split())


def test_a_malformed_header_is_an_error_not_a_finding(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(InvalidInput, match="would end at byte"):
        audit(path)
