"""The command line: arguments in, one call, text out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from edgeq import canonical
from edgeq.errors import EdgeqError
from edgeq.report.progress import progress_line
from edgeq.report.terminal import make_console, print_verdict

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="State the budget; get the best model that fits it, proven on the device.",
    epilog="Exit status: 0 all pass, 1 a budget failed, 2 the input is wrong, "
    "3 a tool or device is missing, 4 inconclusive.",
)

Recipe = Annotated[Path, typer.Argument(help="A recipe file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _show_nothing(piece: str) -> None:
    pass


def _print_json(value: Any) -> None:
    sys.stdout.write(canonical.to_json(value))


@app.command(epilog="Example: edgeq plan recipes/minilm.yaml")
def plan(recipe: Recipe, as_json: Json = False) -> None:
    """Show what a build would make of every tensor, without loading a weight."""
    from edgeq.plan import make_plan
    from edgeq.report.overview import print_plan

    planned = make_plan(recipe)
    if as_json:
        _print_json(planned.plan.model_dump(mode="json"))
    else:
        print_plan(planned.plan, list(planned.devices.values()), make_console())


@app.command(epilog="Example: edgeq build recipes/minilm.yaml --target onnx")
def build(
    recipe: Recipe,
    target: Annotated[
        list[str] | None, typer.Option(help="Only this file format; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Quantize and export every variant; what was built before is found again."""
    from edgeq.report.overview import print_built
    from edgeq.workflow import build_recipe

    with progress_line() as progress:
        built = build_recipe(recipe, target, progress)
    if as_json:
        _print_json({"artifacts": [item.summary() for item in built]})
    else:
        print_built(built, make_console())


