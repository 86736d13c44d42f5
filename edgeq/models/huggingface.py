"""Facts about a Hugging Face-style directory, read without loading a weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.added_tokens import with_tokens
from edgeq.models.architectures import FAMILIES, Family, decoder_of
from edgeq.models.architectures.wrappers import is_left_out, text_part
from edgeq.models.jsonfile import damaged, read_json, read_optional
from edgeq.models.names import (
    ExpertPart,
    decoder_names,
    encoder_names,
    expert_parts,
    stacked_names,
)
from edgeq.models.sentence_head import SentenceHead, read_head
from edgeq.models.settings import Settings
from edgeq.models.tokenizer_settings import TokenizerSettings, read_tokenizer_settings
from edgeq.models.weight_files import TensorFacts, read_tensors, refuse_quantized, weight_files

# In fairseq, the origin of these, the first token's position is the padding token's plus one.
_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
_UNLIMITED = 1e9  # tokens; transformers writes 1e30 where a tokenizer has no limit of its own
_SMALL_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """How a model takes text: its tokenizer, the settings next to it, and the sentence head.

    config: the config.json of the directory `path`, for an .onnx file empty without one.
    """

    path: Path
    config: dict[str, Any]
    tokenizer: Path
    head: SentenceHead
    max_tokens: int
    tokenizer_settings: TokenizerSettings = field(default_factory=TokenizerSettings)

    @property
    def source_files(self) -> tuple[Path, ...]:
        """Every file whose content affects the build."""
        files = [*(self.path / name for name in _SMALL_FILES), *self.head.files]
        return tuple(file for file in files if file.is_file())

    def tokenizer_json(self) -> bytes:
        """The tokenizer as the model uses it: with its added tokens, lower-casing and truncation.

        The file itself if the settings change nothing in it.
        """
        content = self.tokenizer.read_bytes()
        settings = self.tokenizer_settings
        if not (self.head.lower_case or settings.tokens or settings.cut):
            return content
        made = with_tokens(json.loads(content), settings.tokens, self.config.get("vocab_size"))
        if settings.cut is not None:
            made["truncation"] = _cut(settings.cut, self.max_tokens)
        normalizer = made.get("normalizer")
        if self.head.lower_case and not _lowers(normalizer):
            own = normalizer if isinstance(normalizer, dict) else {"normalizers": []}
            parts = [{"type": "Lowercase"}, *own.get("normalizers", [own])]
            made["normalizer"] = {"type": "Sequence", "normalizers": parts}
        return json.dumps(made, ensure_ascii=False).encode()


@dataclass(frozen=True, kw_only=True)
class ModelDirectory(TextFiles):
    """An exportable model: configuration, weight headers, tokenizer, sentence head.

    config, tensors: of the language model alone if the model sees images too. tensors: by their
    usual names. stored_names: the names in the files if they differ. stacked: of weights that
    others are stored as, one below the other, those others. of_experts: where each expert's weights
    lie in those of all. extended: rows of tables that have fewer in the files.
    absent: shapes of weights that nothing reads and the files lack: zeros.
    """

    tensors: dict[str, TensorFacts]
    weight_files: tuple[Path, ...]
    licence: str | None
    stored_names: Mapping[str, str] = field(default_factory=dict)
    stacked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extended: Mapping[str, int] = field(default_factory=dict)
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    of_experts: Mapping[str, ExpertPart] = field(default_factory=dict)

    @property
    def hidden_size(self) -> int:
        """Width of a token vector."""
        return self._number("hidden_size", "dim")

    @property
    def dimension(self) -> int:
        """Dimension of a sentence embedding."""
        return self.head.width(self.hidden_size)

    @property
    def attention_heads(self) -> int:
        """Attention heads of a layer."""
        return self._number("num_attention_heads", "n_heads")

    def _number(self, *names: str) -> int:
        """The first of `names` in the configuration; DistilBERT has its own."""
        for name in names:
            if isinstance(self.config.get(name), int):
                return int(self.config[name])
        what = f"has no {names[0]}"
        where = str(self.path / "config.json")
        raise InvalidInput(Problem(where, what, "use a model whose config.json says it"))

    @property
    def source_files(self) -> tuple[Path, ...]:
        """Every file whose content affects the build."""
        return (*self.weight_files, *super().source_files)


# gpt-oss was released in no other format.
_DEQUANTIZE = (
    "save it in full precision: AutoModelForCausalLM.from_pretrained(MODEL, "
    "quantization_config=Mxfp4Config(dequantize=True)).save_pretrained(DIR); llama.cpp's "
    "convert_hf_to_gguf.py keeps its values as they are, and edgeq runs and audits that file"
)

Files = TypeVar("Files", bound=TextFiles)


def with_dimension(files: Files, dimension: int | None) -> Files:
    """The same model, of whose vectors so many values are kept; None for what its files say."""
    if dimension is None:
        return files
    return replace(files, head=replace(files.head, truncate=dimension))


def _cut(side: str, longest: int) -> dict[str, Any]:
    """Truncation in tokenizer.json's format, at the beginning ("left") or the end of long texts."""
    cut = {"strategy": "LongestFirst", "stride": 0, "max_length": longest}
    return {**cut, "direction": side.capitalize()}


