"""Print an audit in a terminal: tables of at most 80 columns, then the findings."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.table import Table

from edgeq.core.units import format_bytes
from edgeq.pipeline.audit.records import Audit, Outcome, TensorLine
from edgeq.report.console import Console, Text
from edgeq.report.layers import kind_of, layers_of
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_LISTED = 5  # findings listed per subject


def print_audit(found: Audit, console: Console) -> None:
    """Print the verdict, the file's contents, the checks and the findings."""
    style = "green" if found.sound else "bold red"
    console.print(Text(found.path, style="bold"), soft_wrap=True)
    print_wrapped(found.verdict, style, console)
    console.print()
    claim = found.claim
    console.print(
        f"{found.architecture or 'unknown architecture'}, {found.parameters / 1e6:,.1f} M weights, "
        f"{format_bytes(found.bytes)}, {claim.bits_per_weight:.2f} bits per weight"
    )
    console.print(
        f"claims: {claim.in_name or 'nothing'} by its name, "
        f"{claim.recorded or 'nothing'} by its record"
    )
    console.print()
    print_table(_tensors(found.tensors), console)
    console.print()
    print_table(_checks(found), console)
    for matters, heading, colour in (
        (True, "What matters", "red"),
        (False, "Worth knowing", "yellow"),
    ):
        chosen = [finding for finding in found.findings if finding.matters is matters]
        if chosen:
            console.print()
            console.print(Text(heading, style=colour))
        for subject in dict.fromkeys(finding.subject for finding in chosen):
            said = [finding.what for finding in chosen if finding.subject == subject]
            for what in said[:_LISTED]:
                print_wrapped(f"{subject}: {what}", "", console)
            if len(said) > _LISTED:
                more = f"{subject}: {len(said) - _LISTED} more; --json has them all"
                print_wrapped(more, "dim", console)


def _tensors(lines: Iterable[TensorLine]) -> Table:
    """Group tensors by kind: names without layer numbers, type, and what was claimed."""
    groups: dict[tuple[str, str, str], list[TensorLine]] = {}
    for line in lines:
        kind = kind_of(line.name)
        claimed = line.claimed_type if line.claimed_type != line.type else None
        groups.setdefault((kind, line.type, claimed or ""), []).append(line)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("tensors", overflow="fold")
    table.add_column("layers", overflow="fold")
    table.add_column("type", no_wrap=True)
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    if any(claimed for *_, claimed in groups):
        table.add_column("claimed", no_wrap=True)
    for (kind, name, claimed), members in groups.items():
        size = sum(member.bytes for member in members)
        bits = 8 * size / sum(math.prod(member.shape) for member in members)
        tensors = kind if len(members) > 1 else members[0].name
        layers = layers_of([member.name for member in members])
        row = [tensors, layers, name, f"{bits:.2f}", format_bytes(size)]
        table.add_row(*row, *([claimed] if len(table.columns) > 5 else []))
    return table


def _checks(found: Audit) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, outcome in (
        ("runs in llama.cpp", found.loading),
        ("layers and widths", found.structure),
        ("tokenizer", found.tokenizer),
        ("chat template", found.chat_template),
    ):
        table.add_row(name, _word(outcome), Text(outcome.detail))
    kl = found.quality
    if kl is None:
        reason = Text(found.quality_not_run or "")  # "pip install .[build]" is not markup
        table.add_row("KL from reference", Text("not run", style="dim"), reason)
        return table
    detail = (
        f"mean {kl.kl.mean:.3g} ± {kl.kl.mean_se:.2g} nats, 99 % {kl.kl.p99:.3g}, same top token "
        f"{kl.same_top1:.2%}, perplexity × {kl.perplexity.ratio:.4f}, noise floor "
        f"{max(kl.noise_floor, kl.candidate_noise_floor):.1g}; {kl.tokens} tokens of {kl.text}"
    )
    table.add_row("KL from reference", "measured", Text(detail))
    return table


def _word(outcome: Outcome) -> Text:
    if outcome.passed is None:
        return Text("not run", style="dim")
    return Text("good", style="green") if outcome.passed else Text("bad", style="red")
