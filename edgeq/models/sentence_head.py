"""From token vectors to one sentence embedding, by sentence-transformers' files.

Without `modules.json` that library takes the mean of the token vectors and nothing else.
"""

from __future__ import annotations

import json
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
Activation = Literal[
    "Identity",
    "Tanh",
    "ReLU",
    "Sigmoid",
    "GELU",
    "SiLU",
    "LeakyReLU",
    "ELU",
    "SELU",
    "Softplus",
    "Softsign",
]
"""torch.nn's functions, each with its default settings."""
_ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_SETTINGS = "config_sentence_transformers.json"
_HIDDEN_STATES = "output_hidden_states"
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
class LayerNorm:
    """A layer norm after the pooling. name: as for `Dense`."""

    name: str
    file: Path


@dataclass(frozen=True)
class Normalize:
    """To unit length."""


Layer = Dense | LayerNorm | Normalize


@dataclass(frozen=True)
class LayerMix:
    """Token vectors are the weighted mean of those of all layers from `start` on, 0 for the
    embedding. file: with a weight for each of them."""

    file: Path
    start: int


@dataclass(frozen=True)
class SentenceHead:
    """The steps from token vectors to a sentence embedding, in this order.

    poolings: their vectors are joined. truncate: dimensions kept of a vector, None for all; the
    rest is not normalized again. prompts: by name; default_prompt: for texts without another one.
    lower_case: before the tokenizer's own normalization. longest: maximum tokens of a text,
    including special ones, None if only the tokenizer limits them. files: the files read for this.

    mix: of layers, None for the last alone. own_prompt: whether the tokens of a prompt are left out
    of the pooling: then the default prompt is the only one. skipped: their number.
    """

    poolings: tuple[Pooling, ...] = ("mean",)
    layers: tuple[Layer, ...] = ()
    truncate: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    lower_case: bool = False
    longest: int | None = None
    similarity: str = "cosine"
    mix: LayerMix | None = None
    own_prompt: bool = False
    skipped: int = 0
    files: tuple[Path, ...] = ()

    @property
    def pooling(self) -> str:
        """The names of its poolings."""
        return ", ".join(self.poolings)

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length before they are truncated."""
        return self.layers[-1:] == (Normalize(),)

    @property
    def default_text(self) -> str:
        """The default prefix of a text."""
        return self.prompts.get(self.default_prompt or "", "")

    def width(self, hidden: int) -> int:
        """Dimension of a sentence embedding, for token vectors of `hidden`."""
        joined = hidden * len(self.poolings)
        wide = next((x.wide for x in reversed(self.layers) if isinstance(x, Dense)), joined)
        return min(wide, self.truncate or wide)


def read_head(path: Path, where: str) -> SentenceHead:
    """The sentence head of the model in the directory `path`.

    Raises InvalidInput for unsupported modules, poolings and settings, by name.
    """
    if not (path / "modules.json").is_file():
        return SentenceHead()
    pooling, layers, mix = _modules(path, where)
    limits = next((path / name for name in _LIMITS if (path / name).is_file()), path / _LIMITS[0])
    longest, lower_case, has_layers = _limits(limits, where)
    has_layers = has_layers or bool(read_optional(path / "config.json").get(_HIDDEN_STATES))
    mix = mix if has_layers else None  # the library's module does nothing without them
    weights = [each.file for each in layers if not isinstance(each, Normalize)]
    weights += [mix.file] if mix else []
    files = [path / "modules.json", pooling, limits, path / _SETTINGS]
    files += [file for each in weights for file in (each, each.with_name("config.json"))]
    poolings, has_prompt = _poolings(pooling, where)
    said = _said(path, where)
    if not has_prompt:
        said["prompts"] = _only_prompt(said, path, where)
    return SentenceHead(
        poolings=poolings,
        layers=layers,
        lower_case=lower_case,
        longest=longest,
        files=tuple(file for file in files if file.is_file()),
        mix=mix,
        own_prompt=not has_prompt,
        **said,
    )


def _only_prompt(said: Mapping[str, Any], path: Path, where: str) -> dict[str, str]:
    """The default prompt, for which alone the number of its tokens is known beforehand."""
    prompts: dict[str, str] = said["prompts"]
    default = said["default_prompt"]
    if default is None and any(prompts.values()):
        what = "its pooling leaves out the prompt (include_prompt: false), of which none is default"
        names = " or ".join(json.dumps(name) for name, text in prompts.items() if text)
        remedy = f'write "default_prompt_name": {names}, to {path / _SETTINGS}, one for each bundle'
        raise InvalidInput(Problem(where, what, remedy))
    return {} if default is None else {default: prompts[default]}


def _modules(path: Path, where: str) -> tuple[Path, tuple[Layer, ...], LayerMix | None]:
    """The settings of the pooling, the layers behind it, and what is in front of it."""
    file = path / "modules.json"
    before: list[str] = []
    pooling, layers, mix = path, list[Layer](), None
    for module in read_json(file, where, list):
        if not isinstance(module, dict) or not isinstance(module.get("type"), str):
            raise damaged(file, "it is not a list of modules")
        kind, folder = module["type"].rsplit(".", 1)[-1], str(module.get("path") or "")
        if not module["type"].startswith("sentence_transformers."):
            raise _unsupported(path, where, f"{module['type']}, custom Python code")
        match kind, before:
            case "Dropout", _:  # it acts in training alone
                continue
            case "Transformer", []:
                if folder:
                    raise _unsupported(path, where, f"its Transformer in {folder}")
            case "WeightedLayerPooling", ["Transformer"]:
                mix = _layer_mix(path, folder, where)
                continue
            case "Pooling", ["Transformer"]:
                pooling = path / (folder or "1_Pooling") / "config.json"
            case "Dense", ["Transformer", "Pooling", *_]:
                layers.append(_dense(path, folder, where))
            case "LayerNorm", ["Transformer", "Pooling", *_]:
                layers.append(_layer_norm(path, folder, where))
            case "Normalize", ["Transformer", "Pooling", *_]:
                layers.append(Normalize())
            case _:
                after = f" after {', '.join(before)}" if before else " before the Transformer"
                raise _unsupported(path, where, f"{kind}{after}")
        before.append(kind)
    if "Pooling" not in before:
        raise _unsupported(path, where, "no Pooling")
    return pooling, tuple(layers), mix


def _unsupported(path: Path, where: str, what: str) -> InvalidInput:
    return InvalidInput(
        Problem(
            where,
            f"the sentence head of {path} has parts that edgeq does not support: {what}",
            f"supported: WeightedLayerPooling, Pooling of {', '.join(POOLINGS)}, then Dense, "
            "LayerNorm and Normalize",
        )
    )


def _poolings(file: Path, where: str) -> tuple[tuple[Pooling, ...], bool]:
    """The poolings, and whether they are over the tokens of a prompt, too."""
    settings = Settings(read_json(file, where), where, f"{file.parent.name}/{file.name}")
    # dimension of the token vectors
    settings.ignore(["word_embedding_dimension", "embedding_dimension"])
    older = [mode for key, mode in _OLDER_KEYS.items() if settings.flag(key)]
    modes = settings.get("pooling_mode", older or ["mean"])
    modes = [modes] if isinstance(modes, str) else modes
    has_prompt = settings.flag("include_prompt", True)
    problems = [*settings.unread()]
    if problems:
        raise InvalidInput(problems)
    if not isinstance(modes, list) or not modes or any(mode not in POOLINGS for mode in modes):
        shown = ", ".join(map(str, modes)) if isinstance(modes, list) else str(modes)
        raise _unsupported(file.parent.parent, where, f"the pooling {shown or 'of no kind'}")
    return tuple(modes), has_prompt


def _layer_mix(path: Path, folder: str, where: str) -> LayerMix:
    settings = Settings(read_json(path / folder / "config.json", where), where, f"{folder}/config")
    settings.ignore(["word_embedding_dimension", "embedding_dimension", "num_hidden_layers"])
    start = settings.get("layer_start", 4)
    problems = [*settings.unread()]
    if problems:
        raise InvalidInput(problems)
    if type(start) is not int or start < 0:
        raise settings.unusable("layer_start", start, "a number of layers")
    return LayerMix(_weights(path, folder, where, "WeightedLayerPooling"), start)


def _dense(path: Path, folder: str, where: str) -> Dense:
    settings = Settings(read_json(path / folder / "config.json", where), where, f"{folder}/config")
    wide, bias = settings.whole("out_features"), settings.flag("bias", True)
    settings.whole("in_features")
    stated = str(settings.get("activation_function", "torch.nn.Tanh"))
    inside = {"module_input_name": ("sentence_embedding",)}
    inside["module_output_name"] = ("sentence_embedding",)
    problems = [*settings.unsupported(inside), *settings.unread()]
    if problems:
        raise InvalidInput(problems)
    package, _, name = stated.rpartition(".")
    activation = next((known for known in _ACTIVATIONS if known == name), None)
    if activation is None or not f"{package}.".startswith("torch."):
        raise _unsupported(path, where, f"Dense with {stated}")
    return Dense(folder, _weights(path, folder, where, "Dense"), wide, bias, activation)


def _layer_norm(path: Path, folder: str, where: str) -> LayerNorm:
    settings = Settings(read_json(path / folder / "config.json", where), where, f"{folder}/config")
    settings.whole("dimension")
    problems = [*settings.unread()]
    if problems:
        raise InvalidInput(problems)
    return LayerNorm(folder, _weights(path, folder, where, "LayerNorm"))


def _weights(path: Path, folder: str, where: str, kind: str) -> Path:
    if not (path / folder / WEIGHTS).is_file():
        raise _unsupported(path, where, f"{kind} without {folder}/{WEIGHTS}")
    return path / folder / WEIGHTS


def _limits(file: Path, where: str) -> tuple[int | None, bool, bool]:
    """The maximum text length, and whether texts are lower-cased and all layers given."""
    values = read_json(file, where) if file.is_file() else {}
    settings = Settings(values, where, file.name)
    longest = settings.whole("max_seq_length", 1) if "max_seq_length" in settings else None
    lower_case = settings.flag("do_lower_case")
    given = {key: settings.get(key) for key in ("config_args", "config_kwargs")}
    has_layers = any(each == {_HIDDEN_STATES: True} for each in given.values())
    # The library's name for text arguments of transformers, its only mode in older versions.
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    usual = {
        "transformer_task": ("feature-extraction",),
        "modality_config": ({"text": text},),
        "module_output_name": ("token_embeddings",),
        "processing_kwargs": ({},),
        "unpad_inputs": (True, False),
        **dict.fromkeys(("model_args", "tokenizer_args"), ({},)),
        **dict.fromkeys(("model_kwargs", "processor_kwargs"), ({},)),
        **dict.fromkeys(given, ({}, {_HIDDEN_STATES: True})),
    }
    problems = [*settings.unsupported(usual), *settings.unread()]
    if problems:
        raise InvalidInput(problems)
    return longest, lower_case, has_layers


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
