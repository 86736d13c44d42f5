"""A message as a chat model wants it: in the words of the template that its file carries."""

from __future__ import annotations

import datetime
import json
from typing import Any

from edgeq.errors import InvalidInput, Problem, missing_extra
from edgeq.runners.language import LanguageModel


def chat_prompt(model: LanguageModel, message: str) -> str:
    """The text that `model` is to continue to answer one message of a user.

    A template is somebody else's program: it is run in jinja2's sandbox. Raises InvalidInput for a
    model without one, and for a template that fails; Missing where jinja2 is not installed.
    """
    if model.chat_template is None:
        what = f"{model.name} carries no chat template"
        remedy = "leave it out: the model then continues the text as it is"
        raise InvalidInput(Problem("--chat", what, remedy))
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise missing_extra("jinja2", "chat", "apply a chat template") from None
    # As transformers renders them, which templates are written for.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    try:
        text: str = environment.from_string(model.chat_template).render(
            messages=[{"role": "user", "content": message}],
            add_generation_prompt=True,
            bos_token=model.begin_text,
            eos_token=model.end_text,
        )
    except (TemplateError, TypeError, ValueError, OverflowError) as error:
        what = f"the chat template of {model.name} fails: {error}"
        raise InvalidInput(Problem("--chat", what, "tell whoever made the file")) from None
    if model.begin_text and model.tokens(""):  # it puts its first token before every text
        return text.removeprefix(model.begin_text)
    return text


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _now(format: str) -> str:
    return datetime.datetime.now().strftime(format)