def _lowers(normalizer: Any) -> bool:
    """Whether a tokenizer's normalizer already lower-cases."""
    if not isinstance(normalizer, dict):
        return False
    kind = normalizer.get("type")
    if kind == "Sequence":
        return any(map(_lowers, normalizer.get("normalizers", [])))
    return kind == "Lowercase" or (kind == "BertNormalizer" and bool(normalizer.get("lowercase")))


def read_directory(
    path: Path, where: str, tensors: dict[str, TensorFacts] | None = None
) -> ModelDirectory:
    """Facts about the model in `path`; `where` is the place in the recipe that errors name.

    tensors: facts about the weights if they are known from elsewhere and the files are missing.
    Raises InvalidInput for pickled weights, already quantized weights, custom code, and files that
    are missing, damaged or superfluous.
    """
    whole = own_config(path, where)
    config = text_part(whole, where)
    files: tuple[Path, ...] = ()
    if tensors is None:
        files = weight_files(path, where)
        tensors = read_tensors(files)
    if config != whole:
        tensors = {name: facts for name, facts in tensors.items() if not is_left_out(name)}
    for name, facts in tensors.items():
        refuse_quantized(name, facts, where)
    family = FAMILIES.get(str(config.get("model_type")))
    stored = (decoder_names if family else encoder_names)(tensors, where)
    found = {name: tensors[own] for name, own in stored.items()}
    stacked = stacked_names(found, family.stacked) if family else {}
    joined = _expert_parts(found, family) if family else {}
    extended = _extended(found, config, family) if family else {}
    unread = _unread(config, family, where) if family and family.unread else {}
    absent = {name: shape for name, shape in unread.items() if shape and name not in found}
    found = {name: facts for name, facts in found.items() if unread.get(name, (1,))}
    head = read_head(path, where)
    tokenizer, settings = _tokenizer(path, config, where)
    made = ModelDirectory(
        path=path,
        config=config,
        tensors=unstacked(found, stacked, joined) | _further(found, extended, absent),
        weight_files=files,
        tokenizer=tokenizer,
        head=head,
        max_tokens=_max_tokens(path, config, head.longest or settings.longest),
        licence=licence_of(path),
        stored_names={name: own for name, own in stored.items() if name != own},
        stacked=stacked,
        of_experts=joined,
        extended=extended,
        absent=absent,
        tokenizer_settings=settings,
    )
    return replace(made, head=replace(head, skipped=_prompt_tokens(made, where)))


def _prompt_tokens(files: TextFiles, where: str) -> int:
    """The tokens of the default prompt if they are left out of the pooling, as the library counts
    them: alone, without a special token at the end."""
    if not (files.head.own_prompt and files.head.default_text):
        return 0
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(files.tokenizer_json())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = tokenizer.encode(files.head.default_text).ids
    added = tokenizer.get_added_tokens_decoder()
    count = len(ids) - (bool(ids) and ids[-1] in added and added[ids[-1]].special)
    if count + 1 >= files.max_tokens:
        what = f"its prompt has {count} tokens, and a text at most {files.max_tokens}"
        raise InvalidInput(Problem(where, what, "shorten the prompt: nothing of a text is left"))
    return count


def read_text_files(path: Path, where: str) -> TextFiles:
    """How the model of an .onnx file takes text, by the files of its tokenizer in `path`.

    Raises InvalidInput as `read_directory` does, and where no file says how long a text may be.
    """
    if not path.is_dir():
        what = f"no directory {path}"
        remedy = "name the one that the model was exported to, with tokenizer.json"
        raise InvalidInput(Problem(where, what, remedy))
    config = read_optional(path / "config.json")
    head = read_head(path, where)
    tokenizer, settings = _tokenizer(path, config, where)
    if head.mix is not None or (head.own_prompt and head.default_text):
        what = "its sentence head needs more than the .onnx file gives: layers, or prompts left out"
        raise InvalidInput(Problem(where, what, "name the model's directory as the source"))
    longest = head.longest or settings.longest or _UNLIMITED
    if "max_position_embeddings" in config:
        longest = _max_tokens(path, config, longest)
    elif longest >= _UNLIMITED:
        what = f"no file in {path} says how many tokens a text can have"
        remedy = f'write {{"model_max_length": 512}}, or less, to {path / "tokenizer_config.json"}'
        raise InvalidInput(Problem(where, what, remedy))
    return TextFiles(
        path=path,
        config=config,
        tokenizer=tokenizer,
        head=head,
        max_tokens=int(longest),
        tokenizer_settings=settings,
    )


