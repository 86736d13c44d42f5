"""Print two answers in columns of at most 80 columns, marked where they diverge."""

from __future__ import annotations

from rich.table import Table

from edgeq.core.units import format_seconds, format_speed
from edgeq.pipeline.compare.side_by_side import Completion, SideBySide, TokenProbability
from edgeq.report.console import AnyText, Console, Text
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_MARK = "▶"
_STYLE = "bold yellow"


def print_side_by_side(found: SideBySide, console: Console) -> None:
    """Print both answers, then each model's probability of the other's word where they diverge."""
    print_wrapped(f"{found.prompt} …", "dim", console)
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for letter, spoken in (("A", found.a), ("B", found.b)):
        heading = Text(f"{letter}  {spoken.side.path}", overflow="ellipsis", no_wrap=True)
        table.add_column(heading, ratio=1, overflow="fold")
    table.expand = True
    parts = found.parting is not None
    table.add_row(*(_answer(spoken, parts) for spoken in (found.a, found.b)))
    table.add_row("", "")
    table.add_row(*(Text(_pace(spoken), style="dim") for spoken in (found.a, found.b)))
    console.print(table)
    console.print()
    _print_parting(found, console)


def _answer(spoken: Completion, parts: bool) -> AnyText:
    """A model's text from its first word on, with a mark before the first differing word."""
    common, own = spoken.text[: spoken.common].lstrip(), spoken.text[spoken.common : spoken.parted]
    if not parts:
        return Text(spoken.text.lstrip())
    word = own.lstrip()
    space = own.removesuffix(word) if common else ""
    rest = spoken.text[spoken.parted :]
    return Text.assemble(common, space, (f"{_MARK}{word or '(end)'}", _STYLE), rest)


def _pace(spoken: Completion) -> str:
    pace = f"first {format_seconds(spoken.first_token_seconds)}"
    if spoken.tokens_per_second is not None:
        pace += f", then {format_speed(spoken.tokens_per_second)}"
    by = f", by {spoken.side.runtime}" if spoken.side.is_reference else ""
    return f"{pace} (measured here{by})"


def _print_parting(found: SideBySide, console: Console) -> None:
    parting = found.parting
    if parting is None:
        print_wrapped(f"Both write the same {found.a.tokens} tokens.", "green", console)
        return
    words = f"They diverge at token {parting.token + 1}. How likely each of the two is to follow:"
    print_wrapped(words, "", console)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("  next token", no_wrap=True)
    table.add_column("in A", justify="right", no_wrap=True)
    table.add_column("in B", justify="right", no_wrap=True)
    for letter, chance in (("A", parting.of_a), ("B", parting.of_b)):
        name = Text(f"  {letter}: {_shown(chance)}")
        table.add_row(name, f"{chance.a:.1%}", f"{chance.b:.1%}")
    print_table(table, console)


def _shown(chance: TokenProbability) -> str:
    return repr(chance.text) if chance.text else "the end"
