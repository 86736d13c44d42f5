"""Facts about a Hugging Face-style directory, read without loading a weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.added_tokens import with_tokens
from edgeq.models.architectures import FAMILIES
from edgeq.models.architectures.wrappers import is_of_images, text_part
from edgeq.models.jsonfile import damaged, read_json
from edgeq.models.names import decoder_names, encoder_names, stacked_names
from edgeq.models.sentence_head import SentenceHead, read_head
from edgeq.models.settings import Settings
from edgeq.models.tokenizer_settings import TokenizerSettings, read_tokenizer_settings
from edgeq.models.weight_files import TensorFacts, read_tensors, refuse_quantized, weight_files

# In fairseq, the origin of these, the first token's position is the padding token's plus one.
_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
_SMALL_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)


@dataclass(frozen=True)
class ModelDirectory:
    """An exportable model: configuration, weight headers, tokenizer, sentence head.

    config, tensors: of the language model alone if the model sees images too. tensors: by their
    usual names. stored_names: the names in the files if they differ. stacked: of weights that
    others are stored as, one below the other, those others.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorFacts]
    weight_files: tuple[Path, ...]
    tokenizer: Path
    head: SentenceHead
    max_tokens: int
    licence: str | None
    stored_names: Mapping[str, str] = field(default_factory=dict)
    stacked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokenizer_settings: TokenizerSettings = field(default_factory=TokenizerSettings)

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
        files = [*(self.path / name for name in _SMALL_FILES), *self.head.files]
        return (*self.weight_files, *(file for file in files if file.is_file()))

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
    whole = read_json(path / "config.json", where)
    _refuse_code(path, whole, where)
    _refuse_quantization(path, whole, where)
    config = text_part(whole, where)
    files: tuple[Path, ...] = ()
    if tensors is None:
        files = weight_files(path, where)
        tensors = read_tensors(files)
    if config != whole:
        tensors = {name: facts for name, facts in tensors.items() if not is_of_images(name)}
    for name, facts in tensors.items():
        refuse_quantized(name, facts, where)
    family = FAMILIES.get(str(config.get("model_type")))
    stored = (decoder_names if family else encoder_names)(tensors, where)
    found = {name: tensors[own] for name, own in stored.items()}
    stacked = stacked_names(found, family.stacked) if family else {}
    head = read_head(path, where)
    tokenizer, settings = _tokenizer(path, config, where)
    return ModelDirectory(
        path=path,
        config=config,
        tensors=unstacked(found, stacked),
        weight_files=files,
        tokenizer=tokenizer,
        head=head,
        max_tokens=_max_tokens(path, config, head.longest or settings.longest),
        licence=_licence(path),
        stored_names={name: own for name, own in stored.items() if name != own},
        stacked=stacked,
        tokenizer_settings=settings,
    )


def unstacked(
    tensors: Mapping[str, TensorFacts], stacked: Mapping[str, tuple[str, ...]]
) -> dict[str, TensorFacts]:
    """Facts about weights, with those that are stacked in others instead of these."""
    found = dict(tensors)
    for name, parts in stacked.items():
        facts = found.pop(name)
        shape = (facts.shape[0] // len(parts), *facts.shape[1:])
        found |= dict.fromkeys(parts, TensorFacts(facts.dtype, shape))
    return found


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
            raise InvalidInput(Problem(where, what, "use the model it was made from"))


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


def _licence(path: Path) -> str | None:
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