def own_config(path: Path, where: str) -> dict[str, Any]:
    """The config.json in `path`. Raises InvalidInput for custom code and quantized weights."""
    config: dict[str, Any] = read_json(path / "config.json", where)
    _refuse_code(path, config, where)
    _refuse_quantization(path, config, where)
    return config


def unstacked(
    tensors: Mapping[str, TensorFacts],
    stacked: Mapping[str, tuple[str, ...]],
    of_experts: Mapping[str, ExpertPart],
) -> dict[str, TensorFacts]:
    """Facts about weights, with those that are stacked or joined in others instead of these."""
    wholes = {part.whole for part in of_experts.values()}
    found = {name: facts for name, facts in tensors.items() if name not in wholes}
    for name, part in of_experts.items():
        facts = tensors[part.whole]
        found[name] = TensorFacts(facts.dtype, part.shape(facts.shape))
    for name, parts in stacked.items():
        facts = found.pop(name)
        shape = (facts.shape[0] // len(parts), *facts.shape[1:])
        found |= dict.fromkeys(parts, TensorFacts(facts.dtype, shape))
    return found


def _extended(
    tensors: Mapping[str, TensorFacts], config: Mapping[str, Any], family: Family
) -> dict[str, int]:
    """Rows that a model needs of its tables, of those that have fewer."""
    needed = {name: config.get(key) for name, key in family.extended.items() if name in tensors}
    return {
        name: rows
        for name, rows in needed.items()
        if isinstance(rows, int) and 0 < tensors[name].shape[0] < rows
    }


def _unread(config: Mapping[str, Any], family: Family, where: str) -> dict[str, tuple[int, ...]]:
    """Shapes of weights that nothing reads; without axes if they are left out of every file."""
    decoder = decoder_of(config, where)
    shapes = decoder.tensors()
    unread = (f"model.layers.{at}.{name}" for at in decoder.borrowed for name in family.unread)
    return {name: shapes.get(name, ()) for name in unread}


def _further(
    tensors: Mapping[str, TensorFacts],
    extended: Mapping[str, int],
    absent: Mapping[str, tuple[int, ...]],
) -> dict[str, TensorFacts]:
    """Facts about weights that the files have in part, or not at all."""
    longer = {
        name: replace(tensors[name], shape=(rows, *tensors[name].shape[1:]))
        for name, rows in extended.items()
    }
    return longer | {name: TensorFacts("F32", shape) for name, shape in absent.items()}


def _expert_parts(tensors: Mapping[str, TensorFacts], family: Family) -> dict[str, ExpertPart]:
    shapes = {name: facts.shape for name, facts in tensors.items()}
    return expert_parts(shapes, family.joined_experts, family.experts_by_rows)


def _refuse_code(path: Path, config: Mapping[str, Any], where: str) -> None:
    if "auto_map" in config:
        raise InvalidInput(
            Problem(
                where,
                f"{path} needs custom Python code (auto_map in config.json), and code that comes "
                f"with a model is never run",
                "use a model with an architecture built into transformers",
            )
        )


def _refuse_quantization(path: Path, config: Mapping[str, Any], where: str) -> None:
    for key in ("quantization_config", "compression_config"):
        found = config.get(key)
        if found is not None:
            method = found.get("quant_method", "") if isinstance(found, dict) else ""
            what = f"{path} is already quantized: config.json has {key} {method}".rstrip()
            remedy = _DEQUANTIZE if method == "mxfp4" else "use the model it was made from"
            raise InvalidInput(Problem(where, what, remedy))


def _tokenizer(path: Path, config: Mapping[str, Any], where: str) -> tuple[Path, TokenizerSettings]:
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise InvalidInput(
            Problem(
                where,
                f"{path} has no tokenizer.json",
                "save the tokenizer in the fast format: "
                "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            )
        )
    content = read_json(tokenizer, where)
    if not isinstance(content.get("model"), dict):
        raise damaged(tokenizer, "it has no model")
    return tokenizer, read_tokenizer_settings(path, config, content, where)


def _max_tokens(path: Path, config: Mapping[str, Any], wanted: float | None) -> int:
    """Maximum text length in tokens: as in sentence-transformers, limited by the positions.

    wanted: from the settings, None if they do not say.
    """
    settings = Settings(config, str(path), "config.json")
    longest = settings.whole("max_position_embeddings", 512)
    if config.get("model_type") in _POSITIONS_BEHIND_PADDING:
        padding = settings.get("pad_token_id", 1)
        if not isinstance(padding, int) or not 0 <= padding < longest - 1:
            raise settings.unusable("pad_token_id", padding, "a token's id")
        longest -= padding + 1
    return int(longest if wanted is None else min(wanted, longest))


def licence_of(path: Path) -> str | None:
    """The `license:` line of a model card's front matter."""
    card = path / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0] != "---":
        return None
    for line in lines[1:]:
        if line == "---":
            return None
        if line.startswith("license:"):
            return line.partition(":")[2].partition(" #")[0].strip().strip("\"'") or None
    return None
