"""The command `edgeq matrix`, registered in `edgeq.cli.main`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeq.cli.exit import attempted, end, print_json, refused
from edgeq.cli.help import examples
from edgeq.cli.options import Json, devices_option
from edgeq.report.console import make_console
from edgeq.report.progress import progress_line

if TYPE_CHECKING:
    from edgeq.pipeline.matrix.run import Judged

matrices = typer.Typer(rich_markup_mode="rich")


@matrices.command(
    rich_help_panel="Devices",
    epilog=examples(
        "edgeq matrix recipes/minilm.yaml recipes/wren.yaml --out verdicts",
        "edgeq matrix recipes/wren.yaml --device pi5-8gb --scheduler tcp://lab:8786",
    ),
)
def matrix(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files.", show_default=False)],
    device: Annotated[list[str] | None, devices_option("each recipe's own.")] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Where to run: ssh://user@host[:port], adb[:serial], emulate or here. "
            "Default: as a device's profile says, else on its stand-in, else here."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="A dask scheduler, tcp://host:port; its workers offer devices by id."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A directory for verdicts; those already there are reused."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Measure latency for at least 60 s and 1024 runs.")
    ] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="Also print every line of every verdict.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(help="Also write the verdicts as JUnit XML.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Check many recipes on many devices, with local workers or a dask cluster.

    Start a worker of a cluster with: dask worker tcp://host:port --resources "pi5-8gb=1". Exit
    status 3 if a stand-in that EDGEQ_REQUIRE names (arm64,x86-mask,cgroup,ssh,adb) is missing.
    """
    from edgeq.core.files import writable, write_text
    from edgeq.pipeline.check.verdict import exit_status
    from edgeq.pipeline.matrix.run import run_matrix
    from edgeq.places.emulated.required import require_stand_ins
    from edgeq.report.junit import junit as to_junit

    require_stand_ins()
    if junit is not None:
        writable(junit, "--junit", ".xml")
    with progress_line() as progress:
        judged, refusal = attempted(
            lambda: run_matrix(
                recipes, device or [], progress, scheduler=scheduler, out=out, on=on, full=full
            )
        )
    status = exit_status(line.status for each in judged for line in each.verdict.lines)
    if junit is not None:
        write_text(junit, to_junit([each.named() for each in judged]))
    if as_json:
        print_json({**_dumped(judged), "exit_status": status, **refused(refusal)})
    else:
        _show(judged, lines)
    end(refusal, as_json)
    raise typer.Exit(status)


def _show(judged: Sequence[Judged], lines: bool) -> None:
    from edgeq.report.matrix import print_matrix

    print_matrix(judged, make_console(), lines=lines)


def _dumped(judged: Sequence[Judged]) -> dict[str, Any]:
    """Plain values for JSON: every verdict, and its recipe at the same place."""
    return {
        "verdicts": [each.verdict.model_dump(mode="json") for each in judged],
        "recipes": [each.recipe for each in judged],
    }
