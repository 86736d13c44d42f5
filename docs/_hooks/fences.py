"""The code fences of the pages, and what the comment before each says of running it.

    <!-- run -->                        run by the tests; it has to end with status 0
    <!-- run: exit=1 prints -->         with status 1; prints what the next text fence shows
    <!-- not run: it needs a Mac -->    not run, and the page says so, with the reason
    <!-- part of a recipe -->           YAML that has to be valid in a recipe (or: of a device)

`yaml title="recipes/first.yaml"` is a file that the commands of the page find there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGES = Path(__file__).parent.parent
COMMANDS = ("sh", "console", "bash")
_FENCE = re.compile(
    r"(?:^<!-- (?P<said>(?:run|not run|part of)\b[^\n]*?) -->\n+)?"
    r"^```(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Fence:
    """A fence of a page. said: the comment before it; title: of a file; follows: text after it."""

    page: str
    line: int
    language: str
    title: str
    body: str
    said: str
    follows: str

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return f"docs/{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether the tests run it."""
        return self.said == "run" or self.said.startswith("run:")

    @property
    def reason(self) -> str:
        """Why it is not run; empty where it is, or nothing is said."""
        return self.said.partition("not run:")[2].strip()

    @property
    def status(self) -> int:
        """The exit status that it has to have."""
        found = re.search(r"\bexit=(\d+)", self.said)
        return int(found[1]) if found else 0

    @property
    def printed(self) -> str:
        """What it has to print: the text fence behind it, where the comment says so."""
        shown = re.match(r"\n+```text\n(.*?)^```$", self.follows, re.MULTILINE | re.DOTALL)
        return shown[1] if "prints" in self.said and shown else ""

    @property
    def commands(self) -> list[list[str]]:
        """Every command line in it, in words; variables before it and comments are left out."""
        found = []
        joined = self.body.replace("\\\n", " ")
        for line in joined.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("&|;<>"):
                    if words:
                        found.append(words)
                    words = []
                elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
                    words.append(word)
        return found


def fences(markdown: str, page: str) -> Iterator[Fence]:
    """The fences of a page, in order."""
    for match in _FENCE.finditer(markdown):
        title = _TITLE.search(match["rest"])
        yield Fence(
            page=page,
            line=markdown.count("\n", 0, match.start("language")) + 1,
            language=match["language"],
            title=title[1] if title else "",
            body=match["body"],
            said=match["said"] or "",
            follows=markdown[match.end() :],
        )


def all_fences() -> list[Fence]:
    """Those of every page that lies in docs/, page by page in the order of their paths."""
    found: list[Fence] = []
    for path in sorted(PAGES.rglob("*.md")):
        page = path.relative_to(PAGES).as_posix()
        found += fences(path.read_text(encoding="utf-8"), page)
    return found


def say_what_is_not_run(markdown: str) -> str:
    """The page with the reason below each fence that is not run, for whoever reads it."""

    def told(match: re.Match[str]) -> str:
        said = match["said"] or ""
        if not said.startswith("not run:"):
            return match[0]
        reason = said.partition(":")[2].strip()
        fence = match[0].partition("-->")[2].lstrip()
        return f'{fence}\n\n<p class="not-run" markdown="span">Not run by the tests: {reason}.</p>'

    return _FENCE.sub(told, markdown)
