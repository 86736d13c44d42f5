"""A writer's report on the files that it wrote, for the artifact's record."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeq.core.artifact import TOKENIZER_FILE, TensorRecord, TextSettings, ValueInfo
from edgeq.core.known_settings import KV_KEY
from edgeq.core.tasks import SENTENCE_EMBEDDING, Task
from edgeq.core.terms import Progress
from edgeq.formats.chat import CHAT_FILES, chat_of_directory
from edgeq.models.huggingface import TextFiles
from edgeq.models.model import DescribedModel
from edgeq.quantize.decide import Decision
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.spec import Intent
from edgeq.quantize.statistics import Feed


@dataclass(frozen=True)
class Made:
    """The files by name, and what the record shall hold about them.

    max_tokens: the longest text the files take; None for what the model itself takes.
    """

    files: list[str]
    tensors: dict[str, TensorRecord]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    settings: dict[str, Any]
    max_tokens: int | None = None


class Sources(Protocol):
    """The inputs that `build` passes to `FileFormat.write`."""

    progress: Progress

    @property
    def model(self) -> DescribedModel:
        """The model, its weights unread."""

    def float_graph(self) -> Path:
        """A directory with the model as an ONNX graph in float32."""

    def feeds(self, graph: Path) -> list[Feed]:
        """The calibration data as inputs of that graph; none without any data."""

    def codes(self, decisions: dict[str, Decision], describe: str) -> dict[str, QuantizedTensor]:
        """Codes of every weight that `decisions` put in a number format, by name; there is one."""


def copy_tokenizer(
    directory: TextFiles, destination: Path, *, settings: bool, max_tokens: int | None
) -> list[str]:
    """Write a model's tokenizer, and its files for chat if any; returns the files' names.

    settings: whether its settings are wanted even without a chat template. max_tokens: where texts
    are truncated; None for a language model's, which are not.
    """
    tokenizer = checked_tokenizer(directory.tokenizer_json(), max_tokens)
    (destination / TOKENIZER_FILE).write_bytes(tokenizer)
    names = [TOKENIZER_FILE]
    if settings or chat_of_directory(directory.path).template is not None:
        for name in CHAT_FILES:
            if (directory.path / name).is_file():
                shutil.copyfile(directory.path / name, destination / name)
                names.append(name)
    return names


def text_settings(
    directory: TextFiles, longest: int | None = None, task: Task = SENTENCE_EMBEDDING
) -> TextSettings:
    """How an encoder takes text. longest: what its file takes, where that is less."""
    if not task.has_sentence_head:
        return TextSettings(max_tokens=longest or directory.max_tokens)
    head = directory.head
    return TextSettings(
        max_tokens=longest or directory.max_tokens,
        pooling=head.pooling,
        normalize=head.normalize,
        shortened=head.truncate is not None,
        prompts=dict(head.prompts),
        default_prompt=head.default_prompt,
        similarity=head.similarity,
        own_prompt=head.own_prompt,
    )


def checked_tokenizer(content: bytes, max_tokens: int | None) -> bytes:
    """A `tokenizer.json` that cuts texts where edgeq does and pads none, whoever opens it.

    Padding is not part of a text, and models are saved with the length of some training run.
    """
    tokenizer = json.loads(content)
    own = tokenizer.get("truncation")
    side = own.get("direction", "Right") if isinstance(own, dict) else "Right"
    cut = {"direction": side, "max_length": max_tokens, "strategy": "LongestFirst", "stride": 0}
    tokenizer["truncation"] = None if max_tokens is None else cut
    tokenizer["padding"] = None
    return json.dumps(tokenizer, ensure_ascii=False, indent=2).encode()


def settings_of(intent: Intent) -> dict[str, Any]:
    """The settings of a variant, as the record has them."""
    settings = intent.variant.model_dump(mode="json", exclude={"name"})
    return {**settings, **({KV_KEY: intent.kv} if intent.kv else {})}
