"""Data sets of a recipe: texts, scored pairs of sentences, and arrays.

`.txt` has one text per line. `.tsv` (tab) and `.csv` (tab or comma) have a header with the columns
`sentence1`, `sentence2` and, for a task score, `score`; or `text` and, for the right label of each,
`label`. `.jsonl` has an object with a `text` in each line, see `edgeq.recipe.tagged_sets`. `.npz`
has one array for each input of the model, all with the same number of samples along the first axis.
A directory has images or recordings, see `edgeq.recipe.file_sets`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import lzma
import math
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import read_bytes, require_file, unreadable
from edgeq.core.units import format_bytes
from edgeq.core.validation_messages import suggest, suggest_near
from edgeq.recipe.file_sets import KNOWLEDGE, DataFile, list_files

Array = npt.NDArray[Any]

TEXT_SUFFIXES = (".txt", ".tsv", ".csv")
PAIR_SUFFIXES = (".tsv", ".csv")
JSON_SUFFIX = ".jsonl"
ARRAY_SUFFIXES = (".npz",)
_PAIR, _SINGLE = ("sentence1", "sentence2"), ("text",)
_MOST_BYTES = 32 << 20
# bytes of text that is tokenized as a whole, at 50 bytes per character
_MOST_CORPUS_BYTES = 16 << 20
_LONGEST_LINE = 1 << 20
_MOST_ARRAY_BYTES = 4 << 30
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# RuntimeError: of an encrypted file, or a compression that this Python lacks
_UNREADABLE_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


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
        names = _PAIR if has_pairs(path) else _SINGLE
        texts = [row[name] for row in rows for name in names]
    elif path.suffix == JSON_SUFFIX:
        texts = [_text_of(f"{path}:{line}", row) for line, row in read_json_lines(path)]
    elif path.suffix == ".txt":
        texts = [line.strip() for line in read_lines(path) if line.strip()]
    else:
        raise _unknown_suffix(path, TEXT_SUFFIXES)
    return [texts[index] for index in _choose(path, len(texts), samples, seed)]


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a `.jsonl`, each with the number of its line. Raises InvalidInput."""
    found = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            what, remedy = f"is not JSON: {error}", 'write one object on each line: {"text": "…"}'
            raise InvalidInput(Problem(f"{path}:{number}", what, remedy)) from None
        if half := _LONE_SURROGATE.search(json.dumps(row, ensure_ascii=False)):
            what = f"contains half of a character, \\u{ord(half[0]):04x} without its other half"
            remedy = "write both halves, or remove it; a text was cut within a character"
            raise InvalidInput(Problem(f"{path}:{number}", what, remedy))
        if row is not None and not isinstance(row, dict):
            remedy = 'write one object on each line: {"text": "…"}'
            raise InvalidInput(Problem(f"{path}:{number}", "is not a JSON object", remedy))
        found += [(number, row)] if row is not None else []
    return found


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
    return tuple(rows[index]["label"] for index in _choose(path, len(rows), samples, seed))


def read_corpus(path: Path) -> str:
    """The whole text of a `.txt`, for calibrating and judging language models.

    Raises InvalidInput for a file that does not exist, is empty or is not UTF-8.
    """
    if path.suffix != ".txt":
        raise _unknown_suffix(path, (".txt",))
    text = _with_newlines(read_text(path))
    if not text.strip():
        raise InvalidInput(Problem(str(path), "contains no text", "add some"))
    return text


def read_pairs(path: Path, samples: int | None = None, seed: int = 0) -> Pairs:
    """The pairs of a `.tsv` or `.csv`; `samples` of them, chosen as in `read_texts`.

    Raises InvalidInput as `read_texts` does, and for a score that is not a finite number.
    """
    if path.suffix not in PAIR_SUFFIXES:
        raise _unknown_suffix(path, PAIR_SUFFIXES)
    rows = read_table(path)
    if not has_pairs(path):
        what = "holds single texts, and pairs of sentences are needed"
        remedy = "the first line must be: sentence1, sentence2, score, separated by tabs"
        raise InvalidInput(Problem(f"{path}:1", what, remedy))
    rows = [rows[index] for index in _choose(path, len(rows), samples, seed)]
    has_scores = bool(rows) and "score" in rows[0]
    return Pairs(
        first=tuple(row["sentence1"] for row in rows),
        second=tuple(row["sentence2"] for row in rows),
        scores=tuple(float(row["score"]) for row in rows) if has_scores else None,
    )


