"""What each tensor may become in a file format, and what that takes in the file.

Only number formats that the format's runtime has fast kernels for. Which of them a tensor can have
is asked of the very rules that a build follows, so nothing is offered that a build would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.file_format import TensorPlan
from edgeq.formats.registry import file_format
from edgeq.models.model import DescribedModel
from edgeq.pipeline.plan.coreml import compute_of
from edgeq.pipeline.plan.tensors import planned_tensors
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats.floats import FLOAT16, FLOAT32
from edgeq.quantize.number_formats.integers import INT4_B32, INT8, INT8_B32
from edgeq.quantize.number_formats.kquants import TYPE_OF
from edgeq.quantize.number_formats.palettes import PALETTE4, PALETTE6
from edgeq.quantize.presets import Format, Method, Variant, Weights
from edgeq.quantize.spec import Intent
from edgeq.recipe.schema import Recipe

# llama.cpp's K-quants; where rows do not divide into their blocks, its legacy types stand in for
# them. Code books (IQ…) are several times slower on CPUs and have no codes of ours.
_GGUF = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
_ONNX = (INT4_B32.name, INT8_B32.name, FLOAT32.name)
# Blocks of codes in int4 came with iOS 18; before there are palettes of whole tensors.
_COREML = (INT4_B32.name, INT8.name, FLOAT16.name)
_COREML_OLD = (PALETTE4.name, PALETTE6.name, INT8.name, FLOAT16.name)
# What a file is called as a whole, by the type that holds most of it.
_MIX_OF: dict[str, Weights] = {
    **{"Q2_K": "Q2_K", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q6_K": "Q6_K"},
    **{"Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0", "Q5_1": "Q5_1"},
}
GGUF_ALIGNMENT = 32


@dataclass(frozen=True)
class Option:
    """One way to store a tensor. use: the word for it. grid, method: what its codes are.

    bytes: what it takes in the file, with what is filled up behind it. kernel: options that have
    the same let the runtime round what the tensor multiplies in the same way; empty where it is
    not rounded.
    """

    use: str
    grid: str
    method: str
    bytes: int
    kernel: str


Options = Mapping[str, tuple[Option, ...]]
"""By tensor, from the smallest to the largest; tensors without a choice are not there."""


def words(format: Format, recipe: Recipe) -> tuple[str, ...]:
    """What tensors may become in `format`, from the smallest to the largest."""
    if format == "gguf":
        return _GGUF
    if format == "onnx":
        return _ONNX
    is_old = recipe.coreml.deployment_target in ("iOS16", "iOS17")
    return _COREML_OLD if is_old else _COREML


def intent_of(
    recipe: Recipe, format: Format, name: str, chosen: Mapping[str, str], method: Method = GPTQ.name
) -> Intent:
    """An artifact in which tensors are as `chosen` says, and the rest as rules and format do."""
    used: dict[str, int] = {}
    for use in chosen.values():
        used[use] = used.get(use, 0) + 1
    most = max(used, key=lambda use: used[use], default="Q4_K")
    weights: Weights = _MIX_OF[most] if format == "gguf" else INT8_B32.name
    if format == "coreml":
        weights = FLOAT16.name
    rules = [rule for rule in recipe.quantize.rules if rule.covers(name)]
    if set(used) == {"float32"} and all(rule.use == "float32" for rule in rules):
        weights, method = FLOAT32.name, NEAREST.name  # a budget above the whole model's size
    variant = Variant(name=name, weights=weights, activations="float32", method=method, ranges=None)
    return Intent(variant, format, recipe.model.task, recipe.quantize.rules, dict(chosen))


def find_options(
    model: DescribedModel, recipe: Recipe, format: Format
) -> dict[str, tuple[Option, ...]]:
    """What every tensor of `model` may become in `format`, rules left aside.

    Raises InvalidInput where no tensor has a choice.
    """
    found: dict[str, dict[str, Option]] = {}
    for word in words(format, recipe):
        everywhere = intent_of(recipe, format, "fit", dict.fromkeys(model.tensors, word))
        for tensor in _planned(model, recipe, everywhere):
            if len(tensor.shape) == 2 and (tensor.method != "none" or tensor.grid == word):
                option = Option(
                    _use(format, tensor, word),
                    tensor.grid,
                    tensor.method,
                    _size(format, tensor),
                    _kernel(format, tensor),
                )
                found.setdefault(tensor.name, {}).setdefault(option.use, option)
    options = {
        name: tuple(sorted(own.values(), key=lambda option: option.bytes))
        for name, own in found.items()
        if any(option.method != "none" for option in own.values())
    }
    if not options:
        what = f"no tensor of the model has a choice in {format}"
        raise InvalidInput(Problem("quantize.fit", what, "write a preset: quantize.default"))
    return options


def allowed(options: Options, recipe: Recipe, format: Format, fit: FitSpec) -> Options:
    """What rules of the recipe leave of `options`; a tensor with a rule of its own is not free."""
    bare = intent_of(recipe, format, fit.variant_name, {})
    return {name: own for name, own in options.items() if bare.exception(name) is None}


def settled(options: Options, recipe: Recipe, format: Format, fit: FitSpec) -> Options:
    """The one option of each tensor that a rule of the recipe has chosen."""
    bare = intent_of(recipe, format, fit.variant_name, {})
    found = {}
    for name, own in options.items():
        ruled = bare.exception(name)
        chosen = [option for option in own if ruled and ruled[1] in (option.use, option.grid)]
        if chosen:
            found[name] = tuple(chosen[:1])
    return found


def _planned(model: DescribedModel, recipe: Recipe, intent: Intent) -> list[TensorPlan]:
    return list(planned_tensors(model, intent, compute_of(intent.variant, recipe.coreml)))


def _use(format: Format, tensor: TensorPlan, word: str) -> str:
    """The type that a tensor really gets: its rows may not divide into the blocks of the word's."""
    if format != "gguf":
        return word
    return TYPE_OF.get(tensor.grid, tensor.grid)


def _kernel(format: Format, tensor: TensorPlan) -> str:
    """llama.cpp rounds the inputs of K-quants in blocks of 256, those of other types in 32.

    (ggml-cpu.c, `type_traits_cpu`: `vec_dot_type`.) onnxruntime has one way for all codes. Core
    ML's stand-in off a Mac rounds nothing that the float graph does not.
    """
    if format == "coreml" or tensor.method == "none":
        return ""
    if format == "onnx":
        return "inputs"
    return "inputs-256" if _use(format, tensor, "").endswith("_K") else "inputs-32"


def _size(format: Format, tensor: TensorPlan) -> int:
    return file_format(format).stored(tensor.bytes)
