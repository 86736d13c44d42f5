"""A first recipe's text: the part before its budgets, and the budgets."""

from __future__ import annotations

import math
import os
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.core.tasks import FirstRecipe, Task
from edgeq.core.units import format_bytes
from edgeq.core.yamlfile import yaml_word
from edgeq.models.architectures import Decoder
from edgeq.models.source import Source
from edgeq.pipeline.check.expected import expected_everywhere
from edgeq.pipeline.first_interface import LABELS_FILE, Interface
from edgeq.pipeline.first_targets import Targets
from edgeq.pipeline.plan.plan import Planned

_MIB = 1 << 20
_LEAST_MEMORY = 128 * _MIB  # a process with a runtime and no model takes half


@dataclass(frozen=True)
class Need:
    """A data file that the recipe names. content: what has to be in it."""

    path: Path
    content: str


@dataclass(frozen=True)
class Draft:
    """The part of a recipe before its budgets.

    base: the directory of the recipe. quantize: the variants. interface: what it declares. instead:
    why these are not the usual variants, empty if they are.
    """

    name: str
    source: Source
    task: Task
    targets: Targets
    data: tuple[Need, Need]
    base: Path
    quantize: tuple[str, ...]
    interface: Interface | None = None
    instead: str = ""

    @property
    def first(self) -> FirstRecipe:
        assert self.task.first_recipe is not None
        return self.task.first_recipe

    @property
    def needs(self) -> tuple[Need, ...]:
        """Every file that the recipe names besides the model."""
        lacks = self.interface.lacks if self.interface else ""
        return (*([Need(self.base / LABELS_FILE, lacks)] if lacks else []), *self.data)


def recipe_text(draft: Draft, planned: Planned) -> str:
    calibration, evaluation = (
        yaml_word(Path(os.path.relpath(need.path, draft.base)).as_posix()) for need in draft.data
    )
    return "\n".join(
        [
            "# A first recipe: everything in it is yours to change. An editor completes and checks",
            '# it with the schema that "edgeq schema > recipe.schema.json" writes.',
            *model_lines(draft, planned.plan.licence, str(draft.source)),
            *(draft.interface.lines(draft.base) if draft.interface else ()),
            "",
            "# Quantization sees the first file only, and quality is judged on the second; they",
            "# must not share a sample.",
            *_comment(f"calibration: {draft.data[0].content}."),
            *_comment(f"evaluation: {draft.data[1].content}."),
            "data:",
            f"  calibration: {{path: {calibration}}}",
            f"  evaluation: {{path: {evaluation}}}",
            "",
            '# Each word becomes an artifact; "edgeq bundle" packs the best that is within budget.',
            *_comment(f"The usual are impossible: {draft.instead}." if draft.instead else ""),
            "quantize:",
            f"  default: [{', '.join(draft.quantize)}]",
            "",
            '# The file format, and the devices it must fit; "edgeq devices" lists them.',
            *target_lines(draft.targets),
            *workload_lines(draft, planned.model.decoder),
            "",
            *budget_lines(draft.first, [planned]),
            "",
        ]
    )


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 88, initial_indent="# ", subsequent_indent="# ")


def model_lines(draft: Draft, licence: str | None, source: str) -> list[str]:
    return [
        "edgeq: 1",
        f"name: {draft.name}",
        "",
        "# What is deployed. The bundle carries the licence: state it before you ship.",
        "model:",
        f"  source: {yaml_word(source)}",
        f"  task: {draft.task.name}",
        f"  licence: {yaml_word(licence)}" if licence else "  # licence: apache-2.0",
    ]


def target_lines(targets: Mapping[str, Sequence[str]]) -> list[str]:
    lines = ["targets:"]
    for format, devices in targets.items():
        lines += [f"  - format: {format}", f"    devices: [{', '.join(map(yaml_word, devices))}]"]
    return lines


def workload_lines(draft: Draft, decoder: Decoder | None) -> list[str]:
    if decoder is None:
        return []
    context = min(draft.first.context, decoder.context)
    prompt, answer = min(128, context // 2), min(64, context // 4)
    return [
        "",
        "# How many tokens a conversation may have, and what the user waits for.",
        f"workload: {{context: {context}, prompt: {prompt}, generate: {answer}}}",
    ]


def budget_lines(first: FirstRecipe, plans: Sequence[Planned]) -> list[str]:
    """Limits with room above what 8 bits of all models are estimated to take, within what a device
    allows."""
    download, memory = 0, Counter[str]()
    for planned in plans:
        download += max(artifact.download_bytes for artifact in planned.plan.artifacts)
        memory.update(
            {
                id: estimates.memory.peak.high
                for own in expected_everywhere(planned).values()
                for id, estimates in own.items()
            }
        )
    devices = [device for planned in plans for device in planned.devices.values()]
    allowed = min(device.app_limit().bytes for device in devices)
    lines = [f"# Estimated in 8 bits: a download of {format_bytes(download)}"]
    peak = _LEAST_MEMORY
    if memory:
        id = max(memory, key=lambda each: memory[each])
        lines[0] += f", and at most {format_bytes(memory[id])} of memory on {id}"
        peak = max(peak, _rounded_up(1.25 * memory[id]))
    return [
        f"{lines[0]}.",
        "# State what your app can spare; what misses a limit is not bundled.",
        "budgets:",
        f"  size: {{download: {math.ceil(1.1 * download / _MIB)} MiB}}",
        f"  memory: {{peak: {min(peak, allowed) // _MIB} MiB}}",
        *(f"  {budget}" for budget in first.budgets),
    ]


def _rounded_up(size: float) -> int:
    step = 32 * _MIB
    return math.ceil(size / step) * step
