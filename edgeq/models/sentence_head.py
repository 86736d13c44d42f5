"""From token vectors to one sentence embedding, by sentence-transformers' files.

Without `modules.json` that library takes the mean of the token vectors and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.jsonfile import damaged, read_json, read_optional
from edgeq.models.settings import Settings
from edgeq.models.weight_files import WEIGHTS

Pooling = Literal["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
_OLDER_KEYS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
Activation = Literal["Identity", "Tanh", "ReLU", "Sigmoid"]
_ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_SETTINGS = "config_sentence_transformers.json"
_LIMITS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


@dataclass(frozen=True)
class Dense:
    """A linear layer after the pooling. name: of its folder, the prefix of its weights' names."""

    name: str
    file: Path
    wide: int
    bias: bool
    activation: Activation


@dataclass(frozen=True)
class SentenceHead:
    """The steps from token vectors to a sentence embedding, in this order.

    normalize: to unit length. truncate: dimensions kept of a vector, None for all; the rest is not
    normalized again. prompts: by name; default_prompt: for texts without another one. lower_case:
    before the tokenizer's own normalization. longest: maximum tokens of a text, including special
    ones, None if only the tokenizer limits them. files: the files read for this.
    """

    pooling: Pooling = "mean"
    normalize: bool = False
    dense: tuple[Dense, ...] = ()
    truncate: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    lower_case: bool = False
    longest: int | None = None
    similarity: str = "cosine"
    files: tuple[Path, ...] = ()

    @property
    def default_text(self) -> str:
        """The default prefix of a text."""
        return self.prompts.get(self.default_prompt or "", "")

    def width(self, hidden: int) -> int:
        """Dimension of a sentence embedding, for token vectors of `hidden`."""
        wide = self.dense[-1].wide if self.dense else hidden
        return min(wide, self.truncate or wide)


def read_head(path: Path, where: str) -> SentenceHead:
    """The sentence head of the model in the directory `path`.

    Raises InvalidInput for unsupported modules, poolings and settings, by name.
    """
    if not (path / "modules.json").is_file():
        return SentenceHead()
    modules = _modules(path, where)
    pooling_folder = modules.get("Pooling", "") or "1_Pooling"
    pooling_file = path / pooling_folder / "config.json"
    if "Pooling" not in modules:
        raise _unsupported(path, where, "no Pooling")
    dense = tuple(
        _dense(path, folder, where)
        for kind, folder in modules.items()
        if kind.partition(":")[0] == "Dense"
    )
    limits = next((path / name for name in _LIMITS if (path / name).is_file()), path / _LIMITS[0])
    longest, lower_case = _limits(limits, where)
    files = [path / "modules.json", pooling_file, limits, path / _SETTINGS]
    files += [file for each in dense for file in (each.file, each.file.with_name("config.json"))]
    return SentenceHead(
        pooling=_pooling(pooling_file, where),
        normalize="Normalize" in modules,
        dense=dense,
        lower_case=lower_case,
        longest=longest,
        files=tuple(file for file in files if file.is_file()),
        **_said(path, where),
    )


def _modules(path: Path, where: str) -> dict[str, str]:
    """The folder of each module, by kind; several Dense ones are `Dense:1` and so on."""
    file = path / "modules.json"
    found: dict[str, str] = {}
    for module in read_json(file, where, list):
        if not isinstance(module, dict) or not isinstance(module.get("type"), str):
            raise damaged(file, "it is not a list of modules")
        kind = module["type"].rsplit(".", 1)[-1]
        if not module["type"].startswith("sentence_transformers."):
            raise _unsupported(path, where, f"{module['type']}, custom Python code")
        if kind == "Dropout":
            continue  # it acts in training alone
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise _unsupported(path, where, kind)
        if kind != "Transformer" and "Transformer" not in found:
            raise _unsupported(path, where, f"{kind} before the Transformer")
        if kind == "Dense" and "Normalize" in found:
            raise _unsupported(path, where, "Dense after Normalize")
        if kind in found and kind != "Dense":
            raise _unsupported(path, where, f"two of {kind}")
        name = f"{kind}:{len(found)}" if kind == "Dense" else kind
        found[name] = str(module.get("path") or "")
    if found.get("Transformer"):
        raise _unsupported(path, where, f"its Transformer in {found['Transformer']}")
    return found


