"""The commands `edgeq report` and `edgeq explain`, registered in `edgeq.cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli.exit import end, print_json, refused
from edgeq.cli.help import examples
from edgeq.cli.options import Json, devices_option
from edgeq.core.errors import InvalidInput
from edgeq.report.console import make_console
from edgeq.report.progress import progress_line

reports = typer.Typer(rich_markup_mode="rich")


@reports.command(
    epilog=examples(
        "edgeq report recipes/minilm.yaml -o report.html",
        "edgeq report minilm.zip -o report.html",
        "edgeq report minilm.html wren.zip -o both.html",
    ),
)
def report(
    source: Annotated[
        list[Path],
        typer.Argument(help="A recipe or a bundle; or several, or pages.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The .html file to write.", dir_okay=False)
    ] = None,
    device: Annotated[
        list[str] | None,
        devices_option("the recipe's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write an HTML report of everything that was built and measured.

    Earlier results are reused; the rest is built and measured now. The report of a bundle shows
    what was measured when it was made. The page is one file and loads nothing from the network.
    Several models are shown side by side, by what one wants to know first.
    """
    from edgeq.report.page.write import write_report, write_several

    if len(source) > 1:
        with progress_line() as progress:
            several = write_several(source, out, device or [], as_json, progress)
        if as_json:
            print_json({"reports": [each.model_dump(mode="json") for each in several]})
        elif out is not None:
            make_console().print(f"{out}: {len(several)} models", soft_wrap=True)
        return
    with progress_line() as progress:
        found = write_report(source[0], out, device or [], as_json, progress)
    refusal = InvalidInput(found.refused.values()) if found.refused else None
    if as_json:
        print_json({**found.model_dump(mode="json"), **refused(refusal)})
    elif out is not None:
        from edgeq.core.units import format_bytes
        from edgeq.report.page.words import headline

        size = format_bytes(out.stat().st_size)
        make_console().print(f"{out}: {size}. {headline(found)}", soft_wrap=True)
    end(refusal, as_json)


@reports.command(
    epilog=examples(
        "edgeq explain recipes/minilm.yaml --device here",
        "edgeq explain report.html",
        "edgeq explain recipes/qwen3-0.6b.yaml --plan",
    ),
)
def explain(
    source: Annotated[
        Path,
        typer.Argument(help="A recipe, a bundle, or an HTML report.", show_default=False),
    ],
    device: Annotated[
        list[str] | None,
        devices_option("the recipe's."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Explain the plan of a recipe from estimates, without building."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Explain in plain words what was done to a model and how good the result is.

    For a recipe, earlier results are reused; the rest is built and checked now.
    """
    from edgeq.report.explain.piece import write
    from edgeq.report.explain.sources import facts_of_source
    from edgeq.report.explanation import print_piece

    with progress_line() as progress:
        facts = facts_of_source(source, device or [], plan, progress)
    piece, refusal = write(facts).piece, InvalidInput(facts.refused) if facts.refused else None
    if as_json:
        print_json({**piece.model_dump(mode="json"), **refused(refusal)})
    else:
        print_piece(piece, make_console())
    end(refusal, as_json)
