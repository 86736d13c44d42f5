"""The interface of a file format for every other room; each format's folder has one object."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from edgeq.core.artifact import Artifact, Frozen
from edgeq.core.errors import NotComputed, Problem
from edgeq.formats.apple.releases import Release
from edgeq.formats.opener import Opener
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.number_formats.integers import INT4_B32, INT8_B32
from edgeq.quantize.storage import Storage

if TYPE_CHECKING:  # what runs a model does without what reads and rounds one
    from edgeq.formats.written import Made, Sources
    from edgeq.models.graphs.weights import Decide, Weight
    from edgeq.models.model import DescribedModel
    from edgeq.quantize.decide import Decision
    from edgeq.quantize.spec import Intent


Runtime = Literal["ONNX Runtime", "llama.cpp", "Core ML"]


class TensorPlan(Frozen):
    """The plan for one weight; `bytes` is the size of its codes and scales in the file.

    activations: the number format of its inputs, `float32` for any width of float.
    """

    name: str
    shape: tuple[int, ...]
    number_format: str
    method: str
    reason: str
    bytes: int
    activations: str = "float32"


class FileFormat(Opener, Storage):
    """A file format that edgeq writes and runs.

    name, title and what its files can store: see `Storage`; what opens them: see `Opener`.
    section: the name of its settings in a recipe, empty without any. packages: imports for writing
    it, by the extra that installs them. tools: packages whose versions decide its bytes, plus those
    of the float graph if `from_graph`, whether it is made from the float ONNX graph.
    stores_any_file: whether a GGUF file of any architecture can be stored in it, in other types.
    first_release: the first of Apple's systems with its runtime; None for a runtime that other
    systems have. has_releases: whether its features depend on the release. tokenizer_is_added:
    whether its tokenizer is a separate file. alignment: in bytes, of every tensor in the file.
    compared_by_operator: whether CPUs can be compared operator by operator. uses_metal: whether its
    runtime uses the GPU of Apple's chips. compared_presets: shown by a frontier in addition to int8
    and int4 for encoders. memory_like: the runtime used to estimate memory. encoder_presets,
    decoder_presets: the choices of `recommend`, nearest to the float model first.
    """

    section: ClassVar[str] = ""
    packages: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    tools: ClassVar[tuple[str, ...]] = ()
    from_graph: ClassVar[bool] = True
    stores_any_file: ClassVar[bool] = False
    first_release: ClassVar[Release | None] = None
    has_releases: ClassVar[bool] = False
    tokenizer_is_added: ClassVar[bool] = True
    alignment: ClassVar[int] = 1
    compared_by_operator: ClassVar[bool] = False
    uses_metal: ClassVar[bool] = False
    compared_presets: ClassVar[tuple[str, ...]] = ()
    memory_like: ClassVar[Runtime] = "ONNX Runtime"
    encoder_presets: ClassVar[tuple[str, ...]] = ()
    decoder_presets: ClassVar[tuple[str, ...]] = ()

    def write(self, sources: Sources, name: str, intent: Intent, destination: Path) -> Made:
        """Write the files of the artifact `name` into the directory `destination`.

        edgeq's own formats are written by `pipeline/build`, which knows the recipe.
        """
        what = f"edgeq cannot write {self.title} files"
        raise NotComputed(Problem(name, what, f"give {type(self).__name__} a method write()"))

    @abstractmethod
    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        """Plan every weight. compute: the float type of operators, from its recipe section."""

    def tensor_words(self, release: str | None) -> tuple[str, ...]:
        """The options of a tensor for a budget, smallest first: number formats with fast kernels.

        release: of Apple's systems, requested by the recipe.
        """
        return (INT4_B32.name, INT8_B32.name, FLOAT32.name)

    def expanded_words(self) -> tuple[str, ...]:
        """The options of tensors that no kernel reads in codes, expanded when a file is opened."""
        return ()

    def weights_word(self, most: str) -> str:
        """The name of a variant whose tensors mostly are `most`, a word of `tensor_words`."""
        return INT8_B32.name

    def stored_word(self, number_format: str, word: str) -> str:
        """The actual format of a tensor planned as `word`, by the number format it got."""
        return word

    def input_rounding(self, number_format: str) -> str:
        """How inputs are rounded for weights of a number format; equal words mean equal loss.

        Empty if they are not rounded.
        """
        return "inputs"

    def settle(self, weight: Weight, decide: Decide) -> Decision:
        """The decision for a weight of a float graph, within its operators' abilities."""
        from edgeq.models.graphs.weights import settle

        return settle(weight, decide)

    @abstractmethod
    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        """Estimated bytes of all files: `weights` bytes in `tensors` weights, and all the rest."""

    def adapter_bytes(self, model: DescribedModel, factors: Mapping[str, int], rank: int) -> int:
        """Bytes that an adapter of `rank` adds to files. factors: bytes of each weight's pair."""
        return sum(factors.values())

    def extras(
        self, directory: Path, artifact: Artifact, documents: Collection[str] = ()
    ) -> dict[str, bytes]:
        """Files for an app's developer in addition to the artifact and `documents`, by name."""
        return {}

    def notes(self, model: DescribedModel) -> tuple[str, ...]:
        """Deviations of its runtime from the model that do not depend in number formats, for
        readers.

        Raises InvalidInput if it would tokenize ordinary text differently than the model.
        """
        return ()

    def stored(self, size: int) -> int:
        """`size` bytes of a tensor, padded as in the file."""
        return -(-size // self.alignment) * self.alignment