def _unsupported(path: Path, where: str, what: str) -> InvalidInput:
    return InvalidInput(
        Problem(
            where,
            f"the sentence head of {path} has parts that edgeq does not support: {what}",
            f"supported: one Pooling of {', '.join(POOLINGS)}, then Dense, then Normalize",
        )
    )


def _pooling(file: Path, where: str) -> Pooling:
    settings = Settings(read_json(file, where), where, f"{file.parent.name}/{file.name}")
    # dimension of the token vectors
    settings.ignore(["word_embedding_dimension", "embedding_dimension"])
    older = [mode for key, mode in _OLDER_KEYS.items() if settings.flag(key)]
    modes = settings.get("pooling_mode", older or ["mean"])
    modes = [modes] if isinstance(modes, str) else modes
    problems = [*settings.unsupported({"include_prompt": (True,)}), *settings.unread()]
    if problems:
        raise InvalidInput(problems)
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in POOLINGS:
        shown = ", ".join(map(str, modes)) if isinstance(modes, list) else str(modes)
        raise _unsupported(file.parent.parent, where, f"the pooling {shown}")
    mode: Pooling = modes[0]
    return mode


def _dense(path: Path, folder: str, where: str) -> Dense:
    settings = Settings(read_json(path / folder / "config.json", where), where, f"{folder}/config")
    wide, bias = settings.whole("out_features"), settings.flag("bias", True)
    settings.whole("in_features")
    activation = str(settings.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    inside = {"module_input_name": ("sentence_embedding",)}
    inside["module_output_name"] = ("sentence_embedding",)
    problems = [*settings.unsupported(inside), *settings.unread()]
    if problems:
        raise InvalidInput(problems)
    known = next((name for name in _ACTIVATIONS if name == activation), None)
    if known is None:
        raise _unsupported(path, where, f"Dense with {activation}")
    if not (path / folder / WEIGHTS).is_file():
        raise _unsupported(path, where, f"Dense without {folder}/{WEIGHTS}")
    return Dense(folder, path / folder / WEIGHTS, wide, bias, known)


def _limits(file: Path, where: str) -> tuple[int | None, bool]:
    """The maximum text length and whether texts are lower-cased."""
    values = read_json(file, where) if file.is_file() else {}
    settings = Settings(values, where, file.name)
    longest = settings.whole("max_seq_length", 1) if "max_seq_length" in settings else None
    lower_case = settings.flag("do_lower_case")
    # The library's name for text arguments of transformers, its only mode in older versions.
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    usual = {
        "transformer_task": ("feature-extraction",),
        "modality_config": ({"text": text},),
        "module_output_name": ("token_embeddings",),
        "processing_kwargs": ({},),
        "unpad_inputs": (True, False),
        **dict.fromkeys(("model_args", "tokenizer_args", "config_args"), ({},)),
        **dict.fromkeys(("model_kwargs", "processor_kwargs", "config_kwargs"), ({},)),
    }
    problems = [*settings.unsupported(usual), *settings.unread()]
    if problems:
        raise InvalidInput(problems)
    return longest, lower_case


def _said(path: Path, where: str) -> dict[str, Any]:
    """Prompts, the dimension of embeddings and their similarity function."""
    settings = Settings(read_optional(path / _SETTINGS), where, _SETTINGS)
    settings.ignore(["__version__"])
    prompts, default = settings.mapping("prompts"), settings.get("default_prompt_name")
    if not all(isinstance(text, str) for text in prompts.values()):
        raise settings.unusable("prompts", prompts, "a text by name")
    if default is not None and default not in prompts:
        raise settings.unusable("default_prompt_name", default, "the name of one of its prompts")
    truncate = settings.whole("truncate_dim", 1) if "truncate_dim" in settings else None
    similarity = settings.get("similarity_fn_name", "cosine")
    if similarity not in SIMILARITIES:
        wanted = f"one of {', '.join(SIMILARITIES)}"
        raise settings.unusable("similarity_fn_name", similarity, wanted)
    problems = [
        *settings.unsupported({"model_type": ("SentenceTransformer",)}),
        *settings.unread(),
    ]
    if problems:
        raise InvalidInput(problems)
    return {
        "prompts": prompts,
        "default_prompt": default,
        "truncate": truncate,
        "similarity": similarity,
    }
