"""Formatting of `--help`: one example per line, and paragraphs filled to the terminal's width."""

from __future__ import annotations

import inspect

import typer


def examples(*commands: str) -> str:
    """The examples below a command's help, as paragraphs, since typer drops single line breaks."""
    return "\n\n".join([f"Example{'s' * (len(commands) > 1)}:", *commands])


def fill_paragraphs(group: typer.Typer) -> None:
    """Join each paragraph of every command's help into one line; typer would keep its line
    breaks."""
    for command in group.registered_commands:
        text = inspect.cleandoc(command.help or inspect.getdoc(command.callback) or "")
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
