"""The command `edgeq verify`, registered in `edgeq.cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json
from edgeq.report.console import make_console

signatures = typer.Typer(rich_markup_mode="rich")


@signatures.command(
    rich_help_panel="Models and files",
    epilog=examples("edgeq verify minilm.zip --key key.pub"),
)
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle.", show_default=False)],
    key: Annotated[
        Path,
        typer.Option(help="The signer's public key, a PEM file.", show_default=False),
    ],
    as_json: Json = False,
) -> None:
    """Verify a bundle's signature, BUNDLE.sig, as written by edgeq bundle --sign.

    It works for any file or directory with a signature in OpenSSF's model-signing format.
    """
    from edgeq.formats.signature import require_signed, signature_of

    require_signed(bundle, key)
    if as_json:
        print_json({"bundle": str(bundle), "signature": str(signature_of(bundle)), "key": str(key)})
    else:
        make_console().print(f"{bundle}: signed by {key}", soft_wrap=True)
