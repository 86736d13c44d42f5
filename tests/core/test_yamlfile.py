"""Files that people write: right places, and every error with its remedy."""

from __future__ import annotations

import os
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from ruamel.yaml import YAML

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.yamlfile import read_yaml, validate


class Part(Frozen):
    label: str = Field(examples=["left"])
    kind: Literal["laptop", "board"] = "board"
    count: int = 1


class Whole(Frozen):
    title: str
    flag: bool = False
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    limits: dict[str, Part] = Field(default_factory=dict)


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text.encode())
    return path


def problems_of(folder: Path, text: str) -> list[Problem]:
    """The problems of a text, with the path taken off their places."""
    path = write(folder, text)
    try:
        problems = validate(read_yaml(path), Whole)[1]
    except InvalidInput as error:
        problems = list(error.problems)
    return [
        Problem(problem.where.removeprefix(f"{path}:"), problem.what, problem.remedy)
        for problem in problems
    ]


WORDS = st.text(string.ascii_letters + " :#'\"-[]{}&*!%@`é√\t\n", max_size=12)
# ruamel.yaml writes {a: :b} and cannot read it.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | WORDS.filter(lambda word: not word.startswith(":"))
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(TREES)
def test_reads_what_a_yaml_writer_wrote(tmp_path_factory: Any, tree: Any) -> None:
    path = tmp_path_factory.mktemp("yaml") / "file.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    assert read_yaml(path).data == tree


@given(st.text(string.printable + "\x00\ufeffé🙂", max_size=60))
def test_any_text_is_read_or_refused_with_a_place(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.mktemp("yaml") / "file.yaml"
    path.write_bytes(text.encode())
    try:
        model, problems = validate(read_yaml(path), Whole)
    except InvalidInput as error:
        problems = list(error.problems)
        model = None
    assert model is not None or problems
    assert all(problem.where.startswith(f"{path}:") for problem in problems)


def test_yaml_1_2_has_no_surprises(tmp_path: Path) -> None:
    path = write(tmp_path, "a: no\nb: 1:30\nc: 2024-01-01\n18: x\nd: 0.10\n")
    document = read_yaml(path)
    assert document.data == {"a": "no", "b": "1:30", "c": "2024-01-01", "18": "x", "d": 0.1}
    assert document.text(("d",)) == "0.10"


def test_places_count_lines_and_columns_from_one(tmp_path: Path) -> None:
    path = write(tmp_path, "# comment\na:\n  - {b: 1,  c: [x, yy]}\nd: |\n  text\n")
    document = read_yaml(path)
    assert document.place() == f"{path}:2:1"
    assert document.place(("a", 0, "c", 1)) == f"{path}:3:20"
    assert document.place(("a", 0, "c"), key=True) == f"{path}:3:13"
    assert document.place(("a", 0, "union branch", "b")) == f"{path}:3:9"
    assert document.name(("a", 0, "c", 1)) == "a[0].c[1]"


@pytest.mark.parametrize(
    ("text", "where", "what", "remedy"),
    [
        ("a:\n\t- b\n", "2:1", "a tab where YAML requires spaces", "indent with spaces"),
        ("a: 1\nb: 2\na: 3\n", "3:1", "the key 'a' appears twice; first at line 1", "keep one"),
        ("a: b: c\n", "1:5", "a second ': ' in one value", "quotes"),
        ("a: [1\nb: 2\n", "2:2", "expected ',' or ']'", "it began at line 1"),
        ("a: 1\n---\nb: 1\n", "2:1", "a second document", "one document"),
        ("a: !!python/name:os.system x\n", "1:4", "the tag", "plain values"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "3:3", "merge keys", "write the keys out"),
        ("a: &x [*x]\n", "1:4", "contains itself", "write the values out"),
        ("a: " + "[" * 10_000, "1:35", "nested too deeply", ""),
        ("a: [" + "1," * 30_000 + "]", "1:39999", "more than 20000 values", ""),
        ("? [a]\n: b\n", "1:3", "as a key", "use a word"),
        ("a: b\nc: \x01\n", "2:4", "U+0001", "remove it"),
        ('a: b\nc: [d, "e\\ud83d"]\n', "2:8", "half of a character", "write the character"),
        ("# nothing\n", "1:1", "the file is empty", "edgeq: 1"),
    ],
)
def test_syntax_errors(tmp_path: Path, text: str, where: str, what: str, remedy: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.where == where
    assert what in problem.what
    assert remedy in problem.remedy


def test_both_halves_of_a_character_are_one_as_in_json(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, 'title: "\\ud83d\\ude00"'))
    whole, _ = validate(document, Whole)
    assert whole is not None
    assert whole.title == "😀"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, "a: 1")
    with pytest.raises(InvalidInput, match=r"no such file\n +did you mean 'file.yaml'"):
        read_yaml(tmp_path / "fle.yaml")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(InvalidInput, match="byte 3: not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("text", "where", "what", "remedy"),
    [
        (
            "title: x\npart: {lable: a, label: b}",
            "2:8",
            "part: unknown key 'lable'",
            "did you mean 'label'?",
        ),
        ("title: x\nflagg: true", "2:1", "unknown key 'flagg'", "did you mean 'flag'?"),
        ("flag: true", "1:1", "the key 'title' is missing", "add 'title:'"),
        (
            "title: x\npart: {}",
            "2:1",
            "part: the key 'label' is missing",
            "write e.g. 'label: left'",
        ),
        ("title: 7.10", "1:8", "title: expected text, found the number 7.10", "quotes: '7.10'"),
        ("title: [a]", "1:8", "title: expected text, found a list", ""),
        (
            "title: x\nflag: yes",
            "2:7",
            "flag: expected true or false, found the text 'yes'",
            "true or false",
        ),
        ("title: x\nparts: a", "2:8", "parts: expected a list, found the text 'a'", "write [a]"),
        ("title: x\npart: 3", "2:7", "part: expected a mapping", ""),
        ("title: x\nparts:", "2:7", "parts: expected a list, found nothing", "remove the line"),
        (
            "title: x\nparts: [{label: a}, {label: b, kind: bord}]",
            "2:38",
            "parts[1].kind: 'bord' is not a valid value here",
            "did you mean 'board'?",
        ),
        (
            "title: x\nlimits: {some: {label: a, cuont: 2}}",
            "2:27",
            "limits.some: unknown key 'cuont'",
            "did you mean 'count'?",
        ),
        ("title: x\npart: {label: a, count: '3'}", "2:25", "expected a whole number", ""),
        ("[a]", "1:1", "expected a mapping (key: value), found a list", ""),
    ],
)
def test_schema_errors(tmp_path: Path, text: str, where: str, what: str, remedy: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert problem.where == where
    assert what in problem.what
    assert remedy in problem.remedy


LAUGHS = "".join(
    f"{name}: &{name} [{','.join([f'*{before}' if before else '1'] * 10)}]\n"
    for before, name in zip(["", *"abcdefgh"], "abcdefghi", strict=True)
)


def test_aliases_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, LAUGHS)
    assert problem.where == "5:4"
    assert "aliases that expand to more than 20000 values" in problem.what
    assert problem.remedy == "write the values out"
    assert read_yaml(write(tmp_path, LAUGHS[: LAUGHS.index("d:")])).data["c"][0][0] == [1] * 10


