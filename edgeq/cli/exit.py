"""Exit statuses and error messages, for people or as JSON."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer

import edgeq
from edgeq.core import canonical
from edgeq.core.errors import (
    EXIT_FAULT,
    EXIT_INVALID_INPUT,
    EdgeqError,
    InvalidInput,
    Missing,
    Problem,
)
from edgeq.core.files import error_of_disk, is_system_error, require_utf8
from edgeq.core.store import default_root
from edgeq.core.visible import visible_json
from edgeq.report.console import Text, make_console

_Done = TypeVar("_Done")
_NO_THREAD = "can't start new thread"  # Python's RuntimeError where a stack finds no room
_NO_MEMORY = Missing(
    Problem(
        "memory",
        "there is not enough for this",
        "end other programs, or take a smaller model",
    )
)
_INTERRUPTED = 130  # a shell's status for Ctrl-C
_UsageError: type[Any] = typer.BadParameter.__mro__[2]  # typer has its own copy of click


class Commands(typer.core.TyperGroup):
    """The command group. Without `invoke`, typer would exit with status 1 on a broken pipe."""

    def invoke(self, ctx: Any) -> Any:
        """See `click.Group.invoke`."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            what = "ended while it was being written to"
            raise Missing(Problem("a process or connection", what, "try again")) from None


def print_json(value: Any) -> None:
    """Print the output of `--json`."""
    sys.stdout.write(visible_json(canonical.to_json(value)))


def problems_of(error: EdgeqError) -> dict[str, Any]:
    """An error as JSON-compatible problems, one per cause."""
    problems = [
        {"where": each.where, "what": each.what, "remedy": each.remedy} for each in error.problems
    ]
    return {"problems": problems, "exit_status": error.exit_code}


def attempted(work: Callable[[], _Done]) -> tuple[_Done, EdgeqError | None]:
    """What a command does, and what it refused if some variants of a recipe are impossible."""
    from edgeq.pipeline.build.build import Partly

    try:
        return work(), None
    except Partly as error:
        return error.done, error


def refused(refusal: EdgeqError | None) -> dict[str, Any]:
    """What the output of `--json` has in addition if a command did only a part."""
    return problems_of(refusal) if refusal else {}


def end(refusal: EdgeqError | None, as_json: bool) -> None:
    """End a command that did only a part, and has printed that, as the refusal says."""
    if refusal:
        raise typer.Exit(refusal.exit_code) if as_json else refusal


def run(command: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; never 1 for an exception."""
    as_json = "--json" in arguments
    try:
        _require_surroundings(arguments)
        status = command(list(arguments), prog_name="edgeq", standalone_mode=False)
        if status == _INTERRUPTED:
            raise KeyboardInterrupt  # typer turns it into a status
        return status if isinstance(status, int) else 0
    except EdgeqError as error:
        return _tell(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except _UsageError as error:
        if not as_json:
            error.show()
            return EXIT_INVALID_INPUT
        return _tell(EdgeqError(Problem("edgeq", error.format_message(), "see --help")), as_json)
    except MemoryError:
        return _tell(_NO_MEMORY, as_json)
    except OSError as error:
        return _tell(_system_error(error), as_json)
    except Exception as error:
        if str(error) == _NO_THREAD:
            return _tell(_NO_MEMORY, as_json)
        return _tell(_Fault(_report(error, arguments)), as_json)


def _require_surroundings(arguments: Sequence[str]) -> None:
    """Refuse a directory that is gone, and names that no record could hold."""
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        where = "the current directory"
        raise InvalidInput(Problem(where, what, "change to another one: cd")) from None
    require_utf8(here, "the current directory")
    require_utf8(os.environ.get("EDGEQ_STORE", ""), "EDGEQ_STORE")
    for each in arguments:
        require_utf8(each, each)


def _interrupted(arguments: Sequence[str]) -> int:
    store = default_root()
    if store.is_dir():
        again = shlex.join(["edgeq", *arguments])
        kept = f"stopped; finished steps are kept in {store}. To go on: {again}"
        make_console(sys.stderr).print(Text(kept), soft_wrap=True)
    return _INTERRUPTED


class _Fault(EdgeqError):
    """A mistake in edgeq itself."""

    exit_code = EXIT_FAULT


def _tell(error: EdgeqError, as_json: bool) -> int:
    if as_json:
        print_json(problems_of(error))
        return error.exit_code
    console = make_console(sys.stderr)
    for problem in error.problems:
        head, *rest = str(problem).split("\n")
        line = Text.assemble(("error: ", "bold red"), head)
        console.print(line, soft_wrap=True)
        for more in rest:  # indented, so that a line break in a name cannot imitate our lines
            console.print(Text(f"    {more.strip()}"), soft_wrap=True)
    return error.exit_code


def _system_error(error: OSError) -> EdgeqError:
    if error.filename is None or is_system_error(error):
        return error_of_disk(error, Path(os.fsdecode(error.filename or "a file")))
    reason = error.strerror or str(error)
    remedy = "check that file and its permissions"
    return EdgeqError(Problem(os.fsdecode(error.filename), reason, remedy))


def _report(error: Exception, arguments: Sequence[str]) -> Problem:
    """One line about a fault; its full text is in a file."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    facts = [
        f"edgeq {edgeq.__version__}, Python {platform.python_version()}, {platform.platform()}",
        shlex.join(["edgeq", *arguments]),
        "".join(traceback.format_exception(error)),
    ]
    try:
        handle, name = tempfile.mkstemp(prefix="edgeq-fault-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(facts))
    except OSError as failed:
        name = f"nowhere ({failed.strerror})"
    what = f"{' '.join(what.split())[:400]}; the full text is in {name}"
    return Problem("edgeq has a fault", what, "please open an issue and attach that file")
