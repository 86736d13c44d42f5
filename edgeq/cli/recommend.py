"""The command `edgeq recommend`, registered in `edgeq.cli.main`."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json, OneDevice
from edgeq.estimate.use_cases import Purpose
from edgeq.report.console import make_console

recommending = typer.Typer(rich_markup_mode="rich")


@recommending.command(
    rich_help_panel="Devices",
    epilog=examples(
        "edgeq recommend recipes/wren --device pi5-8gb",
        "edgeq recommend config.json --device macbook-air-m2 --context 8192 --for code",
    ),
)
def recommend(
    model: Annotated[
        str,
        typer.Argument(
            help="A recipe, a model directory, its config.json, an .onnx or .gguf file, package:… "
            "or hub:…",
            show_default=False,
        ),
    ],
    device: OneDevice = "here",
    context: Annotated[
        int | None, typer.Option(help="Positions of a language model's KV cache. Default: 4096.")
    ] = None,
    purpose: Annotated[
        Purpose | None,
        typer.Option(
            "--for",
            help="Use case, which sets how much loss is acceptable. Default: chat or search.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate every preset of a model on a device, and recommend one.

    Reads no weights. Exit status 1 if nothing fits.
    """
    from edgeq.core.errors import EXIT_BUDGET_FAILED
    from edgeq.devices.catalogue import load_device
    from edgeq.pipeline.recommend.described_model import find_subject
    from edgeq.pipeline.recommend.recommend import recommend_model
    from edgeq.report.recommend import print_recommendation

    answer = recommend_model(
        find_subject(model), load_device(device), context=context, purpose=purpose
    )
    if as_json:
        print_json(answer.model_dump(mode="json"))
    else:
        print_recommendation(answer, make_console())
    if answer.chosen is None:
        raise typer.Exit(EXIT_BUDGET_FAILED)