@pytest.mark.skipif(os.name != "posix", reason="has no such files")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.mkdir(), "it is a directory"),
        (lambda path: os.mkfifo(path), "it is a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(100)), "is a zip archive, not YAML"),
        (lambda path: path.write_bytes(b"PK\3\4" + bytes(1 << 19)), "is a zip archive, not YAML"),
        (lambda path: path.write_bytes(b"a: \0\xff"), "is a binary file, not YAML"),
        (lambda path: path.write_bytes(b"a: 1\n" * 3_000_000), "is larger than"),
    ],
)
def test_what_is_no_yaml_gets_one_line(
    tmp_path: Path, make: Callable[[Path], None], what: str
) -> None:
    path = tmp_path / "recipe.yaml"
    make(path)
    with pytest.raises(InvalidInput, match=what) as caught:
        read_yaml(path)
    (problem,) = caught.value.problems
    assert problem.where == str(path)


FAULTS = {
    "flagg: true": "unknown key 'flagg'",
    "part: 3": "part: expected a mapping",
    "parts: [{label: a}, {label: b, kind: bord}]": "parts[1].kind",
    "limits: {a: {lable: x}}": "limits.a: unknown key 'lable'",
    "flag: maybe": "flag: expected true or false",
}


@given(st.sets(st.sampled_from(sorted(FAULTS))), st.booleans())
def test_errors_do_not_hide_one_another(
    tmp_path_factory: Any, faults: set[str], has_title: bool
) -> None:
    lines = [*sorted(faults), *(["title: x"] if has_title else [])]
    problems = problems_of(tmp_path_factory.mktemp("yaml"), "\n".join(lines or ["{}"]))
    told = " ".join(problem.what for problem in problems)
    assert all(FAULTS[fault] in told for fault in faults)
    assert ("'title'" in told) is not has_title
    places = [tuple(map(int, problem.where.split(":"))) for problem in problems]
    assert places == sorted(places)


def test_the_model_is_what_remains_and_places_agree_with_it(tmp_path: Path) -> None:
    path = write(
        tmp_path, "title: x\nparts:\n  - 7\n  - {label: a}\n  - {kind: laptop}\nextra: 1\n"
    )
    document = read_yaml(path)
    model, problems = validate(document, Whole)
    assert len(problems) == 3
    assert model == Whole(title="x", parts=(Part(label="a"), Part(label="left", kind="laptop")))
    assert document.place(("parts", 0)) == f"{path}:4:5"
    assert document.is_assumed(("parts", 1, "label"))
    assert document.is_assumed(("parts",))
    assert not document.is_assumed(("parts", 0, "label"))
    assert not document.is_assumed(("title",))
