"""The record of a build's result: `artifact.json`, the outcome of the recipe's intent."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
)

from edgeq.core import canonical
from edgeq.core.audio import AudioSettings, DecodingSettings, TranscriptionSettings
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import read_bytes
from edgeq.core.frozen import Frozen as Frozen
from edgeq.core.images import ImageSettings
from edgeq.core.known_settings import require_known
from edgeq.core.terms import TextOrPair

ARTIFACT_FILE = "artifact.json"
STAGE_FILE = "stage.json"
"""The build store's manifest of a directory."""
MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
GGUF_FILE = "model.gguf"
ADAPTER_FILE = "adapter.gguf"
COREML_PACKAGE = "model.mlpackage"
COREAI_ASSET = "model.aimodel"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_SETTINGS_FILE = "tokenizer_config.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"

LARGEST_RECORD = 32 << 20
"""Size limit of a record in bytes."""
_FETCH_AGAIN = "build or download it again; a changed file is never loaded"
# Plain names with "/" between, no "..", no drive letters: a record can never name a place outside
# its directory. Core ML's packages are directories.
_PLAIN = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?"
# Names that are devices on Windows, whatever follows a dot.
_PORTS = {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}
_DEVICES = {"con", "prn", "aux", "nul", *_PORTS}
_MOST_NAMED = 20  # unexpected files listed in an error


def _no_device(name: str) -> str:
    if any(part.split(".")[0].lower() in _DEVICES for part in name.split("/")):
        raise ValueError(f"{name!r} is the name of a device on Windows")
    return name


FileName = Annotated[
    str,
    StringConstraints(pattern=rf"^(?:{_PLAIN}/)*{_PLAIN}$", max_length=240),
    AfterValidator(_no_device),
]


def distinct(names: Iterable[str]) -> None:
    """Raise ValueError if two names are one file, or a file and a folder, on some system."""
    folded = [name.lower() for name in names]
    folders = {name[:at] for name in folded for at, letter in enumerate(name) if letter == "/"}
    if len(set(folded)) < len(folded) or folders & set(folded):
        raise ValueError("two names are the same file on systems that ignore case")


def _distinct_names(files: dict[str, FileRecord]) -> dict[str, FileRecord]:
    distinct(files)
    return files


Record = TypeVar("Record", bound=Frozen)


class FileRecord(Frozen):
    """Size and content of one file."""

    bytes: int = Field(description="Its size.")
    sha256: str = Field(description="SHA-256 of its bytes, in hexadecimal digits.")


Files = Annotated[dict[FileName, FileRecord], AfterValidator(_distinct_names)]
"""Records of files by their names."""


class TensorRecord(Frozen):
    """How one weight was quantized."""

    shape: tuple[int, ...] = Field(description="Shape in the model.")
    number_format: str = Field(description="Number format in the file.")
    method: str = Field(description="Rounding method.")
    bytes: int = Field(description="Size of codes, scales and zero points in the file.")
    note: str = Field(default="", description="Why it differs from the variant's default.")


class ValueInfo(Frozen):
    """An input or output of a model."""

    name: str = Field(description="Its name in the file.")
    dtype: str = Field(description="The type of its values, by numpy's name.")
    shape: tuple[int | str, ...] = Field(description="Sizes, and names of free dimensions.")


class ModelRecord(Frozen):
    """The origin of the weights."""

    source: str = Field(description="Source as named in the recipe.")
    name: str = Field(default="", description="Name of the model; empty if unknown.")
    revision: str | None = Field(default=None, description="The hub's commit, if there is one.")
    licence: str | None = Field(
        default=None, description="Licence of the weights (SPDX), if known."
    )
    sha256: str = Field(description="SHA-256 over every source file read.")


class ImportProof(Frozen):
    """How the imported float model was compared with the original, before it was quantized."""

    reference: str = Field(description="The original's runtime: names and versions.")
    compared: str = Field(description="The samples and what was compared; empty if nothing was.")
    difference: float | None = Field(
        default=None, description="Largest relative difference of a sample's outputs."
    )
    tolerance: float | None = Field(
        default=None, description="The largest difference accepted as float rounding."
    )

    def __str__(self) -> str:
        if self.difference is None:
            compared = f"; compared: {self.compared}" if self.compared else ""
            return f"not compared with the original; reference: {self.reference}{compared}"
        return (
            f"float model equals the original: {self.compared}, largest relative difference "
            f"{self.difference:.1e} ({self.tolerance:.0e} allowed), by {self.reference}"
        )


