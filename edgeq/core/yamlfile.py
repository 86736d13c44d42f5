"""Hand-written YAML files: read with the place of everything, checked with helpful errors.

`read_yaml` keeps the line and column of every key and value. `validate` checks the content against
a pydantic model and turns every error into a `Problem` that names file, line, column, the problem
and what to write instead.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from edgeq.core.document import Document, Entry
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import read_bytes, read_head
from edgeq.core.validation_messages import Location, describe, example_of, suggest_near

__all__ = ["Document", "by_place", "read_yaml", "validate", "yaml_word"]

M = TypeVar("M", bound=BaseModel)

_TAG = "tag:yaml.org,2002:"
# YAML 1.2's core schema has no dates: `os: 2024-01-01` is text.
_AS_TEXT = {f"{_TAG}str", f"{_TAG}timestamp"}
_AS_PLAIN = {f"{_TAG}null", f"{_TAG}bool", f"{_TAG}int", f"{_TAG}float"}
# Far above what a recipe with a rule for every tensor needs, and read in seconds.
_MOST_BYTES = 256 << 10
_MOST_NODES = 20_000
_DEEPEST = 32
_WORD = re.compile(r"[\w./@-]+(:[\w./@-]+)*", re.ASCII)
_BINARY = {b"PK": "a zip archive", b"GGUF": "a GGUF file", b"\x1f\x8b": "a gzip archive"}


class _Composer(Composer):
    """ruamel's composer with limits on the number of nodes and the depth."""

    nodes = level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """See `ruamel.yaml.composer.Composer.compose_node`."""
        self.nodes, self.level = self.nodes + 1, self.level + 1
        mark = self.parser.peek_event().start_mark
        if self.level > _DEEPEST:
            raise MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        if self.nodes > _MOST_NODES:
            raise MarkedYAMLError(problem=f"more than {_MOST_NODES} values", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        return node


def read_yaml(path: Path) -> Document:
    """Read a YAML 1.2 file (UTF-8, one document).

    Raises InvalidInput for a file that cannot be read or is too large, bad syntax, tabs in the
    indentation, duplicate keys, merge keys, tags, and aliases that multiply.
    """
    text = _read_text(path)
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    try:
        root = yaml.compose(text)
        if root is None:
            empty = Problem(f"{path}:1:1", "the file is empty", "write at least 'edgeq: 1'")
            raise InvalidInput(empty)
        problems: list[Problem] = []
        _require_few(root)
        entry = _entry_of(root, yaml, path, problems)
    except ReaderError as error:
        line, column = _line_and_column(text, error.position)
        what = f"the character U+{_code_point(error.character):04X} is not allowed in YAML"
        raise InvalidInput(Problem(f"{path}:{line}:{column}", what, "remove it")) from None
    except MarkedYAMLError as error:
        raise InvalidInput(_syntax_problem(path, error)) from None
    except YAMLError as error:
        raise InvalidInput(Problem(f"{path}:1:1", f"not valid YAML: {error}")) from None
    if problems:
        raise InvalidInput(problems)
    return Document(path, entry)


def _read_text(path: Path) -> str:
    try:
        path.lstat()
    except (FileNotFoundError, ValueError):  # ValueError: a null byte in the name
        folder = path.parent
        names = sorted(file.name for file in folder.glob("*.y*ml")) if folder.is_dir() else []
        remedy = suggest_near(path.name, names)
        raise InvalidInput(Problem(str(path), "no such file", remedy)) from None
    except OSError as error:
        raise InvalidInput(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    head = read_head(path, max(map(len, _BINARY)))  # what it is comes before how large it is
    binary = next((kind for magic, kind in _BINARY.items() if head.startswith(magic)), None)
    content = b"" if binary else read_bytes(path, _MOST_BYTES, "remove unneeded parts")
    try:
        if binary is None:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        binary = "a binary file" if b"\0" in content else None
        where = f"{path}: byte {error.start}"
        if binary is None:
            remedy = "save the file as UTF-8"
            raise InvalidInput(Problem(where, "not UTF-8 text", remedy)) from None
    raise InvalidInput(
        Problem(str(path), f"is {binary}, not YAML", "name a recipe or another .yaml file")
    )


def _require_few(root: Node) -> None:
    """Refuse aliases that expand to more values than the limit, or contain themselves, and values
    that are not text."""
    counts: dict[int, int] = {}
    opened: set[int] = set()

    def count(node: Node) -> int:
        if isinstance(node, ScalarNode):
            _require_text(node)
            return 1
        if id(node) in opened:
            raise _too_many(node, "an alias that contains itself")
        if id(node) not in counts:
            opened.add(id(node))
            children = node.value
            if isinstance(node, MappingNode):
                children = [part for pair in node.value for part in pair]
            counts[id(node)] = 1 + sum(map(count, children))
            opened.remove(id(node))
        if counts[id(node)] > _MOST_NODES:
            raise _too_many(node, f"aliases that expand to more than {_MOST_NODES} values")
        return counts[id(node)]

    count(root)


def _require_text(node: ScalarNode) -> None:
    """Refuse half of a character, as from an escape that was cut; both halves are one in JSON."""
    halves = str(node.value).encode("utf-16", "surrogatepass")
    try:
        halves.decode("utf-16")
    except UnicodeDecodeError:
        what = "an escape for half of a character, without its other half"
        raise MarkedYAMLError(problem=what, problem_mark=node.start_mark) from None


def _too_many(node: Node, what: str) -> MarkedYAMLError:
    return MarkedYAMLError(problem=what, problem_mark=node.start_mark)


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _code_point(character: str | int) -> int:
    return character if isinstance(character, int) else ord(character)


def _syntax_problem(path: Path, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    what = ", ".join(part for part in (error.context, error.problem) if part)
    remedy = ""
    if "\\t" in what:
        what, remedy = "a tab where YAML requires spaces", "indent with spaces"
    elif "mapping values are not allowed" in what:
        what = "a second ': ' in one value"
        remedy = "put the value in quotes, or check the indentation"
    elif "alias" in what and "undefined" not in what:
        remedy = "write the values out"
    elif "half of a character" in what:
        remedy = "write the character itself"
    elif "another document" in what:
        what, remedy = "a second document ('---') begins here", "keep one document in a file"
    elif error.context_mark and mark and error.context_mark.line != mark.line:
        remedy = f"it began at line {error.context_mark.line + 1}"
    return Problem(where, what, remedy)


def _entry_of(node: Node, yaml: YAML, path: Path, problems: list[Problem]) -> Entry:
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
        return Entry(line, column, _mapping_of(node, yaml, path, problems))
    if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
        items = [_entry_of(item, yaml, path, problems) for item in node.value]
        return Entry(line, column, items)
    if isinstance(node, ScalarNode) and node.tag in _AS_TEXT:
        return Entry(line, column, str(node.value), str(node.value))
    if isinstance(node, ScalarNode) and node.tag in _AS_PLAIN:
        try:
            value = yaml.constructor.construct_object(node)
        except ValueError as error:
            problems.append(Problem(f"{path}:{line}:{column}", f"not a number: {error}"))
            value = None
        return Entry(line, column, value, str(node.value))
    tag = str(node.tag).removeprefix(_TAG)
    what = f"the tag {tag!r} is not used here"
    problems.append(Problem(f"{path}:{line}:{column}", what, "write plain values, without '!'"))
    return Entry(line, column, None)


def _mapping_of(
    node: MappingNode, yaml: YAML, path: Path, problems: list[Problem]
) -> dict[str, Entry]:
    content: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        where = f"{path}:{line}:{column}"
        if not isinstance(key_node, ScalarNode):
            problems.append(Problem(where, "a list or mapping as a key", "use a word as the key"))
            continue
        # Keys stay as typed: `18: …` is the key '18'.
        key = str(key_node.value)
        if key_node.tag == f"{_TAG}merge":
            what = "merge keys ('<<') are not part of YAML 1.2"
            problems.append(Problem(where, what, "write the keys out"))
            continue
        if key in content:
            what = f"the key {key!r} appears twice; first at line {content[key].key_line}"
            problems.append(Problem(where, what, "keep one of them"))
            continue
        entry = _entry_of(value_node, yaml, path, problems)
        entry.key_line, entry.key_column = line, column
        content[key] = entry
    return content


def validate(document: Document, model: type[M]) -> tuple[M | None, list[Problem]]:
    """Validate `document` against `model`, strictly, and collect every error.

    So that further checks can run in spite of these errors, the document is then repaired: wrong
    values are dropped, and for a missing required key the field's first example is assumed
    (`Document.is_assumed` tells); without an example the mapping around it is dropped. Returns the
    model of the repaired document, or None if that is impossible.
    """
    problems: list[Problem] = []
    mended = False
    while True:
        try:
            text = json.dumps(document.data)
            return model.model_validate_json(text, strict=True), by_place(problems)
        except ValidationError as error:
            errors = error.errors(include_url=False)
        for found in errors:
            if _is_aftermath(found, mended):
                continue
            problem = _problem_of(document, model, found)
            if all(problem.where != known.where or _is_key(found) for known in problems):
                problems.append(problem)
        if not _mend(document, model, errors):
            return None, by_place(problems)
        mended = True


def _mend(document: Document, model: type[BaseModel], errors: list[ErrorDetails]) -> bool:
    """Change the document so that fewer of `errors` remain; False if nothing would be left."""
    to_drop = []
    for error in errors:
        example = example_of(model, error["loc"]) if error["type"] == "missing" else None
        if document.is_stand_in(error["loc"]):
            return False
        if example is not None:
            document.assume(error["loc"], example)
        else:
            to_drop.append(_culprit(error))
    return document.drop(to_drop)


def by_place(problems: list[Problem]) -> list[Problem]:
    """Sort problems by their place in one document (`path:line:column`).

    Those of other files come last.
    """

    def line_and_column(problem: Problem) -> tuple[float, float]:
        place = re.fullmatch(r".*:(\d+):(\d+)", problem.where)
        return (int(place[1]), int(place[2])) if place else (math.inf, math.inf)

    return sorted(problems, key=line_and_column)


def _is_aftermath(error: ErrorDetails, mended: bool) -> bool:
    """Whether the error only follows from another one."""
    if error["type"] == "too_short":
        # pydantic counts the items left after dropping those with errors
        return mended or error["ctx"]["actual_length"] < len(error["input"])
    return mended and error["type"] == "missing"


def _is_key(error: ErrorDetails) -> bool:
    """Whether a key is at fault; only then may one place have several errors.

    Several errors about one value are the branches of a union, of which the first is enough.
    """
    return error["type"] in {"missing", "extra_forbidden"}


def _culprit(error: ErrorDetails) -> Location:
    return error["loc"][:-1] if error["type"] == "missing" else error["loc"]


def _problem_of(document: Document, model: type[BaseModel], error: ErrorDetails) -> Problem:
    location = _culprit(error)
    what, remedy = describe(error, model, document.text(location))
    name = document.name(error["loc"][:-1] if _is_key(error) else location)
    where = document.place(location, key=_is_key(error))
    return Problem(where, f"{name}: {what}" if name else what, remedy)


def yaml_word(text: str) -> str:
    """`text` as YAML reads it between brackets: quoted if it could mean something else."""
    plain = _WORD.fullmatch(text) and YAML(typ="safe", pure=True).load(f"[{text}]") == [text]
    return text if plain else json.dumps(text, ensure_ascii=False)
