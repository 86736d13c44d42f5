"""Print a model's answers in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
from rich.table import Table

from edgeq.core.units import format_seconds, format_speed
from edgeq.pipeline.run import (
    Answer,
    Answered,
    Boxed,
    Labelled,
    Reranked,
    Tagged,
    Transcribed,
    Written,
)
from edgeq.report.console import Console, Text
from edgeq.report.tables import print_table


def print_answer(answer: Answered, console: Console) -> None:
    """Print what a model makes of texts, images or recordings, and the time for one of them."""
    if isinstance(answer, Labelled):
        print_labels(answer, console)
    elif isinstance(answer, Tagged):
        print_tags(answer, console)
    elif isinstance(answer, Transcribed):
        print_texts(answer, console)
    elif isinstance(answer, Boxed):
        print_boxes(answer, console)
    elif isinstance(answer, Reranked):
        print_ranking(answer, console)
    else:
        print_similarity(answer, console)


def print_similarity(answer: Answer, console: Console) -> None:
    """Print the other sentences by similarity to the first, and the time to embed one."""
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
    words = f"{answer.artifact}: {width} values per sentence, {took} per sentence ({_seen(answer)})"
    console.print(Text(words, style="dim"))


def print_labels(labelled: Labelled, console: Console) -> None:
    """Print the labels of each sample with their probability, and the time to classify one."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("label", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column(labelled.noun, overflow="fold")
    for text, answer in zip(labelled.texts, labelled.answers, strict=True):
        chances = [f"{answer.probabilities[label]:.4f}" for label in answer.labels]
        table.add_row(Text("\n".join(answer.labels) or "none"), "\n".join(chances), Text(text))
    print_table(table, console)
    took = format_seconds(labelled.seconds / len(labelled.texts))
    words = f"{labelled.artifact}: {took} per {labelled.noun} ({_seen(labelled)})"
    console.print(Text(words, style="dim"))


def print_tags(tagged: Tagged, console: Console) -> None:
    """Print each text with its labelled parts, and the time to tag one."""
    for text, parts in zip(tagged.texts, tagged.answers, strict=True):
        console.print(Text(text, style="bold"))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
        table.add_column("label", overflow="fold")
        table.add_column("probability", justify="right", no_wrap=True)
        table.add_column("part", overflow="fold")
        for part in parts:
            table.add_row(Text(part.label), f"{part.score:.4f}", Text(part.text))
        if parts:
            print_table(table, console)
        else:
            console.print("no labelled part")
    took = format_seconds(tagged.seconds / len(tagged.texts))
    console.print(Text(f"{tagged.artifact}: {took} per text ({_seen(tagged)})", style="dim"))


def print_boxes(boxed: Boxed, console: Console) -> None:
    """Print the objects in each image, and the time to look at one."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("label", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("left, top, right, bottom", justify="right", no_wrap=True)
    table.add_column("image", overflow="fold")
    for image, found in zip(boxed.images, boxed.answers, strict=True):
        for each in found:
            box = ", ".join(f"{side:.0f}" for side in each.box)
            table.add_row(Text(each.label), f"{each.score:.4f}", box, Text(image))
        if not found:
            table.add_row("nothing", "", "", Text(image))
    print_table(table, console)
    took = format_seconds(boxed.seconds / len(boxed.images))
    console.print(Text(f"{boxed.artifact}: {took} per image ({_seen(boxed)})", style="dim"))


def print_texts(transcribed: Transcribed, console: Console) -> None:
    """Print what is said in each recording, and the time to write one down."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("recording", overflow="fold")
    table.add_column("text", overflow="fold")
    for name, text in zip(transcribed.recordings, transcribed.texts, strict=True):
        table.add_row(Text(name), Text(text))
    print_table(table, console)
    took = format_seconds(transcribed.seconds / len(transcribed.recordings))
    words = f"{transcribed.artifact}: {took} per recording ({_seen(transcribed)})"
    console.print(Text(words, style="dim"))


def print_ranking(reranked: Reranked, console: Console) -> None:
    """Print the texts, the best first, and the time to score one."""
    console.print(Text(reranked.query, style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("best first", overflow="fold")
    for each in reranked.ranked:
        table.add_row(f"{each.score:.4f}", Text(each.text))
    print_table(table, console)
    took = format_seconds(reranked.seconds / len(reranked.ranked))
    words = f"{reranked.artifact}: {took} per text ({_seen(reranked)})"
    console.print(Text(words, style="dim"))


def _seen(
    result: Answer | Labelled | Tagged | Boxed | Transcribed | Reranked | Written,
) -> str:
    """Name the runtime if it is a reference, whose times differ from an app's runtime."""
    return f"measured here, by {result.runtime}" if result.is_reference else "measured here"


def print_pace(written: Written, console: Console) -> None:
    """Print the time to read the prompt, and the time of the generated tokens."""
    if written.first_seconds is None:
        console.print(f"{written.artifact}: no tokens were generated", style="dim")
        return
    pace = f"{written.prompt_tokens} prompt tokens"
    reading = written.prompt_tokens_per_second
    pace += f" at {format_speed(reading)}" if reading is not None else ""
    pace += f", first token after {format_seconds(written.first_seconds)}"
    speed = written.tokens_per_second
    if speed is not None:  # the first token came with the prompt and is not counted
        pace += f", {len(written.token_seconds)} more at {format_speed(speed)}"
    console.print(f"{written.artifact}: {pace} ({_seen(written)})", style="dim", soft_wrap=True)


def print_outputs(
    outputs: Mapping[str, npt.NDArray[Any]], out: Path | None, console: Console
) -> None:
    """Print the name, type, shape and first values of each output, and where they were written."""
    for name, array in outputs.items():
        shape = " × ".join(map(str, array.shape))
        values = ", ".join(f"{value:.6g}" for value in array.reshape(-1)[:8])
        more = ", …" if array.size > 8 else ""
        console.print(f"{name}: {array.dtype} {shape}: {values}{more}")
    if out is not None:
        console.print(f"written to {out}", soft_wrap=True)
