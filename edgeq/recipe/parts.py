"""A recipe of parts: models with recipes of their own that ship together, and their budgets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from edgeq.core.artifact import TOKENIZER_FILE, FileName, Frozen
from edgeq.core.audio import AudioSettings, DecodingSettings
from edgeq.core.budgets import BUDGETS
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import SPEECH_RECOGNITION, TENSOR
from edgeq.core.validation_messages import refuse
from edgeq.core.yamlfile import Document, by_place, read_yaml, validate
from edgeq.quantize.name import Name
from edgeq.recipe.budgets import Budgets
from edgeq.recipe.schema import DataRef, check_version

KEY = "parts"
"""The key by which a recipe of parts is known."""

_PART = re.compile(r"[a-z][a-z0-9_-]*")


def _check_part(value: Any) -> Any:
    if not isinstance(value, str) or not _PART.fullmatch(value) or value.endswith("-"):
        what = f"{value!r} cannot name a part: it becomes a directory"
        raise refuse(what, "use a-z, 0-9, '-' and '_', e.g. 'detector'")
    return value


def _with_recipe(value: Any) -> Any:
    return {"recipe": value} if isinstance(value, str) else value


class PartRef(Frozen):
    """One model of several."""

    recipe: str = Field(
        min_length=1, description="Its recipe, relative to this one.", examples=["detector.yaml"]
    )
    runs: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="How often it runs for one answer of the whole, e.g. once for each line of a "
        "page. The whole is timed so.",
    )


class SpeechSpec(Frozen):
    """A speech recogniser of the parts encoder and decoder, as optimum exports Whisper's."""

    tokenizer: str = Field(
        min_length=1,
        description="The directory of its tokenizer.json, relative to the recipe.",
        examples=["./whisper"],
    )
    audio: AudioSettings = Field(
        description="How a recording becomes the encoder's input.",
        examples=[{"rate": 16000, "seconds": 30, "mel": {"bins": 80}}],
    )
    decoding: DecodingSettings = Field(
        description="How the decoder writes a text.",
        examples=[{"prompt": [50258, 50259, 50359, 50363], "end": 50257, "length": 448}],
    )


class PartsData(Frozen):
    """Data that all parts together are judged on."""

    evaluation: DataRef | None = Field(
        default=None,
        description="For speech: a directory of recordings, with what is said in transcripts.tsv.",
    )


class PartsRecipe(Frozen):
    """Several models for one bundle, and budgets for all of them together.

    Quality is judged for each part, by its own recipe; for speech, of all together too.
    """

    edgeq: Annotated[Literal[1], BeforeValidator(check_version)] = Field(
        description="The version of this schema.", examples=[1]
    )
    name: Name = Field(description="A name for this deployment.", examples=["ocr"])
    parts: dict[
        Annotated[FileName, BeforeValidator(_check_part)],
        Annotated[PartRef, BeforeValidator(_with_recipe, json_schema_input_type=str | PartRef)],
    ] = Field(
        min_length=1,
        description="The models by their names, in the order in which an app runs them: each a "
        "recipe, or {recipe, runs}.",
        examples=[{"detector": "detector.yaml", "recogniser": {"recipe": "r.yaml", "runs": 10}}],
    )
    speech: SpeechSpec | None = Field(
        default=None, description="What makes a speech recogniser of an encoder and a decoder."
    )
    data: PartsData = Field(default=PartsData(), description="Data sets.")
    budgets: Budgets = Field(
        default=Budgets(),
        description="Limits for all parts together: memory while all are loaded, the time of each "
        "part's runs one after the other, and the size of the bundle's models.",
    )


def has_parts(path: Path) -> bool:
    """Whether the recipe at `path` names parts. Raises InvalidInput if it is no YAML."""
    return names_parts(read_yaml(path))


def names_parts(document: Document) -> bool:
    """Whether a recipe names parts."""
    return isinstance(document.data, dict) and KEY in document.data


def recipes_in(path: Path) -> list[Path]:
    """The recipes of models that the recipe at `path` stands for: its parts', or itself."""
    if not has_parts(path):
        return [path]
    return [path.parent / part.recipe for part in load_parts(path).parts.values()]


def load_parts(path: Path) -> PartsRecipe:
    """Read a recipe of parts. Raises InvalidInput with every problem of the file itself."""
    document = read_yaml(path)
    recipe, problems = validate(document, PartsRecipe)
    if recipe is not None:
        problems += _unfit_budgets(recipe, document)
        problems += _unfit_speech(recipe, document)
        for name, part in recipe.parts.items():
            own = path.parent / part.recipe
            if not own.exists() or has_parts(own):
                where = document.place((KEY, name))
                what = f"parts.{name}: {own} " + ("has parts" if own.exists() else "does not exist")
                problems.append(Problem(where, what, "name the recipe of a model"))
    if recipe is None or problems:
        raise InvalidInput(by_place(problems))
    return recipe


def _unfit_budgets(recipe: PartsRecipe, document: Document) -> Iterator[Problem]:
    task = SPEECH_RECOGNITION if recipe.speech is not None else TENSOR
    for budget in BUDGETS.values():
        if recipe.budgets.limit(budget) is None:
            continue
        where = document.place(("budgets", budget.section, budget.key), key=True)
        name, is_quality = f"budgets.{budget.name}", budget.section == "quality"
        if not budget.is_measured_for(task.name) or (is_quality and recipe.speech is None):
            what = f"{name}: is not measured for all parts together"
            yield Problem(where, what, "write it in a part's recipe, if it is for one")
        elif is_quality and recipe.data.evaluation is None:
            what = f"{name}: there are no data to measure it on"
            yield Problem(where, what, "add data: {evaluation: {path: ...}}")


def _unfit_speech(recipe: PartsRecipe, document: Document) -> Iterator[Problem]:
    if recipe.speech is None:
        if recipe.data.evaluation is not None:
            what = "data: only speech is judged as a whole"
            yield Problem(document.place(("data",), key=True), what, "write it in a part's recipe")
        return
    if {*recipe.parts} != {"encoder", "decoder"}:
        what = f"speech: needs the parts encoder and decoder, not {', '.join(recipe.parts)}"
        yield Problem(document.place((KEY,), key=True), what, "name them so")
    file = document.path.parent / recipe.speech.tokenizer / TOKENIZER_FILE
    if not file.is_file():
        where = document.place(("speech", "tokenizer"))
        yield Problem(where, f"speech.tokenizer: {file} does not exist", "name its directory")
