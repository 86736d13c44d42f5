"""Options for each tensor in a file format, and their sizes.

Only number formats with fast kernels in the format's runtime. The rules of a build decide which of
them a tensor can have, so every option can be built.
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
from edgeq.quantize.ggml.types import TYPES
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.presets import Method, Variant, Weights
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format
from edgeq.recipe.schema import Recipe


@dataclass(frozen=True)
class Option:
    """One way to store a tensor. use: its name in recipes. number_format, method: of its codes.

    bytes: in the file, including padding. kernel: options with the same kernel have their inputs
    rounded equally by the runtime; empty if inputs are not rounded.
    """

    use: str
    number_format: str
    method: str
    bytes: int
    kernel: str


Options = Mapping[str, tuple[Option, ...]]
"""Options by tensor, smallest first; tensors without a choice are left out."""


def words(format: Format, recipe: Recipe) -> tuple[str, ...]:
    """Formats that tensors may have in `format`, smallest first."""
    return file_format(format).tensor_words(recipe.coreml.deployment_target)


def intent_of(
    recipe: Recipe, format: Format, name: str, chosen: Mapping[str, str], method: Method = GPTQ.name
) -> Intent:
    """An artifact in which tensors are as in `chosen`, and the rest as rules and format decide."""
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
    """Options for every tensor of `model` in `format`, ignoring rules.

    Raises InvalidInput if no tensor has a choice, and for experts that share a tensor in the file.
    """
    own = file_format(format)
    if own.has_mixes and model.decoder is not None and model.decoder.experts:
        what = f"a fit decides for each expert, and {own.title} stores a layer's in one tensor"
        remedy = "fit the file: edgeq quantize IN.gguf OUT.gguf --size SIZE --text TEXT"
        raise InvalidInput(Problem("quantize.fit", what, remedy))
    found: dict[str, dict[str, Option]] = {}
    is_file = model.unread is not None
    axes = (2, 3) if is_file else (2,)  # experts of a layer lie in one tensor of a file
    for word in words(format, recipe):
        for tensor in _all_in(word, model, recipe, format):
            if len(tensor.shape) in axes:
                _add(found, tensor, word, format)
    for tensor in _all_in(FLOAT32.name, model, recipe, format) if is_file else ():
        if tensor.name in found and TYPES[tensor.number_format].block > 1:
            _add(found, tensor, tensor.number_format, format)  # as it is in the file
    computed = {name for name, own in found.items() if _is_choice(own)}
    for word in file_format(format).expanded_words():
        for tensor in _all_in(word, model, recipe, format):
            if tensor.name not in computed:
                _add(found, tensor, word, format)
    options = {
        name: tuple(sorted(own.values(), key=lambda option: option.bytes))
        for name, own in found.items()
        if _is_choice(own)
    }
    if not options:
        what = f"no tensor of the model has a choice in {format}"
        raise InvalidInput(Problem("quantize.fit", what, "write a preset: quantize.default"))
    return options


def _all_in(word: str, model: DescribedModel, recipe: Recipe, format: Format) -> list[TensorPlan]:
    """The plan of a file whose tensors are in `word` as far as they can be."""
    intent = intent_of(recipe, format, "fit", dict.fromkeys(model.tensors, word))
    return list(planned_tensors(model, intent, compute_of(recipe, intent)))


def _add(
    found: dict[str, dict[str, Option]], tensor: TensorPlan, word: str, format: Format
) -> None:
    """Add to a tensor's options what it was planned as, if that is a choice."""
    if tensor.method == "none" and tensor.number_format != word:
        return
    own = file_format(format)
    rounded = "" if tensor.method == "none" else own.input_rounding(tensor.number_format)
    size = own.stored(tensor.bytes)
    use = own.stored_word(tensor.number_format, word)
    option = Option(use, tensor.number_format, tensor.method, size, rounded)
    found.setdefault(tensor.name, {}).setdefault(option.use, option)


def _is_choice(options: Mapping[str, Option]) -> bool:
    return any(option.method != "none" for option in options.values())


def allowed(options: Options, recipe: Recipe, format: Format, fit: FitSpec) -> Options:
    """`options` without tensors that have a rule of their own in the recipe."""
    bare = intent_of(recipe, format, fit.variant_name, {})
    return {name: own for name, own in options.items() if bare.exception(name) is None}


def settled(options: Options, recipe: Recipe, format: Format, fit: FitSpec) -> Options:
    """The single option of each tensor that a rule of the recipe decided."""
    bare = intent_of(recipe, format, fit.variant_name, {})
    found = {}
    for name, own in options.items():
        ruled = bare.exception(name)
        chosen = [
            option for option in own if ruled and ruled[1] in (option.use, option.number_format)
        ]
        if chosen:
            found[name] = tuple(chosen[:1])
    return found
