"""Tables that fit the width: text folds; if that is not enough, rows become paragraphs."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence

from rich.table import Column, Row, Table

from edgeq.core.visible import visible
from edgeq.report.console import AnyText, Console, Text

_LEAST = 16  # letters of a column that may break words


def print_table(table: Table, console: Console) -> None:
    """Print `table`, whose cells are text, with every figure whole.

    Columns that are neither right-aligned nor forbid wrapping shrink as needed, those with
    `overflow="fold"` to less than their longest word. If the table is still too wide, it is printed
    row by row: the first cell, then the others with the names of their columns.
    """
    gaps = table.padding[1] * max(0, len(table.columns) - 1)
    room = console.width - gaps
    widths = [_natural(column, table.show_header) for column in table.columns]
    least = [_least(c, w, table.show_header) for c, w in zip(table.columns, widths, strict=True)]
    if sum(least) > room:
        _print_rows(table, console)
        return
    while sum(widths) > room:
        movable = [i for i, width in enumerate(widths) if width > least[i]]
        widths[max(movable, key=lambda i: widths[i])] -= 1
    console.print(_with_widths(table, widths))


def _with_widths(table: Table, widths: Sequence[int]) -> Table:
    found = copy.copy(table)
    found.columns, found.rows = [], []
    for column, width in zip(table.columns, widths, strict=True):
        found.add_column(
            column.header,
            justify=column.justify,
            overflow=column.overflow,
            no_wrap=column.no_wrap,
            width=width,
        )
    for row, own in _rows(table):
        cells = (_folded(cell, width) for cell, width in zip(own, widths, strict=True))
        found.add_row(*cells, style=row.style)
    return found


def _rows(table: Table) -> Iterator[tuple[Row, list[AnyText]]]:
    cells = zip(*(column.cells for column in table.columns), strict=True)
    for row, own in zip(table.rows, cells, strict=True):
        yield row, [_text(cell) for cell in own]


def _text(cell: object) -> AnyText:
    return cell if isinstance(cell, AnyText) else Text(visible(str(cell), line=True))


def _texts(column: Column, has_header: bool) -> list[AnyText]:
    return [*([_text(column.header)] if has_header else []), *map(_text, column.cells)]


def _natural(column: Column, has_header: bool) -> int:
    return max((text.cell_len for text in _texts(column, has_header)), default=0)


def _least(column: Column, natural: int, has_header: bool) -> int:
    """The minimum width of a column."""
    if column.no_wrap or column.justify == "right":
        return natural
    texts = _texts(column, has_header)
    longest = max((Text(word).cell_len for t in texts for word in t.plain.split()), default=0)
    return min(longest, _LEAST) if column.overflow == "fold" else longest


def _folded(text: AnyText, width: int) -> AnyText:
    """Break words that are too long, preferably after a dot or similar."""
    if text.cell_len != len(text.plain):  # in letters of two columns, as the console folds them
        return text
    at, cuts = 0, []
    for word in re.finditer(r"\S+", text.plain):
        at = word.start()
        while word.end() - at > width:
            piece = text.plain[at : at + width]
            at += 1 + max(piece.rfind("."), piece.rfind("/")) or 1 + piece.rfind("_") or width
            cuts.append(at)
    return Text("\n").join(text.divide(cuts)) if cuts else text


def _print_rows(table: Table, console: Console) -> None:
    """Print every row as its first cell and, indented, its other cells."""
    columns = table.columns
    for row, cells in _rows(table):
        first = _named(columns[0], cells[0], table.show_header and columns[0].justify == "right")
        first.stylize(row.style or "")
        console.print(Text("\n").join(_filled([first], console.width, "")), soft_wrap=True)
        rest = [
            _named(column, cell, table.show_header)
            for column, cell in zip(columns[1:], cells[1:], strict=True)
            if cell.plain.strip()
        ]
        lines = _filled(rest, console.width, "  ")
        if lines:
            console.print(Text("\n").join(lines), soft_wrap=True)


def _named(column: Column, cell: AnyText, is_named: bool) -> AnyText:
    header = _text(column.header).plain if is_named else ""
    return Text.assemble(f"{header}: " if header else "", cell)


def _filled(parts: Sequence[AnyText], width: int, indent: str) -> list[AnyText]:
    """Join `parts` with semicolons; lines end between parts or, for long parts, between words."""
    lines: list[AnyText] = []
    for number, part in enumerate(parts, 1):
        whole = Text.assemble(part, ";" if number < len(parts) else "")
        fits = whole.cell_len <= width - len(indent)
        for piece in [whole] if fits else whole.split(" "):
            if lines and lines[-1].cell_len + 1 + piece.cell_len <= width:
                lines[-1] = Text.assemble(lines[-1], " ", piece)
            else:
                lines.append(Text.assemble(indent, piece))
    return lines
