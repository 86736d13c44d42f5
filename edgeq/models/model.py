"""A recipe's model, described without loading its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core import canonical
from edgeq.core.artifact import Classes
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import EdgeqError, InvalidInput, Problem, missing_extra
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import TEXT_GENERATION, task_of
from edgeq.core.tasks.task import exporting
from edgeq.models.architectures import Decoder, decoder_of
from edgeq.models.architectures.wrappers import TEXT
from edgeq.models.encoder import check_encoder, is_unused
from edgeq.models.huggingface import ModelDirectory, TextFiles, read_directory
from edgeq.models.image_directory import ImageDirectory
from edgeq.models.labels import read_classes, require_one_label
from edgeq.models.locate import Located, hub_tensors, locate
from edgeq.models.source import Source
from edgeq.models.special_tokens import end_tokens
from edgeq.models.stated_task import check_task
from edgeq.models.weight_files import TensorFacts
from edgeq.models.weights import check_values

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeq.models.graphs.weights import Weight

_MISFITS_SHOWN = 3  # one wrong number in a configuration causes dozens
_HARMLESS_TENSORS = ("rotary_emb.inv_freq", "masked_bias", "attn.bias")
_HEAD_STEP = 16
"""onnxruntime's attention, used by every format's reference, supports multiples of this width."""


@dataclass(frozen=True)
class DescribedModel:
    """The location of a model and the facts that a plan needs.

    tensors: shapes of the weights that an export keeps, outputs or tokens first. weights: the same
    for an .onnx file, with the operators that read them; None if only names are known yet. graph:
    of the .onnx file, as it is imported, not to be changed.
    directory: facts about a Hugging Face-style directory, None for an .onnx file. decoder: a
    language model's architecture, classes: a classifier's labels; None for other tasks. gguf: the
    file that the directory was unpacked from. tokenizer: of an .onnx file that takes texts. images:
    the directory of a model of images that the .onnx file was exported from. image: how an
    image becomes its input. detection: how its outputs become boxes.
    """

    located: Located
    tensors: dict[str, tuple[int, ...]]
    directory: ModelDirectory | None
    weights: dict[str, Weight] | None = None
    graph: ir.Graph | None = None
    decoder: Decoder | None = None
    classes: Classes | None = None
    gguf: Path | None = None
    tokenizer: TextFiles | None = None
    images: ImageDirectory | None = None
    image: ImageSettings | None = None
    detection: DetectionSettings | None = None

    @property
    def text(self) -> TextFiles | None:
        """How it takes text; None for a model of arrays."""
        return self.directory or self.tokenizer

    @property
    def unread(self) -> Path | None:
        """The GGUF file, if only llama.cpp knows what the model computes: it has no float graph."""
        return self.gguf if self.decoder is not None and self.decoder.unknown else None

    def is_table(self, name: str) -> bool:
        """Whether rows of this weight are looked up; by its name if no operator is known."""
        if self.decoder is not None and self.decoder.tied:
            return False  # it is also multiplied, which decides how scales are stored
        if self.weights is not None:
            return bool(self.weights[name].uses) and self.weights[name].role == "embedding"
        return "embed" in name

    @property
    def licence(self) -> str | None:
        """The licence stated in the model card."""
        directory = self.directory or self.images
        return directory.licence if directory else None

    def check_values(self) -> None:
        """Read every weight of a directory once; raises InvalidInput for NaN and infinity."""
        if self.directory is not None:
            check_values(self.directory, tied=bool(self.decoder and self.decoder.tied))

    def sha256(self) -> str:
        """One hash over every source file that affects the build; reads them all."""
        if self.directory is not None:
            files, root = self.directory.source_files, self.located.path
        else:
            from edgeq.models.graphs.source import source_files

            files, root = source_files(self.located.path), self.located.path.parent
        named = {file.relative_to(root).as_posix(): file for file in files}
        if self.images is not None:
            named |= {f"original: {file.name}": file for file in self.images.source_files}
        if self.tokenizer is not None:
            named |= {f"tokenizer: {file.name}": file for file in self.tokenizer.source_files}
        return canonical.sha256_of(
            {name: canonical.sha256_of_file(file) for name, file in named.items()}
        )


def describe(
    source: Source, task: str, folder: Path, where: str, *, weights: bool
) -> DescribedModel:
    """Find the model `source` for a task; with `weights`, download everything a build needs.

    folder: the directory that relative paths start from.

    Raises InvalidInput or Missing, naming `where` in the recipe.
    """
    located = locate(source, folder, where, weights=weights)
    if located.is_file:
        return _describe_graph(located)
    if task_of(task).generates:
        return _describe_decoder(source, located, where)
    directory = read_directory(located.path, where, _tensors_elsewhere(source, located, where))
    has_modules = (located.path / "modules.json").is_file()
    check_task(directory.config, directory.tensors, task_of(task), where, has_modules)
    instead = exporting(located.path, task_of(task).optimum_task)
    instead += ", and name EXPORTED/model.onnx"
    check_encoder(directory.config, where, task_of(task).noun, instead)
    tensors = {
        name: facts.shape
        for name, facts in directory.tensors.items()
        if facts.is_float and not is_unused(name, task_of(task))
    }
    classes = read_classes(directory.config, where) if task_of(task).has_labels else None
    if classes is not None and task_of(task).tags:  # its class knows no other, whatever is stated
        classes = classes.model_copy(update={"function": "softmax"})
    if task_of(task).ranks:
        require_one_label(directory.config, where)
    return DescribedModel(located, tensors, directory, classes=classes)


def _describe_decoder(source: Source, located: Located, where: str) -> DescribedModel:
    """A language model; its configuration alone determines its weights."""
    try:
        elsewhere = _tensors_elsewhere(source, located, where)
    except EdgeqError:
        elsewhere = {}  # a plan needs only the configuration
    directory = read_directory(located.path, where, elsewhere)
    if TEXT not in directory.config:  # else of text and images, in a family that is not known
        check_task(directory.config, directory.tensors, TEXT_GENERATION, where, has_modules=False)
    decoder = decoder_of(directory.config, where)
    if not decoder.unknown:
        _check_heads(decoder, where)
    end_tokens(located.path, directory.config, where)
    wanted = decoder.tensors()
    if directory.tensors:
        misfits = list(_misfits(wanted, directory.tensors, decoder.tied))
        if len(misfits) > _MISFITS_SHOWN:
            rest = len(misfits) - _MISFITS_SHOWN
            misfits[_MISFITS_SHOWN:] = [f"and {rest} more weights do not fit its config.json"]
        problems = [
            Problem(where, f"{located.path}: {what}", "download or save the model again")
            for what in misfits
        ]
        if problems:
            raise InvalidInput(problems)
    return DescribedModel(located, wanted, directory, decoder=decoder)


def _check_heads(decoder: Decoder, where: str) -> None:
    own = decoder.whole_heads.head_dim if decoder.whole_heads else decoder.head_dim
    widths = {decoder.head_dim: "head_dim", own: "head_dim", decoder.rope.dim: "the rotated part"}
    for width, name in widths.items():
        if width % _HEAD_STEP:
            what = f"heads of {decoder.head_dim} columns: {name} {width} is not supported"
            remedy = f"use a model with a multiple of {_HEAD_STEP}"
            raise InvalidInput(Problem(where, what, remedy))


def _misfits(
    wanted: dict[str, tuple[int, ...]], stored: dict[str, TensorFacts], tied: bool
) -> Iterator[str]:
    """Differences between the weights that a configuration promises and those in the files."""
    for name, shape in wanted.items():
        if name not in stored:
            yield f"lacks {name}, which its config.json promises"
        elif stored[name].shape != shape:
            yield f"{name} has the shape {stored[name].shape}, config.json promises {shape}"
    for name in stored:
        is_tied = tied and name == "lm_head.weight"  # compared with the embedding during a build
        if name not in wanted and not is_tied and not name.endswith(_HARMLESS_TENSORS):
            yield f"has {name}, which its config.json does not mention"


def _tensors_elsewhere(
    source: Source, located: Located, where: str
) -> dict[str, TensorFacts] | None:
    """Facts about the weights from the hub if only small files were downloaded for a plan."""
    if source.kind != "hub" or any(located.path.glob("*.safetensors")):
        return None
    found = hub_tensors(source, where)
    return {name: TensorFacts(dtype, shape) for name, (dtype, shape) in found.items()}


def _describe_graph(located: Located) -> DescribedModel:
    try:
        from edgeq.models.graphs.imported import read_onnx
        from edgeq.models.graphs.weights import find_weights
    except ImportError:
        raise missing_extra("onnx", "build", "read an .onnx file") from None
    model = read_onnx(located.path)
    found = {weight.name: weight for weight in find_weights(model)}
    shapes = {name: weight.shape_by_rows for name, weight in found.items()}
    return DescribedModel(located, shapes, None, found, model.graph)
