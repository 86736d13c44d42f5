"""Print a comparison of two models: a table of at most 80 columns."""

from __future__ import annotations

from rich.table import Table

from edgeq.pipeline.compare.compare import Comparison, Side
from edgeq.pipeline.compare.encoders import EncoderComparison
from edgeq.pipeline.compare.side_by_side import SideBySide
from edgeq.report.console import Console, Text
from edgeq.report.side_by_side import print_side_by_side
from edgeq.report.tables import print_table
from edgeq.report.terminal import print_wrapped

_NOISE_FACTOR = 3
_FLOAT32_NATS = 1e-9  # below this, two runtimes of the same float32 model count as equal


def print_compared(found: Comparison | EncoderComparison | SideBySide, console: Console) -> None:
    """Print the result of `edgeq compare`."""
    if isinstance(found, SideBySide):
        print_side_by_side(found, console)
    elif isinstance(found, EncoderComparison):
        print_encoders(found, console)
    else:
        print_comparison(found, console)


def print_comparison(found: Comparison, console: Console) -> None:
    """Print what was compared, each figure with its standard error, and how to read it."""
    _print_sides(found.a, found.b, console)
    print_table(_table(found), console)
    used = (
        f"Measured on {found.tokens} tokens: the second halves of {found.windows} of the "
        f"{found.windows_in_text} windows of {found.window} tokens in {found.text}."
    )
    print_wrapped(used, "dim", console)
    if is_noise(found):
        what = "The mean KL is at the level of rounding noise; a smaller value would mean nothing."
        print_wrapped(what, "yellow", console)


def print_encoders(found: EncoderComparison, console: Console) -> None:
    """Print how similar the embeddings are, and which texts change their nearest neighbour."""
    _print_sides(found.a, found.b, console)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("", no_wrap=True)
    table.add_column("B compared with A", justify="right", no_wrap=True)
    table.add_column("± standard error", justify="right", no_wrap=True)
    error = f"{found.cosine_mean_se:.2g}"
    table.add_row("mean cosine of the embeddings", f"{found.cosine_mean:.5f}", error)
    table.add_row("    of the text that changed most", f"{found.cosine_min:.5f}", "")
    near = found.neighbours
    if near is not None:
        table.add_row("texts with a new nearest neighbour", f"{near.changed} of {near.texts}", "")
    print_table(table, console)
    print_wrapped(f"Measured on {found.texts} texts of {found.text}.", "dim", console)
    for change in near.changes if near is not None else ():
        console.print()
        print_wrapped(change.text, "bold", console)
        for letter, neighbour in (("A", change.was), ("B", change.now)):
            cosines = f"{neighbour.reference:.4f} in A, {neighbour.candidate:.4f} in B"
            print_wrapped(f"nearest in {letter}: {neighbour.text} ({cosines})", "", console)
    if near is not None and near.changed > len(near.changes) > 0:
        more = f"and {near.changed - len(near.changes)} more with a smaller loss"
        print_wrapped(more, "dim", console)


def _print_sides(a: Side, b: Side, console: Console) -> None:
    for name, side in (("A", a), ("B", b)):
        console.print(Text(f"{name}  {side.path}", style="bold"), soft_wrap=True)
        threads = f"{side.threads} thread{'' if side.threads == 1 else 's'}"
        console.print(Text(f"   {side.runtime}, {threads}", style="dim"), soft_wrap=True)
    console.print()


def is_noise(found: Comparison) -> bool:
    """Whether the mean KL is within three times the noise floor of either model."""
    floor = max(found.noise_floor, found.candidate_noise_floor)
    return found.kl.mean <= max(_NOISE_FACTOR * floor, _FLOAT32_NATS)


def _table(found: Comparison) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("", no_wrap=True)
    table.add_column("B compared with A", justify="right", no_wrap=True)
    table.add_column("± standard error", justify="right", no_wrap=True)
    kl, errors = found.kl, found.kl_se
    table.add_row("KL divergence, nats: mean", f"{kl.mean:.3g}", f"{kl.mean_se:.2g}")
    table.add_row("  noise floor of A, of B", _pair(found), "")
    for name, value, error in (
        ("median", kl.median, errors.median),
        ("90 %", kl.p90, errors.p90),
        ("95 %", kl.p95, errors.p95),
        ("99 %", kl.p99, errors.p99),
        ("99.9 %", kl.p999, errors.p999),
    ):
        table.add_row(f"  {name}", f"{value:.3g}", f"{error:.2g}")
    table.add_row("  largest", f"{kl.max:.3g}", "")
    same = (f"{found.same_top1:.2%}", f"{found.same_top1_se:.2%}")
    table.add_row("same most likely token", *same)
    dp = (f"{found.rms_dp:.2%}", f"{found.rms_dp_se:.2%}")
    table.add_row("RMS Δp of the next token", *dp)
    perplexity, errors_of = found.perplexity, found.perplexity_se
    table.add_row("perplexity of A", f"{perplexity.a:.5g}", f"{errors_of.a:.2g}")
    table.add_row("perplexity of B", f"{perplexity.b:.5g}", f"{errors_of.b:.2g}")
    table.add_row("  B / A", f"{perplexity.ratio:.5f}", f"{errors_of.ratio:.2g}")
    return table


def _pair(found: Comparison) -> str:
    return f"{found.noise_floor:.2g}, {found.candidate_noise_floor:.2g}"
