"""The pages at the root: the README is short; each link, file and command in them is real."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import edgeq
from tests.support.tiers import FAST, PLACES, TESTS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_hooks"))

import commands  # noqa: E402

PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_the_readme_is_short_and_opens_with_two_commands() -> None:
    readme = _text("README.md")
    assert len(readme.split()) <= 800
    first, second, *_ = re.findall(r"^```\n(.*?)\n```$", readme, re.MULTILINE | re.DOTALL)
    assert first == (
        'pip install ".[build,minilm]" && '
        "edgeq bundle recipes/minilm.yaml --device here --out minilm.zip"
    )
    assert second == "pip install nox && nox"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_are_there(page: str) -> None:
    text = _text(page)
    links = [each for each in re.findall(r"\]\(([^)#]+)", text) if "://" not in each]
    files = re.findall(r"`((?:edgeq|tests|docs|devices|recipes)/[\w./-]*)`", text)
    assert [each for each in (*links, *files) if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page: str) -> None:
    for line in re.findall(r"edgeq [a-z-]+ .*--.*$", _text(page), re.MULTILINE):
        name, *arguments = shlex.split(line.partition("`")[0])[1:]
        commands.group().commands[name].make_context(name, arguments)


def test_tiers_name_files_that_exist() -> None:
    assert [name for name in (*FAST, *PLACES) if not (TESTS / name).exists()] == []


def test_the_public_names_are_there_and_load_nothing() -> None:
    missing = [name for name in edgeq.__all__ if not hasattr(edgeq, name)]
    assert missing == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edgeq.nothing  # noqa: B018
    code = "import edgeq, sys; assert not {'numpy', 'onnxruntime', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
