"""The command line: arguments in, one call, text out."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import edgeq
from edgeq.cli.allocate import allocating
from edgeq.cli.bill import bills
from edgeq.cli.emulate import emulators
from edgeq.cli.exit import Commands, attempted, end, print_json, problems_of, refused
from edgeq.cli.exit import run as run_command
from edgeq.cli.help import examples, fill_paragraphs
from edgeq.cli.matrix import matrices
from edgeq.cli.min_memory import limits
from edgeq.cli.models import models
from edgeq.cli.new import beginning
from edgeq.cli.options import Json, On, complete_device, devices_option
from edgeq.cli.pipe import guarded_output, open_closed_streams
from edgeq.cli.recommend import recommending
from edgeq.cli.report import reports
from edgeq.cli.starter import starters
from edgeq.cli.verify import signatures
from edgeq.cli.warned import notes_for_warnings
from edgeq.core.temporary import sweep
from edgeq.report.console import make_console
from edgeq.report.progress import progress_line, show_progress
from edgeq.report.terminal import print_verdict

if TYPE_CHECKING:
    from edgeq.pipeline.plan.plan import Planned
    from edgeq.pipeline.workflow import Bundled

app = typer.Typer(
    cls=Commands,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog="Exit status: 0 all pass, 1 a budget failed, 2 the input is wrong, "
    "3 a tool or device is missing, 4 inconclusive, 70 a fault of edgeq itself.",
)

Recipe = Annotated[Path, typer.Argument(help="A recipe file.", show_default=False)]
Artifacts = Annotated[
    list[str] | None, typer.Option("--artifact", help="Use only this artifact; may be repeated.")
]
Full = Annotated[
    bool, typer.Option("--full", help="Measure latency for at least 60 s and 1024 runs.")
]


def _show_version(asked: bool) -> None:
    if asked:
        print(edgeq.__version__)
        raise typer.Exit


@app.callback()
def whole(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show results and errors, but no progress.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print a line for every step, with its time.")
    ] = False,
) -> None:
    """State the budget; get the best model that fits it, proven on the device."""
    if quiet and verbose:
        raise typer.BadParameter("choose one of --quiet and --verbose")
    notes_for_warnings()
    show_progress("nothing" if quiet else "every step" if verbose else "steps")
    sweep()


@app.command(epilog=examples("edgeq plan recipes/minilm.yaml"))
def plan(recipe: Recipe, as_json: Json = False) -> None:
    """Show every tensor's number format and size, and what to expect, without loading weights."""
    from edgeq.core.errors import InvalidInput
    from edgeq.pipeline.check.expected import expected_everywhere
    from edgeq.recipe.parts import has_parts, recipes_in
    from edgeq.report.expectations import print_expected
    from edgeq.report.overview import print_plan

    plans = [_foreseen(path) for path in recipes_in(recipe)]
    problems = [problem for planned in plans for problem in planned.impossible.values()]
    refusal = InvalidInput(problems) if problems else None
    if as_json:
        outputs = [_plan_for_programs(planned) for planned in plans]
        output = {"parts": outputs} if has_parts(recipe) else outputs[0]
        print_json({**output, **refused(refusal)})
    else:
        console = make_console()
        for planned in plans:
            print_plan(planned.plan, list(planned.devices.values()), console)
            print_expected(expected_everywhere(planned), planned.devices, console)
    end(refusal, as_json)


def _foreseen(recipe: Path) -> Planned:
    """The plan of a recipe of one model; formats that a search chooses are foretold."""
    from edgeq.pipeline.plan.plan import make_plan

    planned = make_plan(recipe)
    if not planned.recipe.quantize.fit:
        return planned
    from edgeq.pipeline.allocate.prospects import foretold
    from edgeq.pipeline.allocate.workflow import foreseen

    with progress_line() as progress:
        return foretold(foreseen(planned, progress))


def _plan_for_programs(planned: Planned) -> dict[str, Any]:
    from edgeq.pipeline.check.expected import expected_everywhere

    estimates = {
        name: {id: each.model_dump(mode="json") for id, each in own.items()}
        for name, own in expected_everywhere(planned).items()
    }
    return {**planned.plan.model_dump(mode="json"), "estimates": estimates}


@app.command(epilog=examples("edgeq build recipes/minilm.yaml --target onnx"))
def build(
    recipe: Recipe,
    target: Annotated[
        list[str] | None, typer.Option(help="Build only this file format; may be repeated.")
    ] = None,
    artifact: Artifacts = None,
    as_json: Json = False,
) -> None:
    """Quantize and export every variant of a recipe. Finished builds are reused."""
    from edgeq.pipeline.workflow import build_recipe
    from edgeq.report.overview import print_built

    with progress_line() as progress:
        built, refusal = attempted(lambda: build_recipe(recipe, target, progress, artifact or ()))
    if as_json:
        print_json({"artifacts": [item.summary() for item in built], **refused(refusal)})
    else:
        print_built(built, make_console())
    end(refusal, as_json)


