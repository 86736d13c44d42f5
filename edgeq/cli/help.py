"""What `--help` shows: examples one a line, and paragraphs that fill the terminal's width."""

from __future__ import annotations

import inspect

import typer


def examples(*commands: str) -> str:
    """The text behind a command's help; paragraphs, since single line breaks are not kept."""
    return "\n\n".join([f"Example{'s' * (len(commands) > 1)}:", *commands])


def fill_paragraphs(group: typer.Typer) -> None:
    """Make one line of every paragraph of every command's help; else its breaks are kept."""
    for command in group.registered_commands:
        text = inspect.cleandoc(command.help or inspect.getdoc(command.callback) or "")
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
