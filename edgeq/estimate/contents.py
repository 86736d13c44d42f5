"""The contents of a model's files: the inputs to estimates of memory and speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.core.artifact import TOKENIZER_FILE, Artifact
from edgeq.core.known_settings import KV_KEY
from edgeq.core.kv_cache import KvType
from edgeq.core.tasks import task_of
from edgeq.estimate.sizes import Sizes, sizes_of_shapes
from edgeq.formats.registry import file_format

_JSON_PER_TOKEN = 70  # bytes of tokenizer.json per token and its merges, if unknown


@dataclass(frozen=True)
class Weight:
    """One weight in a file: its shape, number format, and bytes including scales."""

    shape: tuple[int, ...]
    number_format: str
    bytes: int


@dataclass(frozen=True)
class Contents:
    """A model in a file format.

    weights: by Hugging Face's names. file_bytes: of all files. sizes: None for models that are not
    transformers with usual names. label: of the mix or preset, e.g. `Q4_K_M`. tokenizer_bytes: of
    its `tokenizer.json`, in this file format or the one it came from. max_tokens: of an encoder's
    input. kv: the type of a language model's cache; None for the usual one.
    """

    format: str
    label: str
    task: str
    weights: Mapping[str, Weight]
    file_bytes: int
    sizes: Sizes | None
    tokenizer_bytes: int
    max_tokens: int
    kv: KvType | None = None

    @property
    def weight_bytes(self) -> int:
        """The bytes of all weights in the file."""
        return sum(weight.bytes for weight in self.weights.values())

    @property
    def weights_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by name."""
        return {name: weight.shape for name, weight in self.weights.items()}

    @property
    def cache_type(self) -> KvType:
        """The type of a language model's keys and values."""
        is_float32 = all(
            w.number_format.upper() in ("F32", "FLOAT32") for w in self.weights.values()
        )
        return self.kv or file_format(self.format).kv_type("float32" if is_float32 else self.label)

    @property
    def bytes_per_token(self) -> float:
        """Bytes of weights that are read to generate one token."""
        if self.sizes is None:
            return float(self.weight_bytes)
        share = self.sizes.share
        return sum(weight.bytes * share(name) for name, weight in self.weights.items())


def contents_of_artifact(artifact: Artifact, sizes: Sizes | None = None) -> Contents:
    """The contents of a built artifact; without `sizes`, from the shapes of its weights."""
    weights = {n: Weight(t.shape, t.number_format, t.bytes) for n, t in artifact.tensors.items()}
    longest = artifact.text.max_tokens if artifact.text else 0
    found = sizes or sizes_of_weights(weights, artifact.task, longest)
    tokenizer = artifact.files.get(TOKENIZER_FILE)
    return Contents(
        format=artifact.format,
        label=speed_label(artifact.variant, artifact.settings.get("weights"), artifact.task),
        task=artifact.task,
        weights=weights,
        file_bytes=artifact.bytes,
        sizes=found,
        tokenizer_bytes=tokenizer.bytes if tokenizer else guessed_tokenizer(found),
        max_tokens=longest,
        kv=artifact.settings.get(KV_KEY),
    )


def speed_label(name: str, weights: str | None, task: str) -> str:
    """The format that decides a variant's speed, from its weights: variants may have any name."""
    return weights if weights and task_of(task).generates else name


def guessed_tokenizer(sizes: Sizes | None) -> int:
    """Approximate bytes of an unknown tokenizer."""
    return sizes.vocabulary * _JSON_PER_TOKEN if sizes else 0


def sizes_of_weights(weights: Mapping[str, Weight], task: str, longest: int) -> Sizes | None:
    """Sizes of a transformer from its weights; None if their names are not the usual ones."""
    shapes = {name: weight.shape for name, weight in weights.items()}
    return sizes_of_shapes(shapes, is_decoder=task_of(task).generates, longest=longest)
