"""Commands that take a model instead of a recipe."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.visible import visible
from edgeq.report.console import make_console
from edgeq.report.progress import progress_line

if TYPE_CHECKING:
    from edgeq.pipeline.run import Sampling

models = typer.Typer(rich_markup_mode="rich")


def _show(piece: str) -> None:
    sys.stdout.write(visible(piece))
    sys.stdout.flush()


def _show_nothing(piece: str) -> None:
    pass


@models.command(
    rich_help_panel="Models and files",
    epilog=examples(
        'edgeq run minilm.zip "a question" "an answer" "another"',
        'edgeq run wren.gguf --prompt "The bird"',
        "edgeq run artifact --inputs feeds.npz --out answers.npz",
    ),
)
def run(
    path: Annotated[
        Path, typer.Argument(help="A bundle, an artifact or a .gguf file.", show_default=False)
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Sentences: each is classified, or ranked by similarity to the first; for a "
            "reranker, a query and texts; for a model of images or recordings, their paths."
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Input arrays, for a tensor model: an .npz with one per input name."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the output arrays to this .npz.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text for a language model to continue.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of tokens to generate. Default: 128, or what the context has left."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Sampling temperature; 0 takes the likeliest token. Default: 0."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for sampling. Default: 0.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Apply the model's chat template to the prompt.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a model: rank, tag or classify texts, classify images or find objects in them, continue
    a text, or map arrays."""
    from edgeq.pipeline.run import Sampling, refuse_unused, run_texts
    from edgeq.report.answers import print_answer

    sampling = Sampling(max_tokens, temperature, seed)
    refuse_unused(texts or [], inputs, out, prompt, sampling, chat)
    if prompt is not None:
        _continue(path, prompt, sampling, chat, as_json)
    elif inputs is not None:
        _map(path, inputs, out, as_json)
    else:
        answer = run_texts(path, texts or [])
        if as_json:
            print_json(answer.summary())
        else:
            print_answer(answer, make_console())


def _continue(path: Path, prompt: str, sampling: Sampling, chat: bool, as_json: bool) -> None:
    """Print a text as it is continued."""
    from edgeq.pipeline.run import write_text
    from edgeq.report.answers import print_pace

    show = _show_nothing if as_json else _show
    written = write_text(path, prompt, sampling, show, chat=chat)
    if as_json:
        print_json(written.summary())
        return
    _show("\n")
    if sys.stdout.isatty():
        print_pace(written, make_console(sys.stderr))


def _map(path: Path, inputs: Path, out: Path | None, as_json: bool) -> None:
    """Print the outputs for arrays, or write them."""
    from edgeq.pipeline.run import run_arrays
    from edgeq.report.answers import print_outputs

    outputs = run_arrays(path, inputs, out)
    if as_json:
        print_json({name: array.tolist() for name, array in outputs.items()})
    else:
        print_outputs(outputs, out, make_console())


