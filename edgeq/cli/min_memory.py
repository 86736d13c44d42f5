"""The command `edgeq min-memory`, registered in `edgeq.cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json, OneDevice
from edgeq.report.console import make_console
from edgeq.report.progress import progress_line

limits = typer.Typer(rich_markup_mode="rich")


@limits.command(
    rich_help_panel="Devices",
    epilog=examples(
        "edgeq min-memory minilm.zip --device here",
        "edgeq min-memory wren-q4.gguf --device x86-laptop-8gb --slowdown 1.2",
    ),
)
def min_memory(
    artifact: Annotated[
        Path, typer.Argument(help="An artifact, a bundle or a .gguf file.", show_default=False)
    ],
    device: OneDevice = "here",
    slowdown: Annotated[
        float, typer.Option(help="Acceptable slowdown, as a multiple of the time without a limit.")
    ] = 1.5,
    context: Annotated[
        int | None,
        typer.Option(help="Positions of a language model's KV cache. Default: at most 1024."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the smallest memory limit under which an artifact runs at an acceptable latency.

    Runs it under hard limits on this machine. Exit status 1 if the device allows less, 3 if no
    stand-in for it is available.
    """
    from edgeq.devices.catalogue import load_device
    from edgeq.pipeline.check.min_memory import find_min_memory
    from edgeq.report.min_memory import print_min_memory

    with progress_line() as progress:
        found = find_min_memory(
            artifact, load_device(device), slowdown=slowdown, context=context, progress=progress
        )
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_min_memory(found, make_console())
    raise typer.Exit(found.exit_status)
