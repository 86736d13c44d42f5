"""Chat templates of GGUF files: what they make of a message, and what they cannot do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
pytest.importorskip("jinja2", reason="the extra [chat] is not installed")

import edgeq
from edgeq.errors import InvalidInput
from edgeq.runners.chat import chat_prompt
from edgeq.runners.session import Sampling, refuse_unused, write_text
from tests.gguf_artifacts import WREN, write_file
from tests.table_model import Table

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {% if message.role == 'user' %}\n[{{ message.content | trim }}]\n{% endif %}\n"
    "{% endfor %}\n{% if add_generation_prompt %}answer:{% endif %}"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat") / "wren"
    shutil.copytree(WREN, folder)
    for each in folder.iterdir():
        each.chmod(0o644)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "chat_template": TEMPLATE})
    )
    return write_file(folder, folder.parent / "chat.gguf")


def test_a_message_is_put_as_the_file_s_template_says(file: Path) -> None:
    model = edgeq.load(file, threads=1)
    assert model.chat_template == TEMPLATE
    text = "<|bos|>[Where is the whale?]\nanswer:"  # it puts no token before a text itself
    assert chat_prompt(model, "  Where is the whale? ") == text
    assert model.tokens(text)[0] == model.tokens("<|bos|>")[0]
    written = write_text(file, "hello", Sampling(max_tokens=4), lambda piece: None, chat=True)
    assert written.text == "".join(model.generate("<|bos|>[hello]\nanswer:", 4))
    assert written.prompt_tokens == len(model.tokens("<|bos|>[hello]\nanswer:"))


class Beginning(Table):
    """A model that puts a token before every text; it is spelled as the template spells it."""

    begin_text = "z"

    def tokens(self, text: str, special: bool = True) -> list[int]:
        return [23] * special + super().tokens(text)


def test_no_text_begins_twice() -> None:
    for model, text in ((Beginning(), "[a]"), (Table(), "z[a]")):
        model.chat_template, model.begin_text = "{{ bos_token }}[{{ messages[0].content }}]", "z"
        assert chat_prompt(model, "a") == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('only the system may speak') }}",
        "{% for message in messages %}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ range(10 ** 12) | list }}",
        "{{ messages | no_such_filter }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_a_template_that_fails_or_reaches_out_is_refused(template: str) -> None:
    model = Table()
    model.chat_template = template
    with pytest.raises(InvalidInput, match="chat template of table fails"):
        chat_prompt(model, "hello")


def test_what_has_no_template_is_refused() -> None:
    with pytest.raises(InvalidInput, match="carries no chat template"):
        chat_prompt(Table(), "hello")
    with pytest.raises(InvalidInput, match="--chat: is for --prompt only"):
        refuse_unused(["a"], None, None, chat=True)
