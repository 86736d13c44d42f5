"""A model's task: its inputs and outputs, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Takes = Literal["texts", "pairs", "a long text", "images", "audio", "arrays"]


@dataclass(frozen=True)
class FirstRecipe:
    """The first recipe that `edgeq new` proposes.

    formats: preferred file formats, if the device runs them. calibration, evaluation: a file's name
    and its required contents. budgets: of time and quality, as recipes write them. context: at most
    so many positions of a language model's cache; 0 for other tasks. quantize: variants, the first
    in 8 bits. otherwise: variants for a model in which those quantize nothing.
    """

    formats: tuple[str, ...]
    calibration: tuple[str, str]
    evaluation: tuple[str, str]
    budgets: tuple[str, ...]
    context: int = 0
    quantize: tuple[str, ...] = ("int8", "int4")
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One task that a recipe can name.

    name: in recipes. noun: a name for such models, with its article. summary: for the
    recipe's schema. explanation: what it does, for non-experts. consequence: what its
    quality check counts, and where that matters.

    takes: the data that it is calibrated and judged on. generates: whether it generates text token
    by token, with a cache. embeds: whether its answers are vectors that are compared with each
    other. classifies: whether its answers are labels. tags: whether each token of a text gets one.
    detects: whether they are boxes with labels. transcribes: whether they are texts. ranks: whether
    its answer is one score of a query and a text. has_sentence_head: whether token vectors are
    pooled as sentence-transformers' files say.

    architectures: suffixes of the class named in config.json; none for models that exist only as
    .onnx files. auto_class: transformers' class for such a directory. optimum_task: the name used
    by its exporter to ONNX. unused_weights: prefixes, of the name or of a part of it after a dot,
    of weights that no answer depends on.

    first_recipe: what `edgeq new` proposes; None where it cannot.

    verb: the method of a loaded model. metrics: names of the metrics measured in addition to the
    distance from the original's answers, see `edgeq.measure.metrics`. agreement: words after the
    share that agrees with the original, of samples called `{noun}`. budgets: names of budgets
    measured for it and not for every task. in_llama_cpp: whether llama.cpp supports it, so that
    GGUF files can store it.

    >>> from edgeq.core.tasks import task_of
    >>> task_of("sentence-embedding").verb
    'embed'
    """

    name: str
    noun: str
    summary: str
    explanation: str
    consequence: str
    takes: Takes
    verb: str
    budgets: tuple[str, ...] = ()
    generates: bool = False
    embeds: bool = False
    classifies: bool = False
    tags: bool = False
    detects: bool = False
    transcribes: bool = False
    ranks: bool = False
    has_sentence_head: bool = False
    architectures: tuple[str, ...] = ()
    auto_class: str = ""
    optimum_task: str = ""
    unused_weights: tuple[str, ...] = ()
    in_llama_cpp: bool = False
    metrics: tuple[str, ...] = ()
    agreement: str = "of {noun} get the label the original gives"
    first_recipe: FirstRecipe | None = None

    @property
    def takes_arrays(self) -> bool:
        """Whether its inputs are arrays, or become some, whose shapes only an .onnx file says."""
        return self.takes in ("images", "audio", "arrays")

    @property
    def has_labels(self) -> bool:
        """Whether its answers, or parts of them, name classes, which an .onnx file does not say."""
        return self.classifies or self.tags or self.detects or self.transcribes

    @property
    def reads_texts(self) -> bool:
        """Whether a tokenizer makes its inputs of texts, each by itself or with a query."""
        return self.takes in ("texts", "pairs")

    @property
    def samples(self) -> str:
        """A word for its samples."""
        if self.ranks or self.generates:
            return "queries" if self.ranks else "questions"
        if self.takes == "audio":
            return "recordings"
        return self.takes if self.takes in ("texts", "images") else "samples"

    @property
    def takes_files(self) -> bool:
        """Whether a file of its data is one sample: an image or a recording."""
        return self.takes in ("images", "audio")

    @property
    def takes_images(self) -> bool:
        """Whether an image becomes its input as the recipe says."""
        return self.takes == "images"


def exporting(model: object, task: str = "TASK") -> str:
    """What to type for an .onnx file of a directory; task: by optimum's name, if it is known."""
    listed = " (--help lists tasks)" if task == "TASK" else ""
    return f"export it: optimum-cli export onnx --model {model} --task {task} EXPORTED{listed}"
