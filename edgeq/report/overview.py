"""Print plans, artifacts and devices: tables of at most 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from edgeq.core.artifact import Artifact
from edgeq.core.units import format_bytes
from edgeq.devices.catalogue import Device
from edgeq.formats.bundle import LimitLine
from edgeq.formats.file_format import TensorPlan
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.plan.records import ArtifactPlan, Plan
from edgeq.pipeline.quantize_gguf import FittedFile
from edgeq.quantize.decide import ALREADY, TOO_SMALL
from edgeq.report.console import Console, Text
from edgeq.report.layers import kind_of, layers_of
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_SHORT_REASON = 12  # letters that leave the other columns of a table their room


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def print_plan(plan: Plan, devices: Sequence[Device], console: Console) -> None:
    """Print what a build would make, by groups of tensors, and where it would run."""
    revision = f" {plan.revision}" if plan.revision else ""
    licence = plan.licence or "licence unknown"
    console.print(Text.assemble((plan.recipe, "bold"), f": {plan.source}{revision}, {licence}"))
    for artifact in plan.artifacts:
        console.print()
        _print_artifact(artifact, console)
        if plan.size_budget is not None and artifact.download_bytes > plan.size_budget:
            console.print(f"  {_over(artifact, plan.size_budget)} (estimated)", style="red")
    console.print()
    table = _table("device", "one app may use", "basis", "system", right=["one app may use"])
    for device in devices:
        limit = device.app_limit()
        table.add_row(device.id, format_bytes(limit.bytes), limit.basis, limit.os)
    print_table(table, console)
    console.print()
    print_wrapped(f"reference: {plan.reference}", "", console)
    if plan.missing_packages:
        console.print(
            f"\nto build, install {', '.join(plan.missing_packages)}: "
            f'pip install ".[{",".join(plan.extras)}]"',
            style="yellow",
        )


def _over(artifact: ArtifactPlan, budget: int) -> str:
    over = format_bytes(artifact.download_bytes - budget)
    is_open = artifact.smallest_bytes is not None and artifact.smallest_bytes <= budget
    return f"up to {over} over size.download" if is_open else f"over size.download by {over}"


def _size(artifact: ArtifactPlan) -> str:
    """Format the download size; for a pending budget, the range from smallest to largest."""
    most = format_bytes(artifact.download_bytes)
    if artifact.smallest_bytes is None:
        return most
    least = format_bytes(artifact.smallest_bytes)
    return most if least == most else f"{least} to {most}"


def _cache(artifact: ArtifactPlan) -> str:
    if artifact.cache_bytes is None:
        return ""
    return f", {format_bytes(artifact.cache_bytes)} for the KV cache in {artifact.kv}"


def _print_artifact(artifact: ArtifactPlan, console: Console) -> None:
    name = (artifact.name, "bold")
    if artifact.pending and artifact.smallest_bytes is None:
        console.print(Text.assemble(name, f": {artifact.pending}"))
        return
    takes = f"{_size(artifact)} to download{_cache(artifact)} (estimated)"
    console.print(Text.assemble(name, f": {takes}"))
    if artifact.pending:
        for line in (artifact.pending, *artifact.advice):
            print_wrapped(line, "dim", console)
        return
    if artifact.deployment_target is not None:
        console.print(f"  for {artifact.deployment_target} and later")
    table = _table("tensors", "layers", "number format", "size", "why", right=["size"])
    notes = _Notes()
    groups: dict[tuple[str, str, str], list[TensorPlan]] = {}
    small: dict[str, int] = {}
    for tensor in artifact.tensors:
        if tensor.reason == TOO_SMALL or len(tensor.shape) < 2:
            small[tensor.number_format] = small.get(tensor.number_format, 0) + tensor.bytes
            continue
        pattern = kind_of(tensor.name)
        number_format = (
            tensor.number_format
            if tensor.method == "none"
            else f"{tensor.number_format} {tensor.method}"
        )
        groups.setdefault((pattern, number_format, tensor.reason), []).append(tensor)
    for (pattern, number_format, reason), own in groups.items():
        tensors = pattern if len(own) > 1 else own[0].name
        layers = layers_of([tensor.name for tensor in own])
        why = notes.short(reason)
        size = format_bytes(sum(tensor.bytes for tensor in own))
        table.add_row(tensors, layers, number_format, size, why)
    for number_format, bytes in small.items():
        table.add_row(
            "biases, norms and other small ones", "", number_format, format_bytes(bytes), ""
        )
    print_table(table, console)
    for line in (*notes.lines(), *artifact.advice):
        print_wrapped(line, "dim", console)


class _Notes:
    """Reasons that would fill a column of a table: a number there, and the text once below."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def short(self, reason: str) -> str:
        """What the table says: nothing for the default, a rule's number, which the recipe has."""
        if reason == "default":
            return ""
        reason = re.sub(r"^(rule \d+):.*", r"\1", reason)
        if len(reason) <= _SHORT_REASON:
            return reason
        return f"see {self._numbers.setdefault(reason, len(self._numbers) + 1)}"

    def lines(self) -> list[str]:
        """The texts, each with its number."""
        return [f"{number}: {reason}" for reason, number in self._numbers.items()]


