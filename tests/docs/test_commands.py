"""Every command, file and recipe on the documentation's pages is real, and what can be run is."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from edgeq.recipe.load import load_recipe
from tests.support.commands import Done, run_edgeq

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_hooks"))

import commands  # noqa: E402
from fences import COMMANDS, Fence, all_fences  # noqa: E402

FENCES = all_fences()
YAMLS = YAML(typ="safe", pure=True)
_INCLUDED = "--8<--"
# What a page calls a thing that only its reader has.
_READERS_OWN = ("my-",)


def _pages(entry: Any) -> Iterator[str]:
    """The pages of `nav` in mkdocs.yml, in order."""
    if isinstance(entry, str):
        yield entry
    else:
        for each in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(each)


NAV = list(_pages(YAMLS.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
RUN = [page for page in NAV if any(fence.page == page and fence.is_run for fence in FENCES)]


def test_every_fence_says_whether_it_is_run() -> None:
    assert {fence.page for fence in FENCES} <= set(NAV)  # a page outside is read by nobody
    silent = [
        fence.place
        for fence in FENCES
        if fence.language in (*COMMANDS, "python") and not (fence.is_run or fence.reason)
    ]
    assert silent == []
    odd = [
        fence.place
        for fence in FENCES
        if fence.language == "yaml"
        and not (fence.title or fence.said.startswith("part of") or _INCLUDED in fence.body)
    ]
    assert odd == []
    assert [fence.place for fence in FENCES if "prints" in fence.said and not fence.printed] == []
    assert len(RUN) >= 10


@dataclass(frozen=True)
class Written:
    """A command line of edgeq on a page. is_whole: not one of a sentence, which may leave out."""

    place: str
    name: str
    arguments: list[str]
    is_whole: bool

    def files(self) -> list[str]:
        """Arguments that name a file to be read."""
        read = zip(["", *self.arguments], self.arguments, strict=False)
        return [
            word
            for before, word in read
            if re.search(r"\.(?:ya?ml|zip|gguf|html|txt|onnx|json)$", word)
            and before not in _WRITES
            and not (self.name == "quantize" and word == self.arguments[1])
        ]

    def made(self) -> list[str]:
        """Files that it writes."""
        pairs = zip(["", *self.arguments], self.arguments, strict=False)
        named = [word for before, word in pairs if before in _WRITES]
        return [*named, *(self.arguments[1:2] if self.name == "quantize" else ())]


_WRITES = ("--out", "-o", "--picture", "--junit")


def _in_fences() -> Iterator[Written]:
    for fence in FENCES:
        if fence.language in COMMANDS:
            for words in fence.commands:
                if words[0].replace("\\", "/").rpartition("/")[2] == "edgeq":
                    yield Written(fence.place, words[1], words[2:], True)


def _in_sentences() -> Iterator[Written]:
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for name, rest in re.findall(r"`edgeq ([a-z][a-z-]*)([^`]*)`", prose):
            words = rest.partition("…")[0].split()
            yield Written(f"docs/{path.name}: edgeq {name}{rest}", name, words, False)


def test_every_command_and_option_exists() -> None:
    wrong = []
    found = [*_in_fences(), *_in_sentences()]
    assert len(found) > 60
    whole, in_part = commands.group().commands, commands.group().commands
    for command in in_part.values():
        for parameter in command.params:
            parameter.required = False
    for written in found:
        command = (whole if written.is_whole else in_part).get(written.name)
        if command is None:
            wrong.append(f"{written.place}: there is no edgeq {written.name}")
            continue
        try:
            command.make_context(written.name, list(written.arguments))
        except Exception as error:
            wrong.append(f"{written.place}: {error}")
    assert wrong == []


def test_every_file_that_a_command_reads_is_there() -> None:
    found = list(_in_fences())
    made = {fence.title for fence in FENCES} | {name for each in found for name in each.made()}
    unpacked = {f"{Path(name).stem}/" for name in made if name.endswith(".zip")}
    unknown = [
        f"{written.place}: {name}"
        for written in found
        for name in written.files()
        if not (
            name in made or name.startswith((*unpacked, *_READERS_OWN)) or (ROOT / name).exists()
        )
    ]
    assert unknown == []


@pytest.mark.parametrize(
    "fence", [f for f in FENCES if f.said == "part of a recipe"], ids=lambda fence: fence.place
)
def test_parts_of_recipes_are_valid(fence: Fence, tmp_path: Path) -> None:
    (first,) = (f for f in FENCES if f.title == "recipes/first.yaml")
    whole = YAMLS.load(first.body)
    whole["data"]["calibration"] = {"path": "data/wren-calibration.txt"}
    whole.update(YAMLS.load(fence.body))
    for name in ("wren", "data"):
        (tmp_path / name).symlink_to(ROOT / "recipes" / name)
    path = tmp_path / "recipe.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAMLS.dump(whole, file)
    _, _, problems = load_recipe(path)
    assert problems == []


class Room:
    """A copy of what the pages' reader has, in which the commands of each page are run once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: set[str] = set()
        shutil.copytree(ROOT / "recipes", folder / "recipes")
        tools = folder / "bin"
        tools.mkdir()
        for name, what in (("python", ""), ("edgeq", "-m edgeq")):
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n', encoding="utf-8")
            tool.chmod(0o755)
        # No compiler is on the path, so no older CPU stands in: tests of their own do that.
        self._own = {"PATH": str(tools), "NO_COLOR": "1", "EDGEQ_REQUIRE": ""}
        store = str(folder / ".edgeq")
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEQ_STORE": store, **self._own}

    def run(self, page: str) -> None:
        """Everything on a page that is to be run, in order, and the files that it writes."""
        if page in self._done:
            return
        self._done.add(page)
        for fence in FENCES:
            if fence.page != page:
                continue
            if fence.title:
                path = self._folder / fence.title
                path.parent.mkdir(exist_ok=True)
                path.write_text(fence.body, encoding="utf-8")
            elif fence.is_run:
                self._run(fence)

    def _run(self, fence: Fence) -> None:
        lines = _of_edgeq_alone(fence)
        with _one_core():
            done = self._here(lines) if lines else self._apart(fence)
        said = done.stdout + done.stderr
        assert done.returncode == fence.status, f"{fence.place}\n{said}"
        absent = _not_printed(fence.printed, said)
        assert absent is None, f"{fence.place} shows {absent!r}, printed was\n{said}"

    def _apart(self, fence: Fence) -> Done:
        shell = ["/bin/sh", "-e", "-c", fence.body]
        command = [sys.executable, "-c", fence.body] if fence.language == "python" else shell
        return subprocess.run(
            command, cwd=self._folder, env=self._env, capture_output=True, text=True, timeout=300
        )

    def _here(self, lines: list[list[str]]) -> Done:
        """As a shell would with `-e`, without starting a Python for each command."""
        said = ["", ""]
        for words in lines:
            store = self._folder / ".edgeq"
            done = run_edgeq(*words[1:], store=store, cwd=self._folder, **self._own)
            said = [said[0] + done.stdout, said[1] + done.stderr]
            if done.returncode:
                break
        return Done(words, done.returncode, *said)


