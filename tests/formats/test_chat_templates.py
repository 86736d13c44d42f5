"""Chat templates in the manner of well-known families give the ids that transformers gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the extra [chat] is not installed")
pytest.importorskip("transformers", reason="the extra [build] is not installed")

import transformers

from edgeq.formats.chat import chat_text, chat_tokens
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from tests.support.gguf_artifacts import WREN
from tests.support.table_model import Table

SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|eos|>"}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Answer in one word.\n"},
    {"role": "user", "content": "  What sings at <night> & day? "},
    {"role": "assistant", "content": "A wren."},
    {"role": "user", "content": "And \u00fc\u4f60\U0001f600?"},
]
CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "How warm is it?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"function": {"name": "warmth", "arguments": {"town": "K\u00f6ln", "b": 1}}}
        ],
    },
    {"role": "tool", "name": "warmth", "content": "21"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "warmth",
            "description": "Degrees in a <town>.",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]
TEMPLATES = {
    "roles in marks": """
{%- for message in messages %}
    {{- '<|' ~ message.role ~ '|>\n' ~ message.content ~ eos_token ~ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}""",
    "headers, trimmed, dated": """
{{- bos_token }}
{%- if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}
{%- set ns = namespace(system='') %}
{%- if messages[0]['role'] == 'system' %}
    {%- set ns.system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}
{%- endif %}
<|head|>system<|end|>

Today: {{ day }}
{% if tools is not none %}
Functions:
{% for tool in tools %}{{ tool | tojson(indent=4) }}

{% endfor %}{% endif %}{{ ns.system }}
{%- for m in messages %}
    {%- if 'tool_calls' in m %}
        {%- for call in m.tool_calls %}
<|head|>call<|end|>{{ call.function.name }}({{ call.function.arguments | tojson(sort_keys=true) }})
        {%- endfor %}
        {%- continue %}
    {%- endif %}
<|head|>{{ m.role }}<|end|>

{{ m['content'] | trim }}<|stop|>
{%- endfor %}
{%- if add_generation_prompt %}<|head|>assistant<|end|>

{% endif %}""",
    "instructions alternate": """
{{- bos_token }}
{%- set loop_messages = messages %}
{%- for message in loop_messages | rejectattr('role', 'equalto', 'system') %}
    {%- if message.role == 'user' %}
{{ '[ASK] ' + message.content.strip() + ' [/ASK]' }}
    {%- elif message.role == 'assistant' %}
{{ ' ' + message.content + eos_token }}
    {%- elif message.role not in ['tool'] %}
{{ raise_exception('Only user and assistant roles are supported!') }}
    {%- endif %}
    {%- if loop.index > 100 %}{% break %}{% endif %}
{%- endfor %}""",
    "marked for training": """
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
<model>{% generation %}{{ message.content }}
{% set inside = 1 %}</turn>{% endgeneration %}{{ inside }}
    {%- else %}
<{{ message.role }}>{{ message.content | upper }}</turn>
    {%- endif %}
{% endfor -%}
{% if add_generation_prompt %}<model>{% endif %}""",
    "tools as compact JSON": """
{%- macro shown(tool) %}
{{ tool.function | tojson(separators=(',', ':'), ensure_ascii=true) }}
{%- endmacro %}
{%- if tools %}<tools>{% for tool in tools %}{{ shown(tool) }}{% endfor %}</tools>{% endif %}
{%- for message in messages %}
{%- if message.content is string and not loop.first or message.role != 'system' %}
[{{ loop.index0 }}:{{ message.role[:4] }}] {{ message.content | replace('?', '!') }}
{%- endif %}{{ message.tool_calls | tojson if message.tool_calls }}{% endfor %}
{{ pad_token }}{{ unk_token }}{{ mask_token or 'none' }}""",
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(Path(WREN) / "tokenizer.json"), **SPECIAL
    )


class Asked(Table):
    """No model, but the tokenizer and special tokens of one."""

    special_tokens = SPECIAL

    def __init__(self, template: str) -> None:
        super().__init__()
        self.chat_template = template
        self._tokenizer = DecoderTokenizer((Path(WREN) / "tokenizer.json").read_bytes())

    def tokens(self, text: str, special: bool = True) -> list[int]:
        return self._tokenizer.ids(text, special)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_texts_and_ids_are_those_of_transformers(tokenizer: Any, template: str) -> None:
    model = Asked(template)
    for messages, tools in ((TURNS, None), (TURNS[1:2], None), (CALLS, TOOLS)):
        asked = {"tools": tools, "chat_template": template, "add_generation_prompt": True}
        text = tokenizer.apply_chat_template(messages, tokenize=False, **asked)
        assert chat_text(model, messages, tools) == text
        assert chat_tokens(model, messages, tools) == tokenizer.apply_chat_template(
            messages, tokenize=True, **asked
        )
