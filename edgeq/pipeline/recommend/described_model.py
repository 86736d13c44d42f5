"""A model described by a recipe, a directory, a config.json, a .gguf or a source.

Only configuration and headers are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import SENTENCE_EMBEDDING, TEXT_GENERATION, Task
from edgeq.estimate.contents import Contents, Weight
from edgeq.estimate.header_sizes import sizes_of_header
from edgeq.estimate.sizes import Sizes, sizes_of_config
from edgeq.formats.gguf.file_format import GGUF
from edgeq.formats.gguf.parts import read_whole
from edgeq.models.jsonfile import read_optional
from edgeq.models.locate import Located, locate
from edgeq.models.source import Source, source_named
from edgeq.models.stated_task import task_of_config
from edgeq.pipeline.first_task import stated_by_files

_LARGEST_CONFIG = 16 << 20


@dataclass(frozen=True)
class Subject:
    """A model, described by its configuration.

    source: as a recipe names it. task: as its files or recipe state it. sizes: None for a graph
    whose operators no configuration describes: it is planned in each preset. file: a .gguf's own
    contents; for other sources, contents are to be estimated. context: set by its recipe, None
    without one. located: the files of a graph.
    """

    name: str
    source: str
    sizes: Sizes | None
    task: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer_bytes: int = 0
    file: Contents | None = None
    context: int | None = None
    located: Located | None = None

    @property
    def writes(self) -> bool:
        """Whether it is a language model."""
        return self.sizes is not None and self.sizes.is_decoder


def find_subject(model: str) -> Subject:
    """Find the model that `model` names: a path, or `package:` or `hub:` as in recipes.

    Raises InvalidInput if it does not exist or says too little, Missing if it cannot be downloaded.
    """
    path = Path(model)
    if path.suffix in (".yaml", ".yml"):
        return _of_recipe(path)
    if path.suffix == ".gguf":
        return subject_of_gguf(path)
    if path.name == "config.json" or path.suffix == ".json":
        return _of_directory(path.parent, model, str(path.parent), config_file=path)
    return _of_source(source_named(model), Path(), model)


def _of_recipe(path: Path) -> Subject:
    from edgeq.recipe.load import load_recipe

    recipe, document, problems = load_recipe(path)
    if recipe is None:
        raise InvalidInput(problems)
    where = document.place(("model", "source"))
    found = _of_source(recipe.model.source, path.parent, where)
    return Subject(
        name=recipe.name,
        source=found.source,
        sizes=found.sizes,
        task=recipe.model.task,
        config=found.config,
        tokenizer_bytes=found.tokenizer_bytes,
        context=recipe.workload.context if found.writes else None,
        located=found.located,
    )


def _of_source(source: Source, base: Path, where: str) -> Subject:
    located = locate(source, base, where, weights=False)
    if located.is_file:
        return _of_graph(located, where, str(source))
    if source.kind == "gguf-file":
        return subject_of_gguf(located.path)
    if located.path.is_file():
        what = "is a file that does not describe a model here"
        remedy = "give a recipe, a model directory, its config.json or a .gguf file"
        raise InvalidInput(Problem(where, what, remedy))
    stated = task_of_config(read_optional(located.path / "config.json"))
    if stated is not None and stated.takes_images:
        return _of_graph(located, where, str(source))
    return _of_directory(located.path, where, str(source), config_file=None)


def _of_graph(located: Located, where: str, source: str) -> Subject:
    return Subject(
        name=source if ":" in source else located.path.resolve().name,
        source=source,
        sizes=None,
        task=stated_by_files(located, where).name,
        located=located,
    )


def _of_directory(folder: Path, where: str, source: str, config_file: Path | None) -> Subject:
    file = config_file or folder / "config.json"
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise InvalidInput(Problem(str(file), "is far too large for a config.json"))
        config = json.loads(file.read_bytes())
    except OSError as error:
        remedy = "give a recipe, a model directory, its config.json or a .gguf file"
        raise InvalidInput(
            Problem(str(file), f"cannot be read: {error.strerror}", remedy)
        ) from None
    except (ValueError, RecursionError):
        raise InvalidInput(Problem(str(file), "is not JSON", "download it again")) from None
    if not isinstance(config, dict):
        raise InvalidInput(Problem(str(file), "is not a configuration", "download it again"))
    stated = task_of_config(config)
    if stated is not None and stated.takes_images:
        what = f"describes {stated.noun}, which is planned from the shapes of its weights"
        raise InvalidInput(Problem(where, what, f"give the directory: edgeq recommend {source}"))
    tokenizer, sizes = folder / "tokenizer.json", sizes_of_config(config, str(file))
    return Subject(
        name=source if ":" in source else file.resolve().parent.name,
        source=source,
        sizes=sizes,
        task=(TEXT_GENERATION if sizes.is_decoder else _encoders_task(config, folder)).name,
        config=config,
        tokenizer_bytes=tokenizer.stat().st_size if tokenizer.is_file() else 0,
    )


def _encoders_task(config: Mapping[str, Any], folder: Path) -> Task:
    stated = task_of_config(config)
    is_plain = stated is None or stated.generates or (folder / "modules.json").is_file()
    return SENTENCE_EMBEDDING if is_plain or stated is None else stated


def subject_of_gguf(path: Path) -> Subject:
    """A .gguf file, by its header. Raises InvalidInput if it is damaged or not a language model."""
    header = read_whole(path)
    try:
        sizes = sizes_of_header(header)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        what = f"does not state its sizes: {error}"
        raise InvalidInput(Problem(str(path), what, "give the model it was made from")) from None
    types: dict[str, int] = {}
    for tensor in header.tensors.values():
        types[tensor.type.name] = types.get(tensor.type.name, 0) + tensor.nbytes
    task = (TEXT_GENERATION if sizes.is_decoder else SENTENCE_EMBEDDING).name
    contents = Contents(
        format=GGUF.name,
        label=max(types, key=lambda name: types[name]),
        task=task,
        weights={
            name: Weight(tensor.shape, tensor.type.name, tensor.nbytes)
            for name, tensor in header.tensors.items()
        },
        file_bytes=header.file_bytes,
        sizes=sizes,
        # the size of the JSON it came from: the vocabulary precedes the weights, spelled shorter
        tokenizer_bytes=2 * header.data_start,
        max_tokens=sizes.longest,
    )
    return Subject(path.name, str(path), sizes, task, file=contents)