class TextSettings(Frozen):
    """From text to token ids, and from token vectors to one vector.

    Ids are those of `tokenizer.json` with its own truncation overridden.
    """

    max_tokens: int = Field(description="Longer texts are truncated to this many tokens.")
    pooling: str | None = Field(
        default=None, description="Pooling of token vectors; null for language models."
    )
    normalize: bool = Field(
        default=True, description="Whether vectors are normalized to unit length."
    )
    shortened: bool = Field(
        default=False,
        description="Whether only the first values of a vector are kept, after it was normalized.",
    )
    prompts: dict[str, str] = Field(
        default_factory=dict, description="Prompts that precede a text, by name."
    )
    default_prompt: str | None = Field(
        default=None, description="The default prompt; null for none."
    )
    similarity: str = Field(
        default="cosine", description="Similarity of vectors: cosine, dot, euclidean, manhattan."
    )

    own_prompt: bool = Field(
        default=False,
        description="Whether the tokens of its default prompt are left out of the pooling, so that "
        "it takes no other.",
    )

    def after_prompt(self, text: TextOrPair) -> TextOrPair:
        """A text after the default prompt; a pair has none."""
        return self.prompted([text])[0] if isinstance(text, str) else text

    def prompted(
        self, texts: Sequence[str], prompt: str | None = None, prompt_name: str | None = None
    ) -> list[str]:
        """Each text after `prompt`, or after the one called `prompt_name`, or the default one.

        Raises InvalidInput for a name that is not among the model's, and for a prompt of your own
        where its number of tokens is part of the model.
        """
        name = prompt_name if prompt_name is not None else self.default_prompt
        if self.own_prompt and prompt is not None:
            what = "the model leaves its prompt out of the pooling, and was built for its own"
            raise InvalidInput(Problem("prompt", what, "leave prompt= out"))
        if prompt is None and name is not None:
            if name not in self.prompts:
                known = ", ".join(self.prompts) or "this model has none"
                raise InvalidInput(
                    Problem("prompt_name", f"{name!r} is not a prompt of the model", known)
                )
            prompt = self.prompts[name]
        return [f"{prompt}{text}" for text in texts] if prompt else list(texts)


ClassFunction = Literal["softmax", "sigmoid", "none"]


class Classes(Frozen):
    """The classes of a classifier."""

    labels: tuple[str, ...] = Field(description="In the order of the values of its output.")
    function: ClassFunction = Field(
        description="The function that turns outputs into probabilities: softmax if a sample has "
        "one label, sigmoid if it has every label with a probability of at least one half, none "
        "if the outputs are probabilities of which a sample has the largest."
    )

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Probabilities (samples, classes) from an output of that shape."""
        values = output.astype(np.float64)
        if self.function == "none":
            return np.asarray(values)
        if self.function == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-values)))
        powers = np.exp(values - values.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True))

    def chosen(self, output: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """(samples, classes): 1 for each label that a sample gets."""
        if self.function == "sigmoid":
            return np.asarray(output >= 0, np.int64)
        return np.asarray(np.eye(output.shape[1], dtype=np.int64)[output.argmax(1)])


class Artifact(Frozen):
    """One built model: its files, the format of each weight, and everything that went in."""

    edgeq: Literal[1] = Field(default=1, description="The version of this record.")
    name: str = Field(description="<format>-<variant>.")
    format: str = Field(description="The file format.")
    variant: str = Field(description="The recipe's name for how it is quantized.")
    task: str = Field(description="The recipe's task.")
    model: ModelRecord = Field(description="The model it was built from.")
    inputs: tuple[ValueInfo, ...] = Field(description="Inputs; empty for language models in GGUF.")
    outputs: tuple[ValueInfo, ...] = Field(
        description="Outputs; empty for language models in GGUF."
    )
    text: TextSettings | None = Field(
        default=None, description="Text settings; null for models without text input."
    )
    image: ImageSettings | None = Field(
        default=None, description="How an image becomes the input; null for other models."
    )
    detection: DetectionSettings | None = Field(
        default=None, description="How outputs become boxes; null for other models."
    )
    audio: AudioSettings | None = Field(
        default=None, description="How a recording becomes the input; null for other models."
    )
    transcription: TranscriptionSettings | None = Field(
        default=None, description="How the output becomes a text; null for other models."
    )
    decoding: DecodingSettings | None = Field(
        default=None,
        description="How the parts encoder and decoder write a text; null for other models.",
    )
    dimension: int | None = Field(
        default=None, description="Dimension of an embedding; null for other models."
    )
    classes: Classes | None = Field(
        default=None, description="The classes of a classifier; null for other models."
    )
    parts: dict[str, int] = Field(
        default_factory=dict,
        description="The parts of a whole, whose artifacts are in directories of these names, and "
        "how often each runs for one answer; empty for a single model.",
    )
    weight_bytes: int = Field(
        description="Size of quantized and float weights, without graph and tokenizer."
    )
    tensors: dict[str, TensorRecord] = Field(description="Weights by the model's own names.")
    settings: Annotated[dict[str, Any], AfterValidator(require_known)] = Field(
        default_factory=dict,
        description="Facts for runners and readers, by format: the activations' scheme, "
        "calibration, context.",
    )
    files: Files = Field(description="Every file next to the record.")
    sources: dict[str, str] = Field(
        default_factory=dict, description="SHA-256 of the data used, by purpose."
    )
    tools: dict[str, str] = Field(description="Versions of the packages that made it.")
    proof: ImportProof | None = Field(
        default=None, description="How the import was proven; null in records of older builds."
    )

    @property
    def bytes(self) -> int:
        """An app's download: the size of every file, in bytes."""
        return sum(file.bytes for file in self.files.values())

    def bytes_by_number_format(self) -> dict[str, int]:
        """Bytes of weights per number format name."""
        summary: dict[str, int] = {}
        for tensor in self.tensors.values():
            summary[tensor.number_format] = summary.get(tensor.number_format, 0) + tensor.bytes
        return dict(sorted(summary.items()))


