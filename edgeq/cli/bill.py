"""The command `edgeq bom`, registered in `edgeq.cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json
from edgeq.report.console import make_console

bills = typer.Typer(rich_markup_mode="rich")


@bills.command(
    rich_help_panel="Models and files",
    epilog=examples("edgeq bom minilm.zip --out minilm.cdx.json"),
)
def bom(
    bundle: Annotated[Path, typer.Argument(help="A bundle.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="The .cdx.json to write.", show_default=False, dir_okay=False)
    ],
    as_json: Json = False,
) -> None:
    """Write a bundle's bill of materials, a CycloneDX ML-BOM.

    It lists the model with its source, revision and licence, every file and data set with its hash,
    number formats, tools, and the figures of its verdicts.
    """
    from edgeq.core.files import writable
    from edgeq.pipeline.bundle.bill import write_bill

    writable(out, "--out")
    bill = write_bill(bundle, out)
    if as_json:
        print_json(bill)
    else:
        parts = len(bill["components"])
        make_console().print(f"{out}: CycloneDX 1.6, {parts} files and data sets", soft_wrap=True)
