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
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.presets import Method, Variant, Weights
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format
from edgeq.recipe.schema import Recipe


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
    return file_format(format).tensor_words(recipe.coreml.deployment_target)


def intent_of(
    recipe: Recipe, format: Format, name: str, chosen: Mapping[str, str], method: Method = GPTQ.name
) -> Intent:
    """An artifact in which tensors are as `chosen` says, and the rest as rules and format do."""
    used: dict[str, int] = {}
    for use in chosen.values():
        used[use] = used.get(use, 0) + 1
    most = max(used, key=lambda use: used[use], default="Q4_K")
    weights: Weights = file_format(format).weights_word(most)
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
                    file_format(format).stored_word(tensor.grid, word),
                    tensor.grid,
                    tensor.method,
                    _size(format, tensor),
                    ""
                    if tensor.method == "none"
                    else file_format(format).input_rounding(tensor.grid),
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


def _size(format: Format, tensor: TensorPlan) -> int:
    return file_format(format).stored(tensor.bytes)
