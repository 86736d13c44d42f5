"""Print the text of `edgeq explain`: paragraphs of at most 80 columns."""

from __future__ import annotations

import textwrap

from edgeq.report.console import Console, Text
from edgeq.report.explain.piece import Piece


def print_piece(piece: Piece, console: Console) -> None:
    """Print the whole text, titles in bold, sources last."""
    console.print(Text(piece.title, style="bold"), soft_wrap=True)
    for part in piece.parts:
        console.print()
        console.print(Text(part.title, style="bold"))
        for paragraph in part.paragraphs:
            _print(paragraph, "", "", console)
        for number, point in enumerate(part.points, 1):
            _print(point, f"{number}. ", "   ", console)
    console.print()
    console.print(Text("Sources", style="bold"))
    for source in piece.sources:
        _print(source, "- ", "  ", console)


def _print(text: str, first: str, later: str, console: Console) -> None:
    wrapped = textwrap.fill(
        text,
        console.width,
        initial_indent=first,
        subsequent_indent=later,
        break_on_hyphens=False,
        break_long_words=False,
    )
    console.print(Text(wrapped), soft_wrap=True)