@app.command(
    epilog=examples(
        "edgeq check recipes/minilm.yaml --device here",
        "edgeq check recipes/minilm.yaml --full --junit verdicts.xml",
    )
)
def check(
    recipe: Recipe,
    device: Annotated[
        list[str] | None,
        devices_option("all devices of the recipe, measured or estimated."),
    ] = None,
    on: On = None,
    artifact: Artifacts = None,
    full: Full = False,
    limit: Annotated[
        bool,
        typer.Option("--limit", help="Also run under each device's memory limit and the budget's."),
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(help="Also write the verdicts as JUnit XML.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Run every artifact and compare memory, latency, size and quality with the budgets."""
    from edgeq.core.files import writable, write_text
    from edgeq.pipeline.check.verdict import exit_status
    from edgeq.pipeline.workflow import check as check_any
    from edgeq.report.junit import junit as to_junit

    if junit is not None:
        writable(junit, "--junit", ".xml")
    with progress_line() as progress:
        verdicts, refusal = attempted(
            lambda: check_any(recipe, device or [], full, progress, on, limit, artifact or ())
        )
    status = exit_status(line.status for verdict in verdicts for line in verdict.lines)
    if junit is not None:
        write_text(junit, to_junit(verdicts))
    if as_json:
        dumped = [verdict.model_dump(mode="json") for verdict in verdicts]
        print_json({"verdicts": dumped, "exit_status": status, **refused(refusal)})
    else:
        console = make_console()
        for verdict in verdicts:
            print_verdict(verdict, console)
            console.print()
    end(refusal, as_json)
    raise typer.Exit(status)


@app.command(
    epilog=examples(
        "edgeq bundle recipes/minilm.yaml --device here --out minilm.zip",
        "edgeq bundle my-app.yaml --on ssh://pi@my-board --out my-app.zip",
    )
)
def bundle(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="The .zip to write.", show_default=False)],
    device: Annotated[
        str | None,
        typer.Option(
            help="The device that it must pass on: an id or a file. Default: this machine, or the "
            "one that --on reaches.",
            autocompletion=complete_device,
        ),
    ] = None,
    on: On = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            help="Bundle this artifact. Default: the passing artifact nearest to full precision; "
            "without a check, the one with the most bits per weight within the size budget."
        ),
    ] = None,
    full: Full = False,
    allow_unchecked: Annotated[
        bool, typer.Option("--allow-unchecked", help="Bundle without a check; the bundle says so.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            help="Sign with this private key (elliptic curve, PEM): writes OUT.sig as well.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack the best artifact that passes, with its tokenizer, for an offline app.

    By default it must pass on this machine; edgeq check checks every device of the recipe.
    """
    from edgeq.pipeline.workflow import BundleRequest, NotPassed, bundle_recipe

    request = BundleRequest(recipe, out, device, on, artifact, allow_unchecked, full, sign)
    try:
        with progress_line() as progress:
            bundled, refusal = attempted(lambda: bundle_recipe(request, progress))
    except NotPassed as error:
        if as_json:
            dumped = [verdict.model_dump(mode="json") for verdict in error.verdicts]
            print_json({"verdicts": dumped, **problems_of(error)})
            raise typer.Exit(error.exit_code) from None
        for verdict in error.verdicts:
            print_verdict(verdict, make_console())
        raise
    if as_json:
        print_json({**bundled.summary(), **refused(refusal)})
    else:
        _print_bundled(bundled, sign)
    end(refusal, as_json)


def _print_bundled(bundled: Bundled, key: Path | None) -> None:
    from edgeq.core.units import format_bytes
    from edgeq.report.overview import print_limits

    console = make_console()
    if bundled.verdict is not None:
        print_verdict(bundled.verdict, console)
    out = bundled.path
    size = f"{format_bytes(out.stat().st_size)} (model {format_bytes(bundled.model_bytes)})"
    checked = "passed" if bundled.verdict else "NOT CHECKED"
    console.print(f"{out}: {bundled.artifact}, {checked}, {size}", soft_wrap=True)
    if bundled.signature is not None:
        console.print(f"{bundled.signature}: signed with {key}", soft_wrap=True)
    console.print(f"chosen: {bundled.chosen_by}", soft_wrap=True)
    print_limits(bundled.limits, console)


@app.command(epilog=examples("edgeq devices", "edgeq devices pi5-8gb"))
def devices(
    device: Annotated[str | None, typer.Argument(help="Show all facts about this device.")] = None,
    as_json: Json = False,
) -> None:
    """List the known devices, or show every fact about one with its source."""
    from edgeq.devices.catalogue import list_devices, load_device
    from edgeq.report.overview import print_device, print_devices

    found = [load_device(device)] if device else list_devices()
    if as_json:
        print_json({"devices": [item.model_dump(mode="json") for item in found]})
    elif device:
        print_device(found[0], make_console())
    else:
        print_devices(found, make_console())


@app.command(epilog=examples("edgeq schema > recipes/recipe.schema.json"))
def schema() -> None:
    """Print the JSON schema of recipes, for completion and checks in editors."""
    from edgeq.recipe.json_schema import recipe_schema

    print_json(recipe_schema())


for group in (
    beginning,
    models,
    emulators,
    limits,
    recommending,
    matrices,
    reports,
    allocating,
    bills,
    starters,
    signatures,
):
    fill_paragraphs(group)
    app.add_typer(group)


def main() -> None:
    """Entry point. Expected errors end in a message and their exit status."""
    # On SIGTERM, and where the terminal is closed, partial files are removed as after Ctrl-C.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    open_closed_streams()
    with guarded_output():
        sys.exit(run_command(app, sys.argv[1:]))
