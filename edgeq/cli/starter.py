"""The command that begins an app: a program around a bundle, in the app's language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json
from edgeq.report.console import make_console

starters = typer.Typer(rich_markup_mode="rich")


@starters.command(
    rich_help_panel="Models and files",
    epilog=examples("edgeq starter minilm.zip --language javascript --out my-app"),
)
def starter(
    bundle: Annotated[Path, typer.Argument(help="A bundle.", show_default=False)],
    language: Annotated[
        str,
        typer.Option(help="cpp, javascript, web, kotlin or csharp.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The directory to write.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a small program that runs a bundle, with a self-test that verifies it.

    In C++ (cpp), for Node.js (javascript), as a page for browsers (web), for Android (kotlin) or in
    C# (csharp): sentence encoders, classifiers of texts and models of arrays in ONNX; in C++ also
    language models in GGUF.
    """
    from edgeq.pipeline.starters.write import STARTERS, write_starter

    written = write_starter(bundle, language, out)
    if as_json:
        print_json({"path": str(written.absolute()), "language": language})
        return
    following = STARTERS[language].next
    make_console().print(f"{written}: next: cd {written} && {following}", soft_wrap=True)
