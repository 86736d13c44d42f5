"""The data sets of a recipe: existing, readable, and evaluation disjoint from calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import Takes, Task, task_of
from edgeq.core.validation_messages import Location, suggest_near
from edgeq.core.yamlfile import Document
from edgeq.recipe import array_sets, data_sets
from edgeq.recipe.annotations import has_annotations, read_annotations
from edgeq.recipe.file_sets import ANNOTATIONS_FILE, KNOWLEDGE, TRANSCRIPTS_FILE
from edgeq.recipe.query_sets import read_queries
from edgeq.recipe.question_sets import read_questions
from edgeq.recipe.tagged_sets import read_tagged
from edgeq.recipe.transcripts import has_transcripts, read_transcripts

if TYPE_CHECKING:
    from edgeq.recipe.schema import Recipe

_SUFFIXES: dict[Takes, tuple[str, ...]] = {
    "texts": data_sets.TEXT_SUFFIXES,
    "a long text": (".txt",),
    "pairs": data_sets.PAIR_SUFFIXES,
    "images": ("",),
    "audio": ("",),
    "arrays": array_sets.ARRAY_SUFFIXES,
}
_RELATIVE = "paths are relative to the recipe"


def check_data(recipe: Recipe, document: Document) -> list[Problem]:
    """Problems of data sets, each with its place in the file.

    The only place of a build that opens the evaluation data: nothing but problems is returned.
    """
    return _check_data_files(recipe, document) or _check_overlap(recipe, document)


def _check_data_files(recipe: Recipe, document: Document) -> list[Problem]:
    problems = [*_check_given(recipe, document), *_check_questions(recipe, document)]
    refs = {"calibration": recipe.data.calibration, "evaluation": recipe.data.evaluation}
    for key, ref in refs.items():
        location: Location = ("data", key, "path")
        if ref is None or document.is_assumed(location):
            continue
        where, name = document.place(location), document.name(location)
        task = task_of(recipe.model.task)
        wanted = (".txt", data_sets.JSON_SUFFIX) if task.tags else _SUFFIXES[task.takes]
        takes_files = task.takes_files
        suffix = Path(ref.path).suffix
        if suffix not in wanted and not takes_files and not document.is_assumed(("model", "task")):
            what = f"{name}: the task {recipe.model.task!r} does not read {ref.path!r}"
            problems.append(Problem(where, what, f"give a file that ends in {' or '.join(wanted)}"))
            continue
        path = document.path.parent / ref.path
        try:
            has_scores = _read(path, ref.samples, recipe.model.task)
        except InvalidInput as error:
            problems += [
                Problem(where, f"{name}: {each.where}: {each.what}", each.remedy or _RELATIVE)
                for each in error.problems
            ]
            continue
        wants_scores = key == "evaluation" and recipe.budgets.quality.spearman is not None
        if wants_scores and not has_scores:
            what = f"{name}: has no scored pairs, which budgets.quality.spearman needs"
            problems.append(Problem(where, what, "give a .tsv: sentence1, sentence2, score"))
    return problems


def _check_questions(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Questions that cannot be read or asked, and a budget without any."""
    given, wanted = recipe.data.questions, recipe.budgets.quality.multiple_choice_drop
    where = document.place(("data", "questions", "path"))
    if given is None:
        if wanted is not None:
            what = "budgets.quality.multiple_choice_drop: there are no questions"
            place = document.place(("budgets", "quality", "multiple_choice_drop"))
            yield Problem(place, what, "add data.questions: {path: questions.jsonl}")
    elif not task_of(recipe.model.task).generates:
        what = f"data.questions: the task {recipe.model.task!r} answers none"
        yield Problem(where, what, "remove it, or write 'task: text-generation'")
    elif recipe.data.evaluation is None:
        what = "data.questions: are asked in addition to data.evaluation, and there is none"
        yield Problem(where, what, "add data.evaluation: {path: evaluation.txt}")
    else:
        try:
            read_questions(document.path.parent / given.path, given.samples)
        except InvalidInput as error:
            for each in error.problems:
                what = f"data.questions: {each.where}: {each.what}"
                yield Problem(where, what, each.remedy or _RELATIVE)


def _check_given(recipe: Recipe, document: Document) -> Iterator[Problem]:
    """Files that edgeq or another tool computed earlier."""
    for key in ("importance", "sensitivity"):
        given = getattr(recipe.data, key)
        location: Location = ("data", key, "path")
        if given is None or document.is_assumed(location):
            continue
        path = document.path.parent / given.path
        if not path.is_file():
            names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
            what = f"{document.name(location)}: no file {path}"
            remedy = suggest_near(path.name, names) or _RELATIVE
            yield Problem(document.place(location), what, remedy)


def _read(path: Path, samples: int | None, task: str) -> bool:
    """Read a data set, raising its problems; returns whether it has scored pairs."""
    if task_of(task).generates:
        data_sets.read_corpus(path)
        return False
    if task_of(task).ranks:
        read_queries(path, samples)
        return False
    if task_of(task).tags:
        read_tagged(path, samples)
        return False
    if task_of(task).takes_files:
        _read_files(path, samples, task_of(task))
        return False
    if path.suffix in array_sets.ARRAY_SUFFIXES:
        array_sets.read_arrays(path, samples)
        return False
    if path.suffix in data_sets.PAIR_SUFFIXES and data_sets.has_pairs(path):
        return data_sets.read_pairs(path, samples).scores is not None
    data_sets.read_texts(path, samples)
    return False


def _read_files(folder: Path, samples: int | None, task: Task) -> None:
    """Read what is known of images or recordings, which are opened when they are prepared."""
    files = data_sets.chosen_files(folder, samples)
    read = {ANNOTATIONS_FILE: task.detects, TRANSCRIPTS_FILE: task.transcribes}
    unread = [name for name in KNOWLEDGE if (folder / name).is_file() and not read[name]]
    if files[0].is_audio != (task.takes == "audio"):
        unread.append(files[0].name)
    if unread:
        what = f"has {unread[0]}, which {task.name} does not read"
        raise InvalidInput(Problem(str(folder), what, "remove it, or name another directory"))
    if files[0].label is not None and not task.classifies:
        known = " or ".join(name for name in KNOWLEDGE if read[name])
        what = f"has subdirectories named by labels, which {task.name} does not read"
        remedy = f"move the files up, and say what is known of them in {known}"
        raise InvalidInput(Problem(str(folder), what, remedy))
    if task.detects and has_annotations(folder):
        read_annotations(folder, files)
    if task.transcribes and has_transcripts(folder):
        read_transcripts(folder, files)


def _check_overlap(recipe: Recipe, document: Document) -> list[Problem]:
    calibration, evaluation = recipe.data.calibration, recipe.data.evaluation
    is_known = not any(
        document.is_assumed(("data", key, "path")) for key in ("calibration", "evaluation")
    )
    if calibration is None or evaluation is None or not is_known:
        return []
    folder = document.path.parent
    is_corpus = task_of(recipe.model.task).generates
    compare = data_sets.shared_passages if is_corpus else data_sets.overlap
    shared = compare(folder / calibration.path, folder / evaluation.path)
    if not shared:
        return []
    where = document.place(("data", "evaluation", "path"))
    noun = "passages" if is_corpus else "samples"
    what = (
        f"data.evaluation: {len(shared)} of its {noun} are in the calibration data too, "
        f"e.g. {shared[0][:60]!r}"
    )
    return [Problem(where, what, "remove them from one; quality is judged on unseen data")]
