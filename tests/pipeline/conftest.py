"""Files of GGUF that several tests of pipelines read."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of an architecture that edgeq does not read."""
    from tests.support.foreign_gguf import make_foreign

    return make_foreign(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts."""
    from tests.support.foreign_gguf import make_mixture

    return make_mixture(tmp_path_factory.mktemp("mixture"))
