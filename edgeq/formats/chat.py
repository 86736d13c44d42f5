"""Chat messages as text, by the chat template in the model's file."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.core import child
from edgeq.core.artifact import CHAT_TEMPLATE_FILE, TOKENIZER_SETTINGS_FILE
from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.formats import template_child
from edgeq.formats.language import LanguageModel
from edgeq.models.special_tokens import named_templates, spelling

Message = Mapping[str, Any]
"""`role` and `content`, and any other keys that a template reads."""

CHAT_FILES = (TOKENIZER_SETTINGS_FILE, CHAT_TEMPLATE_FILE)
"""Files in an artifact for `read_chat`, in addition to its tokenizer."""


_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_PATIENCE_SECONDS = 30.0  # seconds on a busy machine: the child's own limit counts only CPU time
_OUT_OF_TIME = {-getattr(signal, name, 0) or None for name in ("SIGXCPU", "SIGKILL")}


@dataclass(frozen=True)
class Chat:
    """Chat settings from a tokenizer's files. template: None without one.

    special_tokens: their spellings, by the names that templates use, such as `bos_token`.
    """

    template: str | None = None
    special_tokens: Mapping[str, Any] = field(default_factory=dict)


def read_chat(settings: bytes | None, template: bytes | None) -> Chat:
    """Read `tokenizer_config.json` and `chat_template.jinja`; None for a missing one.

    The latter takes precedence, as in transformers; of several templates, the one called default is
    used. Invalid files are ignored.
    """
    try:
        parsed = json.loads(settings or b"{}")
    except (ValueError, RecursionError):
        parsed = {}
    parsed = parsed if isinstance(parsed, dict) else {}
    text = None if template is None else template.decode("utf-8", "replace")
    return Chat(named_templates(parsed, text).get("default"), _special_tokens(parsed))


def chat_of_directory(directory: Path) -> Chat:
    """The settings of a Hugging Face directory."""
    files = (directory / name for name in CHAT_FILES)
    return read_chat(*(file.read_bytes() if file.is_file() else None for file in files))


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    spelled: dict[str, Any] = {
        f"{kind}_token": spelling(settings.get(f"{kind}_token")) for kind in _SPECIAL
    }
    extra = settings.get("extra_special_tokens")  # of a model's own, such as Gemma 3's for images
    if isinstance(extra, dict):
        spelled.update({str(name): spelling(token) for name, token in extra.items()})
    more = settings.get("additional_special_tokens")
    others = [spelling(each) for each in more] if isinstance(more, list) else []
    if others:
        spelled["additional_special_tokens"] = others
    return {name: text for name, text in spelled.items() if text}


def chat_text(
    model: LanguageModel,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The text that `model` must continue to answer `messages`, by its chat template.

    tools: JSON schemas of functions it may call. Raises InvalidInput for a model without a template
    and for one that fails or exceeds its limits; Missing if jinja2 is not installed.
    """
    if model.chat_template is None:
        what = f"{model.name} has no chat template"
        remedy = "omit it: the model then continues the text unchanged"
        if model.artifact is not None:
            remedy += (
                "; a template in its model's tokenizer_config.json is included when it is built"
            )
        raise InvalidInput(Problem("--chat", what, remedy))
    context = {
        **model.special_tokens,
        "messages": list(messages),
        "tools": None if tools is None else list(tools),
        "documents": None,
        "add_generation_prompt": True,
    }
    answer = _rendered(json.dumps({"template": model.chat_template, "context": context}))
    if "missing" in answer:
        raise missing_extra("jinja2", "chat", "apply a chat template")
    if "error" in answer:
        what = f"the chat template of {model.name} fails: {answer['error']}"
        raise InvalidInput(Problem("--chat", what, "report it to whoever made the model"))
    return answer["text"]


def chat_tokens(
    model: LanguageModel,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """Token ids of `chat_text`: a template spells out every special token that it wants."""
    ids = model.tokens(chat_text(model, messages, tools), special=False)
    if not ids:
        what = f"the chat template of {model.name} renders it as an empty text"
        raise InvalidInput(Problem("--chat", what, "report it to whoever made the model"))
    return ids


def _rendered(request: str) -> dict[str, str]:
    """The answer of `template_child`, in a process that is killed when it takes too long."""
    command = child.command("edgeq.formats.template_child")
    late = f"it takes more than {template_child.SECONDS} s"
    try:
        done = subprocess.run(
            command, input=request.encode(), capture_output=True, timeout=_PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": late}
    if done.returncode in _OUT_OF_TIME:
        return {"error": late}
    try:
        answer: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        return {"error": f"the rendering process ended with status {done.returncode}"}
    return answer