def _of_edgeq_alone(fence: Fence) -> list[list[str]]:
    """The words of each line, if every line is a command of edgeq that needs no shell."""
    if fence.language == "python" or re.search(r"[|&;<>$*?~#`()]", fence.body):
        return []
    lines = [shlex.split(line) for line in fence.body.replace("\\\n", " ").splitlines() if line]
    return lines if all(words[0] == "edgeq" for words in lines) else []


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Threads that wait for each other on few cores would cost twice the time."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _without_figures(line: str) -> str:
    """A line of which numbers, and the spaces that fill columns up, may differ."""
    return " ".join(re.sub(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?", "#", line).split())


def _not_printed(shown: str, said: str) -> str | None:
    """The first line of `shown` that is not in `said`, behind the one before; None if all are."""
    rest = iter([_without_figures(line) for line in said.splitlines()])
    for line in filter(str.strip, shown.splitlines()):
        wanted = _without_figures(line)
        if not any(wanted in each for each in rest):
            return line
    return None


def test_what_is_shown_is_compared_but_for_figures() -> None:
    said = "a  12 MiB  pass\n  next: nothing\nb -3.5% fail\n"
    assert _not_printed("a 4.0 MiB pass\n\nb +7% fail\n", said) is None
    assert _not_printed("b -3.5% fail\na 12 MiB pass\n", said) == "a 12 MiB pass"
    assert _not_printed("a 12 MiB fail\n", said) == "a 12 MiB fail"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    for package in ("onnx", "onnx_ir", "gguf", "xllamacpp", "jinja2", "vl_convert"):
        pytest.importorskip(package, reason="the extras that the pages use are not installed")
    if os.name != "posix":
        pytest.skip("the pages' commands are written for a POSIX shell")
    return Room(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_do_what_it_shows(room: Room, page: str) -> None:
    room.run("start.md")  # whose recipe and bundle the other pages use
    room.run(page)
