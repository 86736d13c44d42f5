"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import re
from typing import Any

import typer
from tables import code, plain, table

from edgeq.cli.main import app
from edgeq.core import errors
from edgeq.pipeline.check.verdict import _EXIT_STATUS

_MADE = "*This page is made from the code that it describes, whenever the site is built.*\n"
_MEANINGS = {
    errors.EXIT_PASS: "every budget that was asked for is kept",
    errors.EXIT_BUDGET_FAILED: "a budget is missed; `audit` or `compare-cpus` found a fault; or "
    "nothing fits (`recommend`, `min-memory`)",
    errors.EXIT_INVALID_INPUT: "the recipe, a file or the command is wrong; the message says "
    "where, and what to write instead",
    errors.EXIT_MISSING: "a tool, a package or a device is missing, or something could not be run",
    errors.EXIT_INCONCLUSIVE: "nothing failed, but a budget lies inside the confidence interval "
    "of what was measured",
    errors.EXIT_FAULT: "a fault of edgeq itself: the message names a file with the full text to "
    "attach to an issue",
}


def group() -> Any:
    """The command line, as built by typer."""
    return typer.main.get_command(app)


def commands() -> str:
    """Every command, its arguments, options and examples."""
    found = group().commands
    said = [
        "# Commands",
        _MADE,
        "Every command takes `--help`. They end with one of these [exit statuses](statuses.md).",
        table(
            ["command", "does"],
            [[f"[`edgeq {name}`](#{name})", plain(_first(each))] for name, each in found.items()],
        ),
    ]
    return "\n\n".join([*said, *(_section(name, each) for name, each in found.items())]) + "\n"


def _first(command: Any) -> str:
    return " ".join(_help(command).split("\n\n")[0].split())


def _section(name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    own = [each for each in command.params if each.name != "help"]
    arguments = [each for each in own if each.param_type_name == "argument"]
    usage = " ".join(["edgeq", name, *map(_usage, arguments), "[OPTIONS]"])
    said = [f"## {name} {{ #{name} }}", plain(_help(command)), f"```text\n{usage}\n```"]
    rows = [_row(each, context) for each in own]
    if rows:
        said.append(table(["argument or option", "meaning", "takes", "default"], rows))
    examples = _examples(command.epilog or "")
    if examples:
        said.append("\n".join(["For example:\n", "```text", *examples, "```"]))
    return "\n\n".join(said)


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _row(parameter: Any, context: Any) -> list[str]:
    is_argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if is_argument else parameter.opts
    takes = parameter.display_type(context).strip("<>{}[]").replace("list[str", "list[str]")
    repeated = " (repeatable)" if getattr(parameter, "multiple", False) else ""
    words = {"bool": "a switch", "str": "text", "int": "whole number", "float": "number",
             "path": "file", "list[str]": "text", "list[Path": "files"}  # fmt: skip
    default = parameter.default
    shown = "" if default in (None, False, ()) or callable(default) else code(default)
    return [
        ", ".join(map(code, names)),
        plain(_help(parameter)),
        words.get(takes, takes.replace("|", ", ")) + repeated,
        "**required**" if parameter.required else shown,
    ]


def _help(told: Any) -> str:
    """The help of a command or parameter, without what escapes it from markup of a terminal."""
    return (told.help or "").replace("\\[", "[")


def _examples(epilog: str) -> list[str]:
    """The command lines behind a command's help, each by itself."""
    told = re.split(r"\n\n| — ", re.sub(r"^Examples?:\s*", "", epilog))
    return [" ".join(each.split()) for each in told if each.startswith("edgeq")]


def statuses() -> str:
    """What a command's exit status means."""
    word = {status: name for name, status in _EXIT_STATUS.items()}
    rows = [[code(status), word.get(status, "–"), meaning] for status, meaning in _MEANINGS.items()]
    return "\n\n".join(
        [
            "# Exit statuses",
            _MADE,
            table(["status", "a verdict that says", "means"], rows),
            "If a check has several lines, the worst decides: *fail*, else *inconclusive*, else "
            "*not run*, else *pass*. So `edgeq check … && ship` ships nothing that was not seen.",
        ]
    )