@app.command(
    epilog="Examples: edgeq check recipes/minilm.yaml --device here — "
    "edgeq check recipes/minilm.yaml --full --junit verdicts.xml"
)
def check(
    recipe: Recipe,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="A device id or file, or 'here'; may be repeated. Default: the recipe's."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Measure latency for at least 60 s and 1024 runs.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(help="Also write the verdicts as JUnit XML.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Run every artifact and hold what was seen against the budgets."""
    from edgeq.files import writable
    from edgeq.report.junit import junit as to_junit
    from edgeq.verdict import exit_status
    from edgeq.workflow import check_recipe

    if junit is not None:
        writable(junit, "--junit")
    with progress_line() as progress:
        verdicts = check_recipe(recipe, device or [], full, progress)
    status = exit_status(line.status for verdict in verdicts for line in verdict.lines)
    if junit is not None:
        junit.write_text(to_junit(verdicts), encoding="utf-8")
    if as_json:
        dumped = [verdict.model_dump(mode="json") for verdict in verdicts]
        _print_json({"verdicts": dumped, "exit_status": status})
    else:
        console = make_console()
        for verdict in verdicts:
            print_verdict(verdict, console)
            console.print()
    raise typer.Exit(status)


@app.command(epilog="Example: edgeq bundle recipes/minilm.yaml --device here --out minilm.zip")
def bundle(
    recipe: Recipe,
    out: Annotated[Path, typer.Option(help="The .zip to write.", show_default=False)],
    device: Annotated[str, typer.Option(help="The device it has to pass on.")] = "here",
    artifact: Annotated[
        str | None,
        typer.Option(help="This artifact. Default: of those that pass, the nearest to float."),
    ] = None,
    allow_unchecked: Annotated[
        bool, typer.Option("--allow-unchecked", help="Bundle without a check; it is marked.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pack the best artifact that passes, with its tokenizer, for an app that is offline."""
    from edgeq.units import format_bytes
    from edgeq.workflow import NotPassed, bundle_recipe

    console = make_console()
    try:
        with progress_line() as progress:
            bundled = bundle_recipe(recipe, device, out, artifact, allow_unchecked, progress)
    except NotPassed as error:
        if as_json:
            dumped = [verdict.model_dump(mode="json") for verdict in error.verdicts]
            _print_json({"verdicts": dumped, "exit_status": error.exit_code})
        else:
            for verdict in error.verdicts:
                print_verdict(verdict, console)
        raise
    if as_json:
        _print_json(bundled.summary())
        return
    if bundled.verdict is not None:
        print_verdict(bundled.verdict, console)
    size = format_bytes(out.stat().st_size)
    checked = "passed" if bundled.verdict else "NOT CHECKED"
    console.print(f"{out}: {bundled.artifact}, {size}, {checked}", soft_wrap=True)


@app.command(
    epilog='Examples: edgeq run minilm.zip "a sentence" "another" — '
    'edgeq run wren.gguf --prompt "The bird" — '
    "edgeq run artifact --inputs feeds.npz --out answers.npz"
)
def run(
    path: Annotated[
        Path, typer.Argument(help="A bundle, an artifact or a .gguf file.", show_default=False)
    ],
    texts: Annotated[list[str] | None, typer.Argument(help="Sentences to embed.")] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Arrays for a model of arrays: .npz by input name.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write its outputs, .npz.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text for a language model to continue.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens to generate at most. Default: 128.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest token, 1 draws. Default: 0.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of what is drawn. Default: 0.")] = None,
    as_json: Json = False,
) -> None:
    """Run a model: how alike sentences are to it, a text continued, or arrays to arrays."""
    from edgeq.report.answers import print_outputs, print_pace, print_similarity
    from edgeq.runners.session import Sampling, refuse_unused, run_arrays, run_texts, write_text

    console = make_console()
    sampling = Sampling(max_tokens, temperature, seed)
    refuse_unused(texts or [], inputs, out, prompt, sampling)
    if prompt is not None:
        written = write_text(path, prompt, sampling, _show_nothing if as_json else _show)
        if as_json:
            _print_json(written.summary())
        else:
            _show("\n")
            print_pace(written, make_console(sys.stderr))
        return
    if inputs is not None:
        outputs = run_arrays(path, inputs, out)
        if as_json:
            _print_json({name: array.tolist() for name, array in outputs.items()})
        else:
            print_outputs(outputs, out, console)
        return
    answer = run_texts(path, texts or [])
    if as_json:
        _print_json(answer.summary())
    else:
        print_similarity(answer, console)


@app.command(epilog="Example: edgeq compare recipes/wren wren-q4.gguf --text held-back.txt")
def compare(
    a: Annotated[Path, typer.Argument(help="The reference.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="What is held against it.", show_default=False)],
    text: Annotated[Path, typer.Option(help="Text neither was calibrated on.", show_default=False)],
    window: Annotated[int, typer.Option(help="Tokens of a window.")] = 256,
    windows: Annotated[int, typer.Option(help="How many, spread over the text.")] = 40,
    as_json: Json = False,
) -> None:
    """How far one language model's predictions are from another's (KL divergence).

    Each may be a Hugging Face directory, a GGUF file, an artifact or a bundle.
    """
    from edgeq.compare import compare as run_comparison
    from edgeq.report.divergence import print_comparison

    with progress_line() as progress:
        found = run_comparison(a, b, text, window=window, windows=windows, progress=progress)
    if as_json:
        _print_json(found.model_dump(mode="json"))
    else:
        print_comparison(found, make_console())


@app.command(epilog="Example: edgeq audit model-Q4_K_M.gguf --reference recipes/wren")
def audit(
    file: Annotated[Path, typer.Argument(help="A GGUF file.", show_default=False)],
    reference: Annotated[
        Path | None, typer.Option(help="The Hugging Face directory it was made from.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Text for the KL divergence. Default: the reference's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Is this GGUF file any good? Exit status 1 if something was found that matters."""
    from edgeq.audit.run import audit as run_audit
    from edgeq.errors import EXIT_BUDGET_FAILED
    from edgeq.report.audit import print_audit

    with progress_line() as progress:
        found = run_audit(file, reference, text, progress)
    if as_json:
        _print_json(found.model_dump(mode="json"))
    else:
        print_audit(found, make_console())
    if not found.sound:
        raise typer.Exit(EXIT_BUDGET_FAILED)


@app.command(epilog="Examples: edgeq devices — edgeq devices pi5-8gb")
def devices(
    device: Annotated[str | None, typer.Argument(help="Show all facts of this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the devices edgeq knows, or every fact of one with its source."""
    from edgeq.device import list_devices, load_device
    from edgeq.report.overview import print_device, print_devices

    found = [load_device(device)] if device else list_devices()
    if as_json:
        _print_json({"devices": [item.model_dump(mode="json") for item in found]})
    elif device:
        print_device(found[0], make_console())
    else:
        print_devices(found, make_console())


@app.command(epilog="Example: edgeq schema > recipes/recipe.schema.json")
def schema() -> None:
    """Print the JSON schema of a recipe, with which editors complete and check it."""
    from edgeq.recipe import recipe_schema

    _print_json(recipe_schema())


def main() -> None:
    """Entry point; an error that edgeq expects ends in its message and exit status."""
    try:
        app()
    except EdgeqError as error:
        console = Console(stderr=True, highlight=False)
        for problem in error.problems:
            console.print("[bold red]error:[/] ", end="")
            console.print(str(problem), markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