def read_arrays(path: Path, samples: int | None = None, seed: int = 0) -> dict[str, Array]:
    """The arrays of an `.npz` by input name, each (samples, …); chosen as in `read_texts`.

    Raises InvalidInput for a file that does not exist, is not an `.npz`, contains pickled objects,
    NaN or infinity, or whose arrays differ in the number of samples.
    """
    if path.suffix not in ARRAY_SUFFIXES:
        raise _unknown_suffix(path, ARRAY_SUFFIXES)
    arrays = _load_arrays(path)
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if not counts or len(set(counts.values())) > 1:
        shapes = ", ".join(f"{name} {arrays[name].shape}" for name in counts) or "no arrays"
        remedy = "give every input an array with the samples along the first axis"
        raise InvalidInput(Problem(str(path), f"arrays do not match: {shapes}", remedy))
    chosen = _choose(path, next(iter(counts.values())), samples, seed)
    _refuse_empty(path, arrays)
    _refuse_not_finite(path, arrays, chosen)
    return {name: array[chosen] for name, array in arrays.items()}


def _refuse_empty(path: Path, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if len(array) and not array.size:
            what = f"the samples of the array {name!r} have the shape {array.shape[1:]}, no values"
            remedy = "leave them out, or compute them again: an empty input measures nothing"
            raise InvalidInput(Problem(str(path), what, remedy))


def _refuse_not_finite(path: Path, arrays: Mapping[str, Array], chosen: Sequence[int]) -> None:
    for name, array in arrays.items():
        for index in chosen if array.dtype.kind == "f" else ():
            if not np.isfinite(array[index]).all():
                word = "NaN" if np.isnan(array[index]).any() else "infinity"
                what = f"the array {name!r} contains {word} in sample {index}"
                remedy = "remove that sample, or recompute it: only finite numbers can be measured"
                raise InvalidInput(Problem(str(path), what, remedy))


def _load_arrays(path: Path) -> dict[str, Array]:
    if not path.exists():
        raise no_such_file(path)
    require_file(path)
    try:
        with path.open("rb") as file:
            is_zip = zipfile.is_zipfile(file)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        if not is_zip:
            raise ValueError("it is not a zip file")
        with zipfile.ZipFile(path) as archive:
            _require_room(path, archive)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _native(np.asarray(arrays[name])) for name in arrays.files}
    except (*_UNREADABLE_ZIP, OSError, ValueError) as error:
        remedy = "write it with numpy.savez(path, input_name=array, ...)"
        raise InvalidInput(Problem(str(path), f"not a readable .npz: {error}", remedy)) from None


