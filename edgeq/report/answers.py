"""What a model answered, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from rich.table import Table

from edgeq.core.units import format_seconds, format_speed
from edgeq.pipeline.run import Answer, Written
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table


def print_similarity(answer: Answer, console: Console) -> None:
    """The other sentences, the nearest to the first on top, and what embedding took."""
    count, width = answer.embeddings.shape
    if count > 1:
        console.print(Text(answer.texts[0], style="bold"))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
        table.add_column("cosine", justify="right", no_wrap=True)
        table.add_column("nearest first", overflow="fold")
        for text, likeness in answer.ranked():
            table.add_row(f"{likeness:.4f}", Text(text))
        print_table(table, console)
    took = format_seconds(answer.seconds / count)
    words = f"{answer.artifact}: {width} values a sentence, {took} a sentence ({_seen(answer)})"
    console.print(Text(words, style="dim"))


def _seen(result: Answer | Written) -> str:
    """How times came about; those of a stand-in are not of the runtime that an app has."""
    return f"measured here, by {result.runtime}" if result.is_reference else "measured here"


def print_pace(written: Written, console: Console) -> None:
    """What writing took: the prompt apart from the tokens behind it."""
    if written.first_seconds is None:
        console.print(f"{written.artifact}: the text ends with the prompt", style="dim")
        return
    pace = f"{written.prompt_tokens} tokens of prompt"
    reading = written.prompt_tokens_per_second
    pace += f" at {format_speed(reading)}" if reading is not None else ""
    pace += f", first token after {format_seconds(written.first_seconds)}"
    speed = written.tokens_per_second
    if speed is not None:  # the first token came with the prompt, and is not in it
        pace += f", {len(written.token_seconds)} more at {format_speed(speed)}"
    console.print(f"{written.artifact}: {pace} ({_seen(written)})", style="dim", soft_wrap=True)


def print_outputs(
    outputs: Mapping[str, npt.NDArray[Any]], out: Path | None, console: Console
) -> None:
    """Name, type and shape of each output, its first values, and where it was written."""
    for name, array in outputs.items():
        shape = " × ".join(map(str, array.shape))
        values = ", ".join(f"{value:.6g}" for value in array.reshape(-1)[:8])
        more = ", …" if array.size > 8 else ""
        console.print(f"{name}: {array.dtype} {shape}: {values}{more}")
    if out is not None:
        console.print(f"written to {out}", soft_wrap=True)
