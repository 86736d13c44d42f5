"""Locate the files of a recipe's source: hub, installed package, directory, .onnx."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeq.core.errors import InvalidInput, Missing, Problem, missing_extra
from edgeq.core.validation_messages import suggest_near
from edgeq.models.source import Source
from edgeq.models.weight_files import missing_shards

# Files of a repository that a build reads: weights, configuration, tokenizer, sentence head,
# licence.
_WANTED = [
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.model",
    "*.md",
    "*.jinja",
    "LICENSE*",
    "1_Pooling/*",
]
_HTTP_CLIENTS = ("requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2")
_WITHOUT_WEIGHTS = [pattern for pattern in _WANTED if pattern != "*.safetensors"]


@dataclass(frozen=True)
class Located:
    """A model on disk: `path` is a Hugging Face-style directory or an .onnx file.

    `revision` pins the content: a commit for a hub, a version for a package, None for a path.
    """

    path: Path
    revision: str | None

    @property
    def is_file(self) -> bool:
        """Whether this is a plain .onnx file."""
        return self.path.suffix == ".onnx"


def locate(source: Source, base: Path, where: str, *, weights: bool = True) -> Located:
    """Find or download the files of `source`; paths are relative to `base`.

    `where` is the place in the recipe that errors name. With `weights=False` nothing large is
    downloaded from a hub. Raises InvalidInput for a missing model, Missing for a package that is
    not installed or a hub that cannot be reached.
    """
    if source.kind == "hub":
        return _from_hub(source, where, weights)
    if source.kind == "package":
        return _from_package(source.value, where)
    path = base / source.value
    if path.exists():
        return Located(path, None)
    remedy = f"there is no folder {path.parent}; paths are relative to the recipe"
    if path.parent.is_dir():
        names = [each.name for each in path.parent.iterdir()]
        kinds = "name a model directory, an .onnx file, package:NAME or hub:OWNER/NAME@REVISION"
        remedy = suggest_near(path.name, names) or kinds
    raise InvalidInput(Problem(where, f"no such model: {path}", remedy))


def _from_package(name: str, where: str) -> Located:
    """The model among a package's recorded files; nothing is imported."""
    try:
        package = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        what = f"the package {name} is not installed"
        raise Missing(Problem(where, what, f"pip install {name}")) from None
    files = [PurePosixPath(file) for file in package.files or ()]
    models = _models_among([file for file in files if ".." not in file.parts])
    if len(models) != 1:
        found = f"{len(models)} models: {', '.join(map(str, models))}" if models else "no model"
        what = f"the package {name} has {found}"
        remedy = "name a package with a single model, or give its directory as a path"
        raise InvalidInput(Problem(where, what, remedy))
    return Located(Path(str(package.locate_file(models[0]))), package.version)


def _models_among(files: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Folders with weights and a configuration, without nested ones; else .onnx files."""
    weights = {file.parent for file in files if file.suffix == ".safetensors"}
    folders = weights & {file.parent for file in files if file.name == "config.json"}
    outer = [folder for folder in sorted(folders) if not folders & set(folder.parents)]
    return outer or [file for file in files if file.suffix == ".onnx"]


def _from_hub(source: Source, where: str, weights: bool) -> Located:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise missing_extra("huggingface_hub", "build", "read models from a hub") from None

    def fetch(patterns: list[str], *, offline: bool) -> Path:
        path = huggingface_hub.snapshot_download(
            repo_id=source.value,
            revision=source.revision,
            allow_patterns=patterns,
            local_files_only=offline,
        )
        return Path(path)

    try:
        path = fetch(_WANTED, offline=True)
        if _has_weights(path) or not weights:
            return Located(path, path.name)
    except errors.LocalEntryNotFoundError:
        pass  # not in the cache yet
    except errors.HFValidationError as error:
        raise InvalidInput(Problem(where, str(error), "write 'hub:owner/name@revision'")) from None
    try:
        # Without a network this fails at once; a download would retry for half a minute.
        huggingface_hub.model_info(source.value, revision=source.revision, timeout=10)
        path = fetch(_WANTED if weights else _WITHOUT_WEIGHTS, offline=False)
    except errors.RepositoryNotFoundError:
        remedy = "check the spelling; for a private or gated one, log in with: hf auth login"
        what = f"the hub has no public model {source.value}"
        raise InvalidInput(Problem(where, what, remedy)) from None
    except errors.RevisionNotFoundError:
        what = f"{source.value} has no revision {source.revision}"
        remedy = "give a branch, a tag or a full commit of that model"
        raise InvalidInput(Problem(where, what, remedy)) from None
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        what = f"{source} is not in the cache and the hub cannot be reached"
        remedy = (
            "connect once so that it is cached, or copy the model here and name its directory "
            f"as the source ({type(error).__name__})"
        )
        raise Missing(Problem(where, what, remedy)) from None
    if weights and not _has_weights(path):
        # Without a network the cache is used as is. Either that, or there are none: ask which.
        hub_tensors(source, where)
    return Located(path, path.name)


def _is_of_the_network(error: Exception) -> bool:
    """Whether a hub could not be reached; the errors of its newer HTTP clients are not OSErrors."""
    client = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or client in _HTTP_CLIENTS


def _has_weights(path: Path) -> bool:
    """Whether a snapshot has all its weights: a download may have been interrupted."""
    return any(path.glob("*.safetensors")) and not missing_shards(path)


def hub_tensors(source: Source, where: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape of every weight of a hub model, from file headers read over the network."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        # Without a network this fails at once; reading headers would retry for 20 s.
        huggingface_hub.model_info(source.value, revision=source.revision, timeout=10)
        metadata = huggingface_hub.get_safetensors_metadata(source.value, revision=source.revision)
    except errors.NotASafetensorsRepoError:
        what = f"{source} has no safetensors weights; pickled ones can run code and are never read"
        remedy = "convert it once where you trust it, with save_pretrained(safe_serialization=True)"
        raise InvalidInput(Problem(where, what, remedy)) from None
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        what = f"the weights' shapes of {source} cannot be read: {type(error).__name__}"
        raise Missing(Problem(where, what, "connect, or build once so that it is cached")) from None
    return {
        name: (info.dtype, tuple(info.shape))
        for file in metadata.files_metadata.values()
        for name, info in file.tensors.items()
    }
