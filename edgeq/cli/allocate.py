"""Commands for the sensitivity of tensors and the frontier of size and quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json, OneDevice
from edgeq.report.console import make_console
from edgeq.report.progress import progress_line

allocating = typer.Typer(rich_markup_mode="rich")

Recipe = Annotated[Path, typer.Argument(help="A recipe file.", show_default=False)]


@allocating.command(
    epilog=examples(
        "edgeq sensitivity recipes/wren.yaml --out wren-sensitivity.json",
        "edgeq sensitivity recipes/wren.yaml --picture wren.svg",
    )
)
def sensitivity(
    recipe: Recipe,
    target: Annotated[
        str | None, typer.Option(help="File format. Default: the recipe's first target.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write JSON, for data: {sensitivity: {path: ...}} in a recipe."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Write a chart: .html, .svg or .png (needs the extra report)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how much quality each tensor loses in each number format. Results are cached."""
    from edgeq.core import canonical
    from edgeq.core.files import writable, write_text
    from edgeq.pipeline.allocate.workflow import sensitivity_of_recipe
    from edgeq.report.pictures import check_picture, save_picture
    from edgeq.report.sensitivity import print_sensitivity, sensitivity_picture

    if out is not None:
        writable(out, "--out")
    if picture is not None:
        check_picture(picture, "--picture")
    with progress_line() as progress:
        found = sensitivity_of_recipe(recipe, target, progress)
    if out is not None:
        write_text(out, canonical.to_json(found.model_dump(mode="json")))
    if picture is not None:
        save_picture(sensitivity_picture(found), picture)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_sensitivity(found, make_console())


@allocating.command(
    epilog=examples("edgeq frontier recipes/wren.yaml --device here --out wren-frontier.html")
)
def frontier(
    recipe: Recipe,
    device: OneDevice = "here",
    out: Annotated[
        Path | None,
        typer.Option(help="Write a chart: .html, .svg or .png (needs the extra report)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare quality and size of presets, llama.cpp's mixes and allocations at several sizes."""
    from edgeq.pipeline.frontier.frontier import frontier as find_frontier
    from edgeq.report.frontier import frontier_picture, print_frontier
    from edgeq.report.pictures import check_picture, save_picture

    if out is not None:
        check_picture(out, "--out")
    with progress_line() as progress:
        found = find_frontier(recipe, device, progress)
    if out is not None:
        save_picture(frontier_picture(found), out)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_frontier(found, make_console())