def record_files(directory: Path, names: list[str]) -> dict[str, FileRecord]:
    """Size and SHA-256 of each named file in `directory`."""
    return {
        name: FileRecord(
            bytes=(directory / name).stat().st_size,
            sha256=canonical.sha256_of_file(directory / name),
        )
        for name in sorted(names)
    }


def seal(record: Mapping[str, Any]) -> bytes:
    """Canonical JSON of `record` with `digest`, the SHA-256 of the record without it."""
    return canonical.to_json({**record, "digest": canonical.sha256_of(dict(record))}).encode()


def unseal(content: bytes, where: str) -> dict[str, Any]:
    """Read the record written by `seal`; one byte of difference raises InvalidInput at `where`."""
    try:
        record: dict[str, Any] = json.loads(content)
        del record["digest"]
        resealed = seal(record)  # which takes no NaN and no half of a letter
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise InvalidInput(
            Problem(where, "is not a record written by edgeq", _FETCH_AGAIN)
        ) from None
    if resealed != content:
        raise InvalidInput(Problem(where, "was modified after it was written", _FETCH_AGAIN))
    return record


def parse_record(model: type[Record], record: Mapping[str, Any], where: str) -> Record:
    """Parse an unsealed `record` as `model`; another version's record raises InvalidInput."""
    try:
        return model.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "record"
        what = f"is not a record that this version of edgeq supports: {place}: {first['msg']}"
        raise InvalidInput(Problem(where, what, "read it with the version that wrote it")) from None


def write_artifact(directory: Path, artifact: Artifact) -> None:
    """Write `artifact.json` next to the files it describes, with its own digest."""
    (directory / ARTIFACT_FILE).write_bytes(seal(artifact.model_dump(mode="json")))


def read_artifact(directory: Path) -> Artifact:
    """Read `artifact.json` and check every file it names, byte for byte.

    Raises InvalidInput naming each file that is missing, changed, or not named by the record.
    """
    artifact = read_record(directory)
    verify_directory(directory, artifact.files, {ARTIFACT_FILE, STAGE_FILE})
    return artifact


def read_record(directory: Path) -> Artifact:
    """Read and check `artifact.json` alone; raises InvalidInput."""
    path = directory / ARTIFACT_FILE
    return parse_record(Artifact, unseal(record_bytes(path), str(path)), str(path))


def record_bytes(path: Path) -> bytes:
    """The content of a record's file; InvalidInput for a file that is too large or not a regular
    file.
    """
    return read_bytes(path, LARGEST_RECORD, _FETCH_AGAIN)


def verify_directory(directory: Path, files: Mapping[str, FileRecord], own: Set[str]) -> None:
    """Run `verify_files`, and require that there is nothing else but the records `own`: no link, no
    device.
    """
    found = _strangers(directory, directory, {*files, *own})
    problems = [
        Problem(str(directory / name), what, "remove it: a runtime might read it")
        for name, what in itertools.islice(found, _MOST_NAMED)
    ]
    if problems:
        raise InvalidInput(problems)
    verify_files(directory, files)


def _strangers(root: Path, folder: Path, names: Set[str]) -> Iterator[tuple[str, str]]:
    """Entries below `folder` that are not regular files among `names`, and what is wrong."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = Path(entry.path).relative_to(root).as_posix()
            if entry.is_dir(follow_symlinks=False) and any(n.startswith(f"{name}/") for n in names):
                yield from _strangers(root, Path(entry.path), names)
            elif name not in names:
                yield name, "is not named by the record"
            elif not entry.is_file(follow_symlinks=False):
                yield name, "is a link or not a regular file"


def verify_files(directory: Path, files: Mapping[str, FileRecord]) -> None:
    """Compare every file in `directory` with its record; raise InvalidInput naming all that differ.

    Files are hashed in pieces, never loaded whole.
    """
    problems = []
    for name, record in files.items():
        path = directory / name
        if not path.is_file():
            problems.append(Problem(str(path), "is missing", _FETCH_AGAIN))
        elif path.stat().st_size != record.bytes:
            what = f"has {path.stat().st_size} bytes, {record.bytes} were recorded"
            problems.append(Problem(str(path), what, _FETCH_AGAIN))
        elif canonical.sha256_of_file(path) != record.sha256:
            what = "was changed: its SHA-256 differs from the recorded one"
            problems.append(Problem(str(path), what, _FETCH_AGAIN))
    if problems:
        raise InvalidInput(problems)