def _native(array: Array) -> Array:
    """In this machine's order of bytes, which every runtime takes for granted."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _require_room(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse arrays that do not fit into memory: a small file may unpack to any size."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > _MOST_ARRAY_BYTES:
        what = f"contains {format_bytes(size)} of arrays, over {format_bytes(_MOST_ARRAY_BYTES)}"
        raise InvalidInput(Problem(str(path), what, "keep fewer samples"))


def feeds(
    path: Path, arrays: Mapping[str, Array], ranks: Mapping[str, int]
) -> Iterator[dict[str, Array]]:
    """Yield one sample after the other, in the shapes of a model with inputs of these `ranks`.

    If an array has the rank of its input, the first axis is the batch and every feed keeps it, with
    length 1; if it has one more axis, that axis counts the samples and is removed. Raises
    InvalidInput at once for names or ranks that do not match; `path` names the file.
    """
    problems = [
        Problem(str(path), f"no array for the input {name!r}", f"it has: {', '.join(arrays)}")
        for name in ranks
        if name not in arrays
    ]
    for name, array in arrays.items():
        if name not in ranks:
            what = f"the model has no input {name!r}"
            problems.append(Problem(str(path), what, suggest(name, ranks)))
        elif array.ndim - ranks[name] not in (0, 1):
            rank = ranks[name]
            what = (
                f"{name!r} has the shape {array.shape}, which does not fit an input of rank {rank}"
            )
            remedy = f"give it {rank} axes (first: batch) or {rank + 1} (first: samples)"
            problems.append(Problem(str(path), what, remedy))
    if problems:
        raise InvalidInput(problems)
    return _slices(arrays, ranks)


def _slices(arrays: Mapping[str, Array], ranks: Mapping[str, int]) -> Iterator[dict[str, Array]]:
    for index in range(len(next(iter(arrays.values()), ()))):
        yield {
            name: array[index : index + 1] if array.ndim == ranks[name] else array[index]
            for name, array in arrays.items()
        }


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


def chosen_rows(path: Path, available: int, samples: int | None) -> list[int]:
    """The positions of the samples that readers choose; `path` is named in errors."""
    return _choose(path, available, samples, 0)


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


def _choose(path: Path, available: int, samples: int | None, seed: int) -> list[int]:
    """Sorted positions of `samples` out of `available`, the same on every machine."""
    if available == 0:
        raise InvalidInput(Problem(str(path), "contains no samples", "add some"))
    if samples is None or samples == available:
        return list(range(available))
    if samples > available:
        what = f"has {available} samples, {samples} are requested"
        raise InvalidInput(Problem(str(path), what, f"write 'samples: {available}', or add more"))

    def draw(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{index}".encode()).digest()

    return sorted(sorted(range(available), key=draw)[:samples])


def read_text(path: Path, limit: int = _MOST_CORPUS_BYTES) -> str:
    """The text of a file named by a recipe or command, UTF-8 of at most `limit` bytes."""
    if not path.exists():
        raise no_such_file(path)
    try:
        return read_bytes(path, limit, "keep only the required part").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{path}: byte {error.start}"
        raise InvalidInput(Problem(where, "not UTF-8 text", "save the file as UTF-8")) from None


def read_lines(path: Path) -> list[str]:
    """Lines of samples; a line too long for a sentence is refused: line breaks are missing."""
    # Not splitlines(): a text may contain a form feed or U+2028.
    lines = _with_newlines(read_text(path, _MOST_BYTES)).split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > _LONGEST_LINE:
            what = f"the line has {len(line)} characters, over {_LONGEST_LINE}"
            raise InvalidInput(Problem(f"{path}:{number}", what, "put one sample on each line"))
    return lines


def _with_newlines(text: str) -> str:
    """Every system's line breaks as \\n, as Python reads a text file."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a `.tsv` or `.csv` by column. Raises InvalidInput where cells are missing."""
    lines = read_lines(path)
    has_tabs = path.suffix == ".tsv" or "\t" in lines[0]
    reader = (
        csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if has_tabs
        else csv.reader((f"{line}\n" for line in lines), strict=True)
    )
    try:
        header, *rows = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except csv.Error as error:
        where = f"{path}:{reader.line_num}"
        remedy = f"close every quote, and keep cells under {csv.field_size_limit()} characters"
        raise InvalidInput(Problem(where, f"not a readable table: {error}", remedy)) from None
    columns = [name.strip() for name in header[1]]
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        what = f"has the column {twice!r} {columns.count(twice)} times"
        raise InvalidInput(Problem(f"{path}:1", what, "rename or remove all but one"))
    for name in _SINGLE if "text" in columns else _PAIR:
        if name not in columns:
            remedy = "the first line must be: sentence1, sentence2, score, separated by tabs"
            raise InvalidInput(Problem(f"{path}:1", f"no column {name!r}", remedy))
    problems = [
        problem for line, row in rows for problem in _row_problems(path, line, columns, row)
    ]
    if problems:
        raise InvalidInput(problems)
    return [dict(zip(columns, row, strict=True)) for _, row in rows]


def _row_problems(path: Path, line: int, columns: Sequence[str], row: list[str]) -> list[Problem]:
    where = f"{path}:{line}"
    if len(row) != len(columns):
        what = f"{len(row)} columns, and the header has {len(columns)}"
        return [Problem(where, what, "check for a missing or an extra separator")]
    cells = dict(zip(columns, row, strict=True))
    problems = [
        Problem(where, f"{name} is empty", "write it, or remove the line")
        for name in (*_PAIR, *_SINGLE, "label")
        if name in cells and not cells[name].strip()
    ]
    if "score" in cells and not _is_number(cells["score"]):
        what = f"the score {cells['score']!r} is not a number"
        problems.append(Problem(where, what, "write e.g. 3.5"))
    return problems


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def no_such_file(path: Path) -> InvalidInput:
    """The error for a file that does not exist, suggesting a similar name."""
    if path.is_symlink():
        what = f"is a link to {path.readlink()}, which does not exist"
        return InvalidInput(Problem(str(path), what, "download it again"))
    folder = path.parent
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    return InvalidInput(Problem(str(path), "no such file", suggest_near(path.name, names)))


def _unknown_suffix(path: Path, suffixes: Sequence[str]) -> InvalidInput:
    what = f"cannot be read as {'/'.join(suffixes)} by its name"
    return InvalidInput(
        Problem(str(path), what, f"give a file that ends in {' or '.join(suffixes)}")
    )