def print_built(built: Sequence[Built], console: Console) -> None:
    """Print the artifacts of a build and their directories."""
    table = _table("artifact", "size", "number formats", right=["size"])
    models = {item.artifact.model.sha256: item.artifact.model.name for item in built}
    for item in built:
        model = f"{models[item.artifact.model.sha256]}: " if len(models) > 1 else ""
        number_formats = ", ".join(
            f"{number_format} {format_bytes(size)}"
            for number_format, size in item.artifact.bytes_by_number_format().items()
        )
        name = f"{model}{item.artifact.name}"
        table.add_row(name, format_bytes(item.artifact.bytes), number_formats)
    print_table(table, console)
    notes = {
        note: None
        for item in built
        for note in (
            *item.artifact.settings.get("notes", ()),
            *(f"{item.artifact.name}: {each}" for each in item.notes),
            *_kept(item.artifact),
        )
    }
    for note in notes:
        print_wrapped(f"note: {note}", "yellow", console)
    for proof in dict.fromkeys(item.artifact.proof for item in built):
        if proof is not None:
            print_wrapped(str(proof), "yellow" if proof.difference is None else "dim", console)
    for item in built:
        console.print(str(item.path), style="dim", soft_wrap=True)


def _kept(artifact: Artifact) -> Iterator[str]:
    """Count weights that the recipe's variant left alone because the file already stores
    integers."""
    kept = sum(ALREADY in tensor.note for tensor in artifact.tensors.values())
    if kept:
        yield (
            f"{artifact.name}: {kept} of {len(artifact.tensors)} weights were quantized in the "
            "file already, and are kept as they are"
        )


def print_limits(limits: Sequence[LimitLine], console: Console) -> None:
    """Compare a bundle's size and memory with app store and device limits."""
    for line in limits:
        print_wrapped(line.text, "dim" if line.within else "yellow", console)


def print_devices(devices: Sequence[Device], console: Console) -> None:
    """Print one line per device."""
    table = _table("id", "chip", "RAM", "for one app", "basis", right=["RAM", "for one app"])
    for column in (0, 2, 3, 4):
        table.columns[column].no_wrap = True
    for device in devices:
        limit = device.app_limit()
        sizes = format_bytes(device.ram), format_bytes(limit.bytes)
        table.add_row(device.id, device.chip, *sizes, limit.basis)
    print_table(table, console)


def print_device(device: Device, console: Console) -> None:
    """Print every fact about one device with its source."""
    console.print(Text(device.name, style="bold"))
    facts = device.model_dump(mode="json", exclude={"id", "name", "sources"})
    for name, value in facts.items():
        if value in (None, [], {}):
            continue
        console.print(f"{name}: {_plain(value)}")
        for note in device.sources.get(name, ()):
            where = f" <{note.url}>" if note.url else ""
            print_wrapped(f"{note.text}{where}", "dim", console)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return "; ".join(_plain(item) for item in value)
    return str(value)


def print_fitted(fitted: FittedFile, console: Console) -> None:
    """Print the types that were chosen for a size, and what they cost."""
    types = ", ".join(f"{count} {name}" for name, count in fitted.types.items())
    console.print(f"tensors: {types}; rounded independently, by llama.cpp's quantizer")
    console.print(
        f"mean KL {fitted.kl:.3g} ± {fitted.kl_error:.2g} nats from the source, on "
        f"{fitted.tokens} held-out tokens (predicted: {fitted.predicted:.3g})"
    )


def print_quantized(source: Path, out: Path, console: Console) -> None:
    """Print the size of a file before and after quantization."""
    before, after = source.stat().st_size, out.stat().st_size
    sizes = f"{format_bytes(before)} to {format_bytes(after)}, {before / after:.2f} times smaller"
    console.print(f"{out}: {sizes}", soft_wrap=True)
