"""`edgeq compare`: the divergence of model B from model A on a text, in any formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

import edgeq
from edgeq.core.artifact import ARTIFACT_FILE, Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.sampling import spread
from edgeq.core.tasks import Task, task_of
from edgeq.core.terms import Progress
from edgeq.formats.base import Model
from edgeq.formats.bundle import BUNDLE_FILE
from edgeq.formats.language import LanguageModel
from edgeq.measure.divergence import (
    DEFAULT_WINDOWS,
    Divergence,
    measure,
    token_windows,
)
from edgeq.measure.same_tokens import same_tokens
from edgeq.models.jsonfile import read_optional
from edgeq.models.stated_task import task_of_config
from edgeq.recipe.text_files import read_text
from edgeq.recipe.windows import DEFAULT_WINDOW


class Side(Frozen):
    """One of the two models and its runtime."""

    path: str
    runtime: str = Field(description="Name and version of the runtime.")
    threads: int
    is_reference: bool = Field(
        default=False,
        description="Whether the runtime is a reference in place of the one in an app.",
    )


class Comparison(Divergence):
    """The divergence of B from A, and facts about both."""

    a: Side = Field(description="The reference.")
    b: Side = Field(description="The candidate.")
    text: str = Field(description="Path of the text.")
    windows_in_text: int = Field(
        description="Windows in the whole text; those used are spread evenly over it."
    )


@dataclass(frozen=True)
class Opened:
    """A model ready to run, and the path it was opened from."""

    path: Path
    model: Model

    @property
    def side(self) -> Side:
        """The record of this side in a comparison."""
        model = self.model
        return Side(
            path=str(self.path),
            runtime=model.runtime,
            threads=model.threads,
            is_reference=model.is_reference,
        )


def compare(
    a: Path,
    b: Path,
    text: Path,
    *,
    window: int = DEFAULT_WINDOW,
    windows: int = DEFAULT_WINDOWS,
    threads: int | None = None,
    progress: Progress = lambda step: None,
) -> Comparison:
    """Run A, the reference, and B on `windows` windows of `window` tokens of a text file.

    A and B: paths for `open_any`. threads: per run; by default one per physical core. Raises
    InvalidInput if one is not a language model, the text is too short, or the models do not
    tokenize the text equally; Missing if a runtime is not installed.
    """
    _check_windows(windows)
    read_text(text)  # report unreadable files before opening a model
    first, second = (open_any(path, threads, progress) for path in (a, b))
    return compare_opened(first, second, text, window=window, windows=windows, progress=progress)


def compare_opened(
    a: Opened,
    b: Opened,
    text: Path,
    *,
    window: int = DEFAULT_WINDOW,
    windows: int = DEFAULT_WINDOWS,
    progress: Progress = lambda step: None,
) -> Comparison:
    """Compare two open models, as `compare` does."""
    _check_windows(windows)
    content = read_text(text)
    reference, candidate = (_language_model(each) for each in (a, b))
    for path, model in ((a.path, reference), (b.path, candidate)):
        _fits(path, model, window)
    first, ids = same_tokens((reference, candidate), (a.path, b.path), content)
    cut = token_windows(ids, window, first)
    found = measure(reference, candidate, spread(cut, windows), progress)
    return Comparison(**dict(found), a=a.side, b=b.side, text=str(text), windows_in_text=len(cut))


def _check_windows(windows: int) -> None:
    if windows < 2:
        raise InvalidInput(Problem("--windows", f"{windows} gives no standard error", "give ≥ 2"))


def _fits(path: Path, model: LanguageModel, window: int) -> None:
    if window > model.context:
        what = f"{window} tokens do not fit {path}, which was trained or built for {model.longest}"
        if model.context < model.longest:
            what += f" and is opened for {model.context}"
        raise InvalidInput(Problem("--window", what, f"give {model.context} or fewer"))


def open_any(
    path: Path,
    threads: int | None = None,
    progress: Progress = lambda step: None,
) -> Opened:
    """Open the model at `path`.

    A recipe stands for its model: the original in its own library or, if that is not installed, the
    float model, built if necessary. So does a Hugging Face directory, a sentence encoder if it has
    sentence-transformers' modules. Anything else is passed to `edgeq.load`, with its errors.
    """
    progress(f"compare: open {path}")
    if path.suffix in (".yaml", ".yml"):
        return Opened(path, _of_recipe(path, threads, progress))
    if is_huggingface(path):
        _require_comparable(path, task_of_config(read_optional(path / "config.json")))
        return Opened(path, _original(path, (path / "modules.json").is_file(), threads))
    model = edgeq.load(path, threads=threads)
    _require_comparable(path, task_of(model.artifact.task) if model.artifact else None)
    return Opened(path, model)


def _require_comparable(path: Path, task: Task | None) -> None:
    """Raise InvalidInput for models of a task that are not compared on texts."""
    if task is None or task.generates or task.has_sentence_head:
        return
    what = f"is {task.noun}; language models and sentence encoders can be compared"
    remedy = "compare it with its original by a recipe: edgeq check RECIPE.yaml --device here"
    raise InvalidInput(Problem(str(path), what, remedy))


def _of_recipe(recipe: Path, threads: int | None, progress: Progress) -> Model:
    from edgeq.core.store import Store
    from edgeq.models.original.network import is_installed
    from edgeq.pipeline.check.reference import own_reading
    from edgeq.pipeline.plan.plan import make_plan

    planned = make_plan(recipe, weights=True)
    _require_comparable(recipe, task_of(planned.recipe.model.task))
    directory = planned.model.directory
    if planned.model.gguf is not None:
        return edgeq.load(planned.model.gguf, threads=threads)
    if directory is not None and is_installed():
        return _original(directory.path, planned.model.decoder is None, threads)
    return edgeq.load(own_reading(planned, Store(), progress), threads=threads)


def _original(directory: Path, is_encoder: bool, threads: int | None) -> Model:
    from edgeq.core.threads import default_threads
    from edgeq.formats import transformers_model

    load = transformers_model.load_encoder if is_encoder else transformers_model.load
    return load(directory, threads=threads or default_threads())


def open_language_model(path: Path, threads: int | None = None) -> LanguageModel:
    """Open the language model at `path`. Raises InvalidInput for any other model."""
    return _language_model(open_any(path, threads))


def _language_model(opened: Opened) -> LanguageModel:
    model = opened.model
    if not isinstance(model, LanguageModel):
        what = f"is {model.kind}, and only language models have a KL divergence"
        remedy = "compare it with another encoder, or check it: edgeq check"
        raise InvalidInput(Problem(str(opened.path), what, remedy))
    return model


def is_huggingface(path: Path) -> bool:
    """Whether `path` is a model directory that is neither an artifact nor a bundle."""
    ours = (ARTIFACT_FILE, BUNDLE_FILE)
    return (path / "config.json").is_file() and not any((path / name).exists() for name in ours)
