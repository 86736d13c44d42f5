"""What a library imports only because it finds it can be hidden."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeq.core.imports import without

LOADED = """
import sys
from edgeq.formats.coreml.coremltools import load_coremltools
load_coremltools()
print(*sorted({"torch", "sklearn", "scipy", "transformers"} & set(sys.modules)))
"""


def test_packages_are_hidden_meanwhile() -> None:
    loaded = sys.modules["pytest"]
    with without("no_such_package", "pytest"), pytest.raises(ImportError):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401
    assert "no_such_package" not in sys.modules
    assert sys.modules["pytest"] is loaded


def test_coremltools_is_loaded_without_what_it_converts_from() -> None:
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    pytest.importorskip("torch", reason="the build side is not installed")
    command = [sys.executable, "-c", LOADED]
    said = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
    assert said.split() == []
