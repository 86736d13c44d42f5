"""The wren model as artifacts in GGUF, written once."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32."""
    return _wren(tmp_path_factory, "F32")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In 8 bits."""
    return _wren(tmp_path_factory, "Q8_0")


def _wren(factory: pytest.TempPathFactory, type_name: str) -> Path:
    from tests.support.gguf_artifacts import WREN, gguf_artifact  # where gguf is installed

    return gguf_artifact(WREN, factory.mktemp("wren") / type_name, type_name)
