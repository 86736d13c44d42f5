"""Data sets of a recipe: texts, scored pairs of sentences, and arrays.

`.txt` has one text per line. `.tsv` (tab) and `.csv` (tab or comma) have a header with the columns
`sentence1`, `sentence2` and, for a task score, `score`; or `text` and, for the right label of each,
`label`. `.jsonl` has an object with a `text` in each line, see `edgeq.recipe.tagged_sets`. `.npz`
has one array for each input of the model, all with the same number of samples along the first axis.
A directory has images or recordings, see `edgeq.recipe.file_sets`.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem
from edgeq.recipe.array_sets import ARRAY_SUFFIXES, read_arrays
from edgeq.recipe.file_sets import KNOWLEDGE, DataFile, list_files
from edgeq.recipe.samples import chosen_rows, unknown_suffix
from edgeq.recipe.text_files import (
    PAIR,
    SINGLE,
    read_json_lines,
    read_lines,
    read_table,
    read_text,
    with_newlines,
)

TEXT_SUFFIXES = (".txt", ".tsv", ".csv")
PAIR_SUFFIXES = (".tsv", ".csv")
JSON_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences; `scores` are human similarity ratings, None if not given."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...] | None


def read_texts(path: Path, samples: int | None = None, seed: int = 0) -> list[str]:
    """The texts of a `.txt`, of a `.tsv` or `.csv`, or both sentences of every pair of one.

    `samples` of them, chosen by a hash that is the same on every machine, in the file's order.
    Raises InvalidInput for a file that does not exist, is empty, is not UTF-8 or has too few
    samples.
    """
    if path.suffix in PAIR_SUFFIXES:
        rows = read_table(path)
        names = PAIR if has_pairs(path) else SINGLE
        texts = [row[name] for row in rows for name in names]
    elif path.suffix == JSON_SUFFIX:
        texts = [_text_of(f"{path}:{line}", row) for line, row in read_json_lines(path)]
    elif path.suffix == ".txt":
        texts = [line.strip() for line in read_lines(path) if line.strip()]
    else:
        raise unknown_suffix(path, TEXT_SUFFIXES)
    return [texts[index] for index in chosen_rows(path, len(texts), samples, seed)]


def _text_of(where: str, row: Mapping[str, Any]) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(Problem(where, "has no text", 'write {"text": "…"}'))
    return text


def has_pairs(path: Path) -> bool:
    """Whether a `.tsv` or `.csv` holds pairs of sentences, and no single texts."""
    rows = read_table(path)
    return not rows or "text" not in rows[0]


def read_labels(path: Path, samples: int | None = None, seed: int = 0) -> tuple[str, ...] | None:
    """The right label of each text that `read_texts` gives; None where there are none."""
    rows = read_table(path) if path.suffix in PAIR_SUFFIXES else []
    if not rows or "text" not in rows[0] or "label" not in rows[0]:
        return None
    return tuple(rows[index]["label"] for index in chosen_rows(path, len(rows), samples, seed))


def read_corpus(path: Path) -> str:
    """The whole text of a `.txt`, for calibrating and judging language models.

    Raises InvalidInput for a file that does not exist, is empty or is not UTF-8.
    """
    if path.suffix != ".txt":
        raise unknown_suffix(path, (".txt",))
    text = with_newlines(read_text(path))
    if not text.strip():
        raise InvalidInput(Problem(str(path), "contains no text", "add some"))
    return text


def read_pairs(path: Path, samples: int | None = None, seed: int = 0) -> Pairs:
    """The pairs of a `.tsv` or `.csv`; `samples` of them, chosen as in `read_texts`.

    Raises InvalidInput as `read_texts` does, and for a score that is not a finite number.
    """
    if path.suffix not in PAIR_SUFFIXES:
        raise unknown_suffix(path, PAIR_SUFFIXES)
    rows = read_table(path)
    if not has_pairs(path):
        what = "holds single texts, and pairs of sentences are needed"
        remedy = "the first line must be: sentence1, sentence2, score, separated by tabs"
        raise InvalidInput(Problem(f"{path}:1", what, remedy))
    rows = [rows[index] for index in chosen_rows(path, len(rows), samples, seed)]
    has_scores = bool(rows) and "score" in rows[0]
    return Pairs(
        first=tuple(row["sentence1"] for row in rows),
        second=tuple(row["sentence2"] for row in rows),
        scores=tuple(float(row["score"]) for row in rows) if has_scores else None,
    )


def overlap(calibration: Path, evaluation: Path) -> list[str]:
    """The samples of `evaluation` that are also in calibration, in the file's order.

    Whole files are compared, whatever number of samples a recipe uses. Texts are equal if they are
    after Unicode NFKC, case folding and collapsing whitespace; arrays and files of images if every
    byte is. Costs one hash per sample.
    """
    seen = {key for key, _ in _keys(calibration)}
    found = {key: shown for key, shown in _keys(evaluation) if key in seen}
    return list(found.values())


def shared_passages(calibration: Path, evaluation: Path, words: int = 13) -> list[str]:
    """Passages of `words` words in `evaluation` that are also in calibration, ignoring line breaks.

    Brown et al. ("Language Models are Few-Shot Learners", 2020, appendix C) use 13 words for a text
    that was seen before. Compared after Unicode NFKC and case folding.
    """
    texts = [
        unicodedata.normalize("NFKC", read_corpus(path)).casefold().split()
        for path in (calibration, evaluation)
    ]
    words = min(words, *map(len, texts))
    seen, judged = (
        {" ".join(text[start : start + words]): None for start in range(len(text) - words + 1)}
        for text in texts
    )
    return [passage for passage in judged if passage in seen]


def content_sha256(path: Path) -> str:
    """One hash over a data set's file, or over all files of a directory."""
    if not path.is_dir():
        return canonical.sha256_of_file(path)
    paths = {each.name: each.path for each in list_files(path)}
    paths |= {name: path / name for name in KNOWLEDGE if (path / name).is_file()}
    return canonical.sha256_of({name: canonical.sha256_of_file(own) for name, own in paths.items()})


def chosen_files(path: Path, samples: int | None = None) -> list[DataFile]:
    """The files of a directory, or `samples` of them, chosen as in `read_texts`."""
    files = list_files(path)
    return [files[index] for index in chosen_rows(path, len(files), samples)]


def _keys(path: Path) -> Iterator[tuple[bytes, str]]:
    if path.is_dir():
        for image in list_files(path):
            yield canonical.sha256_of_file(image.path).encode(), image.name
        return
    if path.suffix in ARRAY_SUFFIXES:
        arrays = read_arrays(path)
        for index in range(len(next(iter(arrays.values())))):
            digest = hashlib.sha256()
            for name in sorted(arrays):
                sample = arrays[name][index]
                digest.update(f"{name}{sample.dtype}{sample.shape}".encode())
                digest.update(np.ascontiguousarray(sample).tobytes())
            yield digest.digest(), f"sample {index}"
        return
    rows = read_table(path) if path.suffix in PAIR_SUFFIXES else []
    has_queries = bool(rows) and {"query", "text"} <= set(rows[0])
    pairs = [f"{row['query']}\n{row['text']}" for row in rows] if has_queries else None
    for text in pairs or read_texts(path):
        folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        yield hashlib.sha256(folded.encode()).digest(), text
