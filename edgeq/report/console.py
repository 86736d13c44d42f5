"""The consoles that everything formatted is printed on, and the text that they print.

Nothing that comes from a model, a recipe or a device reaches a terminal as it is: see
`edgeq.core.visible`. Markup is never read from text.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from typing import IO, Any, cast

import rich.console
import rich.text
from rich.segment import Segment

from edgeq.core.visible import visible

_WIDTH = 80
AnyText = rich.text.Text
"""`Text`, or another object that rich can render."""


class Text(AnyText):
    """rich's text, with control characters spelled out before its width is counted."""

    def __init__(self, text: str = "", *arguments: Any, **options: Any) -> None:
        super().__init__(visible(text), *arguments, **options)

    def append(self, text: AnyText | str, style: Any = None) -> Text:
        """See `rich.text.Text.append`."""
        super().append(visible(text) if isinstance(text, str) else text, style)
        return self


class Console(rich.console.Console):
    """rich's console; whatever it is given, only its own control codes are sent."""

    def render_str(self, text: str, **options: Any) -> AnyText:
        """See `rich.console.Console.render_str`."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """See `rich.console.Console.render`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def make_console(file: IO[str] | None = None) -> Console:
    """Return a console on `file` (default: standard output); plain text unless it is a terminal.

    Brackets and colons in paths, patterns and sentences are printed as they are.
    """
    stream = sys.stdout if file is None else file
    # Bypasses the guard on unformatted text (`edgeq.cli.pipe`), which would escape colour codes.
    stream = getattr(stream, "formatted", stream)
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    console.width = min(console.width or _WIDTH, _WIDTH)  # COLUMNS=0: unknown
    if not console.is_terminal:
        console.file = cast("IO[str]", _Trimmed(stream))
    return console


class _Trimmed(io.TextIOBase):
    """A file wrapper that strips trailing spaces, with which rich fills the rows of a table."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The wrapped file's encoding; rich asks which characters it can show."""
        return getattr(self._file, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write `text`, whole lines, without trailing spaces."""
        self._file.write(re.sub(r" +(?=\n)", "", text))
        return len(text)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()
