"""The real model as GGUF files."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="session")
def wide(folder: Path) -> Path:
    from tests.support.audited import WREN
    from tests.support.gguf_artifacts import write_file

    return write_file(WREN, folder / "wren-F32.gguf")


@pytest.fixture(scope="session")
def good(folder: Path, wide: Path) -> Path:
    """The real model in a mix, as llama.cpp quantizes it."""
    from edgeq.formats.gguf.requantize import quantize_file

    quantize_file(wide, folder / "wren-Q4_K_M.gguf", "Q4_K_M")
    return folder / "wren-Q4_K_M.gguf"
