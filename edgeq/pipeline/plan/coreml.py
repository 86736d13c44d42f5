"""Core ML in a plan: the release that packages need, and devices that lack it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edgeq.core.errors import Problem
from edgeq.core.tasks import task_of
from edgeq.core.yamlfile import Document
from edgeq.devices.profile import Device
from edgeq.formats.coreml.deployment_targets import (
    CODED_INPUTS,
    IOS16,
    SEVERAL_SHAPES,
    STATES,
    TARGETS,
    Target,
    needs_os,
)
from edgeq.formats.file_format import TensorPlan
from edgeq.formats.registry import file_format
from edgeq.pipeline.plan.releases import runs_on
from edgeq.quantize.number_formats.floats import FLOAT16, FLOAT32
from edgeq.quantize.presets import Variant
from edgeq.quantize.spec import Intent
from edgeq.recipe.schema import Compute, CoremlSpec, Recipe

DEFAULT_LENGTH = 128
"""Tokens of one run of an encoder if the recipe does not say how many."""


def compute_of(recipe: Recipe, intent: Intent) -> Compute:
    """The type that the operators of an artifact compute in, by its format's settings."""
    computes: dict[str, Compute] = {FLOAT32.name: "float32", FLOAT16.name: "float16"}
    section = file_format(intent.format).section
    asked: Compute = getattr(recipe, section).compute if section else "float32"
    return computes.get(intent.variant.weights, asked)


def lengths_of(spec: CoremlSpec, longest: int) -> tuple[int, ...]:
    """The token counts that one run of an encoder can have, ascending; none above `longest`."""
    asked = spec.lengths or (DEFAULT_LENGTH,)
    return tuple(sorted({min(length, longest) for length in asked}))


def activations_advice(variant: Variant) -> str | None:
    """Advice on a package with quantized activations; None for others."""
    if variant.activations == "float32":
        return None
    return (
        "INT8 activations pay off on the Neural Engine of A17 Pro, M4 and later; elsewhere they "
        "can be slower than float. edgeq takes their ranges from the calibration data: "
        "coremltools can do so on macOS only"
    )


def needed_target(
    number_formats: Iterable[str],
    *,
    has_coded_inputs: bool = False,
    has_states: bool = False,
    has_several_shapes: bool = False,
) -> tuple[Target, str]:
    """The oldest release that can run a package, and the feature that requires it."""
    needs = {number_format: needs_os(number_format) for number_format in sorted(number_formats)}
    if has_coded_inputs:
        needs["8-bit activations"] = CODED_INPUTS
    if has_states:
        needs["a stateful KV cache"] = STATES
    if has_several_shapes:
        needs["inputs of more than one length"] = SEVERAL_SHAPES
    what = max(needs, key=lambda each: needs[each], default="")
    return (needs[what], what) if what else (IOS16, "")


def target_of(recipe: Recipe, tensors: Iterable[TensorPlan]) -> tuple[Target, Target, str]:
    """The release a package is made for, the one it needs, and the feature that requires it."""
    planned = tuple(tensors)
    needed, what = needed_target(
        {tensor.number_format for tensor in planned},
        has_coded_inputs=any(tensor.activations != "float32" for tensor in planned),
        has_states=task_of(recipe.model.task).generates,
        has_several_shapes=len(recipe.coreml.lengths or ()) > 1
        or sum(len(shapes) > 1 for shapes in recipe.coreml.inputs.values()) > 1,
    )
    asked = recipe.coreml.deployment_target
    return (TARGETS[asked] if asked else needed), needed, what


def too_old(
    recipe: Recipe,
    document: Document,
    artifacts: Mapping[str, tuple[TensorPlan, ...]],
    devices: Mapping[str, Device],
) -> Iterator[Problem]:
    """Problems with releases that are too old: the one asked for, and those of Core ML devices.

    artifacts: the weights of every Core ML artifact, by its name.
    """
    for name, tensors in artifacts.items():
        target, needed, what = target_of(recipe, tensors)
        if target < needed:
            location = ("coreml", "deployment_target")
            said = (
                f"coreml.deployment_target: {target.name} does not support {what}, which {name} has"
            )
            remedy = f"write 'deployment_target: {needed.name}', or {_others(recipe, target)}"
            yield Problem(document.place(location), said, remedy)
            continue
        for index, asked in enumerate(recipe.targets):
            for position, id in enumerate(asked.devices):
                device = devices.get(id)
                if (
                    not file_format(asked.format).has_releases
                    or device is None
                    or runs_on(device, target)
                ):
                    continue
                where = document.place(("targets", index, "devices", position))
                reason = f", for {what}" if target == needed and what else ""
                said = f"{id} has {device.os} {device.os_version}, {name} needs {target}{reason}"
                yield Problem(where, said, f"remove the device, or {_others(recipe, IOS16)}")


def _others(recipe: Recipe, target: Target) -> str:
    if task_of(recipe.model.task).generates:
        return "use another format: Core ML supports a language model's cache since iOS 18"
    words = [word for word in ("int8", "palette4", "palette6") if needs_os(word) <= target]
    return f"quantize to {', '.join(words)}, which {target} supports, and use one length"
