"""What every other room may ask of a file format; one object of each lies in its folder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from edgeq.core.artifact import TOKENIZER_FILE, Artifact, Frozen
from edgeq.core.errors import NotComputed, Problem
from edgeq.formats.base import Model
from edgeq.formats.package import Package
from edgeq.models.model import DescribedModel
from edgeq.quantize.decide import Decision
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.number_formats.integers import INT4_B32, INT8_B32
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Storage

if TYPE_CHECKING:  # needs the package onnx_ir
    from edgeq.formats.written import Made, Sources
    from edgeq.models.graphs.weights import Decide, Weight


Runtime = Literal["ONNX Runtime", "llama.cpp", "Core ML"]


class TensorPlan(Frozen):
    """What becomes of one weight; `bytes` is what its codes and scales take in the file.

    activations: the number format of what it multiplies, `float32` for any width of float.
    """

    name: str
    shape: tuple[int, ...]
    grid: str
    method: str
    reason: str
    bytes: int
    activations: str = "float32"


class FileFormat(Storage):
    """A file format that edgeq writes and runs.

    name, title and what its files can hold: see `Storage`. model_file: what its runtime opens.
    packages: what writing it imports, by the extra that installs it. tools: packages whose versions
    decide its bytes, with those of the float graph where `from_graph`, whether it is made from the
    float ONNX graph. has_releases: whether a release of the operating system decides what it can
    hold. tokenizer_is_added: whether its tokenizer is a file of its own. always_has_context:
    whether every model of it, encoders included, is opened for a number of positions. alignment:
    bytes that every tensor in the file is filled up to. compared_by_operator: whether CPUs can be
    compared operator by operator. uses_metal: whether its runtime takes the GPU of Apple's chips.
    compared_presets: what a frontier shows with int8 and int4 for encoders. bare_suffixes: of files
    that it opens without an artifact's record. memory_like: the runtime whose memory its own
    runtime's is estimated by. encoder_presets, decoder_presets: what `recommend` chooses from,
    nearest to the float model first.
    """

    model_file: ClassVar[str]
    packages: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    tools: ClassVar[tuple[str, ...]] = ()
    from_graph: ClassVar[bool] = True
    has_releases: ClassVar[bool] = False
    tokenizer_is_added: ClassVar[bool] = True
    always_has_context: ClassVar[bool] = False
    alignment: ClassVar[int] = 1
    compared_by_operator: ClassVar[bool] = False
    uses_metal: ClassVar[bool] = False
    compared_presets: ClassVar[tuple[str, ...]] = ()
    bare_suffixes: ClassVar[tuple[str, ...]] = ()
    memory_like: ClassVar[Runtime] = "ONNX Runtime"
    encoder_presets: ClassVar[tuple[str, ...]] = ()
    decoder_presets: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def open(
        self, package: Package, threads: int | None, context: int | None, units: str | None
    ) -> Model:
        """A verified artifact, ready to run. Raises InvalidInput or Missing."""

    def open_bare(self, path: Path, threads: int | None, context: int | None) -> Model:
        """A file with one of `bare_suffixes`, ready to run. Raises InvalidInput or Missing."""
        raise NotComputed(Problem(str(path), f"{self.title} files need a record", "build it"))

    def write(self, sources: Sources, name: str, intent: Intent, destination: Path) -> Made:
        """Write the files of the artifact `name` into the directory `destination`.

        edgeq's own formats are written by `pipeline/build`, which knows the recipe.
        """
        what = f"edgeq knows no way to write {self.title} files"
        raise NotComputed(Problem(name, what, f"give {type(self).__name__} a method write()"))

    @abstractmethod
    def import_runtime(self, task: str) -> None:
        """Import what executes it, so that a measurement begins with the model alone."""

    @abstractmethod
    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        """What becomes of every weight. compute: what Core ML's operators compute in."""

    def tensor_words(self, release: str | None) -> tuple[str, ...]:
        """What a budget may make of a tensor, from the smallest: number formats with fast kernels.

        release: of Apple's systems, that the recipe asks for.
        """
        return (INT4_B32.name, INT8_B32.name, FLOAT32.name)

    def weights_word(self, most: str) -> str:
        """What a variant is called whose tensors mostly are `most`, a word of `tensor_words`."""
        return INT8_B32.name

    def stored_word(self, grid: str, word: str) -> str:
        """What a tensor planned as `word` really is, by the number format it got."""
        return word

    def input_rounding(self, grid: str) -> str:
        """How a product's input is rounded for weights of a number format; equal words, equal loss.

        Empty where it is not rounded.
        """
        return "inputs"

    def settle(self, weight: Weight, decide: Decide) -> Decision:
        """What becomes of a weight of a float graph, by what its operators can carry out."""
        from edgeq.models.graphs.weights import settle

        return settle(weight, decide)

    @abstractmethod
    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        """Bytes of all files, estimated: `weights` bytes in `tensors` weights, and the rest."""

    @abstractmethod
    def cache_value_bytes(self, weights: str) -> int:
        """Bytes of one number in a language model's cache, for a variant's `weights`."""

    def adapter_bytes(self, model: DescribedModel, factors: Mapping[str, int], rank: int) -> int:
        """What an adapter of `rank` adds to the files. factors: bytes of each weight's pair."""
        return sum(factors.values())

    def tokenize_with(self, directory: Path) -> Callable[[str, bool], list[int]]:
        """The tokenizer of a language model's artifact: text and whether special tokens go in."""
        from edgeq.formats.tokenizer_pieces import DecoderTokenizer

        return DecoderTokenizer((directory / TOKENIZER_FILE).read_bytes()).ids

    def extras(self, directory: Path, artifact: Artifact) -> dict[str, bytes]:
        """Files that an app's developer needs with the artifact, by name."""
        return {}

    def notes(self, model: DescribedModel) -> tuple[str, ...]:
        """Where its runtime is not the model, whatever the number formats; for people to read.

        Raises InvalidInput where it would read ordinary text otherwise than the model does.
        """
        return ()

    def stored(self, size: int) -> int:
        """`size` bytes of a tensor, filled up as the file does."""
        return -(-size // self.alignment) * self.alignment
