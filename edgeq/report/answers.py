"""What a model answered, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from edgeq.runners.session import Answer, Written
from edgeq.units import format_seconds, format_speed


def print_similarity(answer: Answer, console: Console) -> None:
    """Every sentence with its nearest other one, and what it took."""
    count, width = answer.embeddings.shape
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("sentence", overflow="fold", ratio=1)
    if count > 1:
        table.add_column("nearest other", overflow="fold", ratio=1)
        table.add_column("cosine", justify="right", no_wrap=True)
    similarity = answer.similarity()
    for index, text in enumerate(answer.texts):
        others = similarity[index].copy()
        others[index] = -np.inf
        nearest = int(others.argmax())
        found = [answer.texts[nearest], f"{others[nearest]:.4f}"] if count > 1 else []
        table.add_row(text, *found)
    console.print(table)
    took = format_seconds(answer.seconds / count)
    console.print(
        f"{answer.artifact}: {width} values a sentence, {took} a sentence ({_seen(answer)})",
        style="dim",
    )


def _seen(result: Answer | Written) -> str:
    """How times came about; those of a stand-in are not of the runtime that an app has."""
    return f"measured here, by {result.runtime}" if result.is_reference else "measured here"


def print_pace(written: Written, console: Console) -> None:
    """What writing took: the prompt apart from the tokens behind it."""
    if written.first_seconds is None:
        console.print(f"{written.artifact}: the text ends with the prompt", style="dim")
        return
    pace = f"{written.prompt_tokens} tokens read in {format_seconds(written.first_seconds)}"
    pace += f", {written.tokens} written"
    speed = written.tokens_per_second
    if speed is not None:  # the first token came with the prompt, and is not in it
        pace += f", at {format_speed(speed)} behind the first"
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
