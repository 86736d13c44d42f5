"""Every test run keeps to its own cache: nothing is left in, or taken from, the user's."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.commands import run_edgeq
from tests.support.properties import EXAMPLES
from tests.support.tiers import mark_slow

# A busy machine must not fail a test. EDGEQ_EXAMPLES=10000 tries every property that often.
settings.register_profile("edgeq", deadline=None, max_examples=EXAMPLES)
settings.load_profile("edgeq")

# Before any test module starts a process of its own.
_CACHE = tempfile.TemporaryDirectory(prefix="edgeq-tests-", ignore_cleanup_errors=True)
USERS_CACHE = os.environ.get("EDGEQ_CACHE")
"""What the user's cache is; emulators that were set up lie there."""
os.environ["EDGEQ_CACHE"] = _CACHE.name
# Threads of torch wait without keeping a core busy: 1,500 small products took 7 s while others used
# the two cores, and 0.5 s so.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# Emulated CPUs take half of a check's time, and have tests of their own.
os.environ["EDGEQ_COMPARE_CPUS"] = "none"


def pytest_sessionstart() -> None:
    """No test is skipped for want of what `EDGEQ_REQUIRE` names: without it there is no session."""
    from tests.support.stand_ins import require_stand_ins

    require_stand_ins()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `nox -s fast` leaves out, and begin with it: short files fill the end evenly."""
    mark_slow(items)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@dataclass(frozen=True)
class Project:
    """A folder with the small BERT, its data and `recipe.yaml`; `store` holds what was built.

    artifacts: what `edgeq build --json` printed, by name.
    """

    folder: Path
    store: Path
    artifacts: dict[str, dict[str, Any]]

    @property
    def recipe(self) -> Path:
        """The recipe of tiny_bert.GOOD."""
        return self.folder / "recipe.yaml"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small BERT in Hugging Face layout, inside a folder with data and a recipe."""
    for package in ("torch", "transformers", "optimum"):
        pytest.importorskip(package, reason="the build side is not installed")
    from tests.support import tiny_bert

    folder = tmp_path_factory.mktemp("project")
    tiny_bert.write_data(folder)
    tiny_bert.write_recipe(folder / "recipe.yaml")
    return tiny_bert.save_bert(folder / "tiny")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small BERT's build store: its float graph is made and proven once in a run of all tests.

    Processes of pytest-xdist share it, as builds at once may.
    """
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-store"


@pytest.fixture(scope="session")
def project(tiny: Path, tiny_store: Path) -> Project:
    """The small BERT's recipe, built once by the real command."""
    done = run_edgeq("build", "recipe.yaml", "--json", store=tiny_store, cwd=tiny.parent)
    assert done.returncode == 0, done.stderr
    artifacts = {item["name"]: item for item in json.loads(done.stdout)["artifacts"]}
    return Project(tiny.parent, tiny_store, artifacts)