@models.command(
    rich_help_panel="Models and files",
    epilog=examples(
        "edgeq compare recipes/wren.yaml wren-q4.gguf --text held-back.txt",
        'edgeq compare recipes/wren.yaml wren-q4.gguf --prompt "The whale"',
        "edgeq compare recipes/minilm.yaml minilm.zip --text sentences.txt",
    ),
)
def compare(
    a: Annotated[Path, typer.Argument(help="The reference model.", show_default=False)],
    b: Annotated[
        Path, typer.Argument(help="The model to compare with the reference.", show_default=False)
    ],
    text: Annotated[
        Path | None,
        typer.Option(help="Text to compare on; neither model may have been calibrated on it."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt for both models; shows the answers side by side.")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of tokens per answer. Default: 64, or what the context has left."
        ),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Tokens per window. Default: 256.")] = None,
    windows: Annotated[
        int | None, typer.Option(help="Number of windows, spread over the text. Default: 40.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two models on a text, or show their answers to a prompt side by side.

    For language models, reports the KL divergence of their predictions; for encoders, the cosine of
    their embeddings and the texts whose nearest neighbour changes. Each model may be a recipe (its
    model in full precision), an artifact, a bundle, a GGUF file or, for language models, a Hugging
    Face directory.
    """
    from edgeq.pipeline.compare.workflow import CompareOptions, compare_models
    from edgeq.report.divergence import print_compared

    asked = CompareOptions(text, prompt, max_tokens, window, windows)
    with progress_line() as progress:
        found = compare_models(a, b, asked, progress)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_compared(found, make_console())


@models.command(
    rich_help_panel="Models and files",
    epilog=examples("edgeq audit model-Q4_K_M.gguf --reference recipes/wren"),
)
def audit(
    file: Annotated[Path, typer.Argument(help="A GGUF file.", show_default=False)],
    reference: Annotated[
        Path | None, typer.Option(help="The Hugging Face directory that the file was made from.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="Text for the KL divergence. Default: the reference's own text."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check whether a GGUF file is what it claims to be. Exit status 1 if it is not."""
    from edgeq.core.errors import EXIT_BUDGET_FAILED
    from edgeq.pipeline.audit.run import audit as run_audit
    from edgeq.report.audit import print_audit

    with progress_line() as progress:
        found = run_audit(file, reference, text, progress)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_audit(found, make_console())
    if not found.sound:
        raise typer.Exit(EXIT_BUDGET_FAILED)


@models.command(
    rich_help_panel="Models and files",
    epilog=examples(
        "edgeq quantize model-f16.gguf model-q4.gguf --mix Q4_K_M --importance m.gguf",
        "edgeq quantize model-f16.gguf small.gguf --size 120MiB --text calibration.txt",
    ),
)
def quantize(
    source: Annotated[
        Path,
        typer.Argument(help="A GGUF file in F32, F16 or BF16; with --size, in any type."),
    ],
    out: Annotated[Path, typer.Argument(help="The GGUF file to write.")],
    mix: Annotated[
        str | None,
        typer.Option(help="The mix to quantize to, by llama.cpp's name. Default: Q4_K_M."),
    ] = None,
    importance: Annotated[
        Path | None, typer.Option(help="An importance matrix, from edgeq or llama.cpp.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Instead of a mix: choose each tensor's type to fit this size."),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="With --size: calibration text, 100 KB or more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Quantize a GGUF file: to a mix, as llama.cpp's own tool does, or to fit a size.

    With --size, of any architecture that llama.cpp knows: importance and costs of errors come from
    llama.cpp as it runs. Layers are rounded independently of each other.
    """
    from edgeq.pipeline.quantize_gguf import fit_gguf, quantize_gguf
    from edgeq.report.overview import print_fitted, print_quantized

    fitted = None
    with progress_line() as progress:
        if size is not None or text is not None:
            if size is None or text is None or mix is not None or importance is not None:
                what = "go together, without --mix and --importance"
                raise InvalidInput(
                    Problem("--size and --text", what, "write --size 120MiB --text FILE")
                )
            fitted = fit_gguf(source, out, size, text, progress)
        else:
            quantize_gguf(source, out, mix or "Q4_K_M", importance, progress)
    sizes = {"source_bytes": source.stat().st_size, "bytes": out.stat().st_size}
    if as_json:
        made = {"mix": mix or "Q4_K_M"} if fitted is None else dataclasses.asdict(fitted)
        print_json({"path": str(out.absolute()), **made, **sizes})
        return
    print_quantized(source, out, make_console())
    if fitted is not None:
        print_fitted(fitted, make_console())


@models.command(
    rich_help_panel="Models and files",
    epilog=examples(
        "edgeq imatrix recipes/wren.yaml --out imatrix.gguf",
        "edgeq imatrix model-f16.gguf --text calibration.txt --out imatrix.gguf",
    ),
)
def imatrix(
    model: Annotated[Path, typer.Argument(help="A recipe, or a GGUF file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    text: Annotated[
        Path | None, typer.Option(help="For a GGUF file: calibration text, 100 KB or more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the importance matrix of a recipe's model or a GGUF file, in llama.cpp's format."""
    from edgeq.pipeline.quantize_gguf import importance_of_file, importance_of_recipe

    is_file = model.suffix == ".gguf"
    if is_file != (text is not None):
        what = "is required for a GGUF file" if is_file else "is in the recipe: data.calibration"
        raise InvalidInput(Problem("--text", what, "write --text FILE" if is_file else "omit it"))
    with progress_line() as progress:
        if text is not None:
            found = importance_of_file(model, text, out, progress)
        else:
            found = importance_of_recipe(model, out, progress)
    tokens = found.chunks * found.chunk_tokens
    if as_json:
        print_json({"path": str(out.absolute()), "weights": len(found.sums), "tokens": tokens})
    else:
        make_console().print(f"{out}: {len(found.sums)} weights, {tokens} tokens", soft_wrap=True)
