"""The tables of misreadings that are detected name tests that exist, and all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "concepts" / "reference.md"
NAMED = re.compile(r"`(\w+\.py)::([\w*]+)(?:\[([\w*]+)\])?`")
WHOLE = (
    *("test_proof.py", "test_onnx_proof.py", "test_coreml_proof.py", "test_result.py"),
    *("test_no_setting_is_ignored.py", "test_second_reading.py", "test_not_finite.py"),
    *("test_tokenizer_settings.py", "test_sentence_parity.py"),
)
"""Files whose every test is about a misreading."""


def rows() -> Iterator[str]:
    """The rows of the tables whose last column is `test`."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.endswith("| test |"):
            next(lines)  # the rule below the titles
            for row in lines:
                if not row:
                    break
                yield row


def names_in(file: str) -> list[str]:
    """The names of the tests in a file."""
    (path,) = TESTS.rglob(file)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return [name for name in found if name.startswith("test_")]


def named() -> list[tuple[str, str, str]]:
    """File, pattern of tests and pattern of cases, of each test that the page names."""
    return [match for row in rows() for match in NAMED.findall(row)]


def test_every_row_is_whole_and_names_a_test() -> None:
    found = list(rows())
    assert len(found) > 40
    assert [row for row in found if len(re.split(r" \| ", row)) != 3] == []
    assert [row for row in found if not NAMED.search(row.split(" | ")[-1])] == []


def test_every_named_test_exists() -> None:
    missing = [
        f"{file}::{name}"
        for file, name, _ in named()
        if not any(fnmatchcase(each, name) for each in names_in(file))
    ]
    assert missing == []


@pytest.mark.parametrize("file", WHOLE)
def test_every_test_of_a_misreading_is_named(file: str) -> None:
    patterns = [name for named_file, name, _ in named() if named_file == file]
    tests = names_in(file)
    assert tests
    assert [t for t in tests if not any(fnmatchcase(t, each) for each in patterns)] == []


def test_every_kind_of_onnx_file_is_named_and_every_named_kind_exists() -> None:
    pytest.importorskip("onnx", reason="the build side is not installed")
    from tests.support.onnx_kinds import KINDS

    patterns = {case for file, _, case in named() if file == "test_onnx_kinds.py"}
    assert [k for k in KINDS if not any(fnmatchcase(k, each) for each in patterns)] == []
    assert [p for p in patterns if not any(fnmatchcase(k, p) for k in KINDS)] == []
