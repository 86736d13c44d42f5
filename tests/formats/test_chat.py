"""Chat templates of files: what they make of a message, and what they cannot do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
pytest.importorskip("jinja2", reason="the extra [chat] is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.formats.chat import (
    CHAT_FILES,
    Chat,
    chat_of_directory,
    chat_text,
    chat_tokens,
    read_chat,
)
from edgeq.formats.gguf.model import GgufLanguageModel
from edgeq.formats.package import open_package
from edgeq.formats.written import copy_tokenizer
from edgeq.models.huggingface import read_directory
from edgeq.pipeline.bundle.write import write_bundle
from edgeq.pipeline.compare.compare import open_language_model
from edgeq.pipeline.run import Sampling, refuse_unused, write_text
from edgeq.pipeline.workflow import build_recipe
from tests.support.gguf_artifacts import WREN, write_file
from tests.support.table_model import Table

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {% if message.role == 'user' %}\n[{{ message.content | trim }}]\n{% endif %}\n"
    "{% endfor %}\n{% if add_generation_prompt %}answer:{% endif %}"
)


SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}


def user(message: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": message}]


RECIPE = """
edgeq: 1
name: chat
model: {source: ./wren, task: text-generation, licence: apache-2.0}
quantize: {default: {weights: int8-b32, method: nearest}}
targets: [{format: onnx, devices: [here]}]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a template among its tokenizer's settings."""
    folder = tmp_path_factory.mktemp("chat") / "wren"
    shutil.copytree(WREN, folder)
    for each in folder.iterdir():
        each.chmod(0o644)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, "chat_template": TEMPLATE})
    )
    return folder


@pytest.fixture(scope="module")
def file(directory: Path) -> Path:
    return write_file(directory, directory.parent / "chat.gguf")


@pytest.fixture(scope="module")
def artifact(directory: Path) -> Iterator[Path]:
    """The model as ONNX, built."""
    pytest.importorskip("onnx_ir", reason="the build side is not installed")
    recipe = directory.parent / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(directory.parent / "store"))
        (built,) = build_recipe(recipe, None, lambda step: None)
        yield built.path


def test_an_onnx_file_answers_by_the_template_of_its_model(file: Path, artifact: Path) -> None:
    model, other = (open_language_model(path, 1) for path in (artifact, file))
    for message in ("  Where is the whale? ", "ünï", ""):
        asked = user(message)
        assert chat_text(model, asked) == chat_text(other, asked)
        assert chat_tokens(model, asked) == chat_tokens(other, asked)
    written = write_text(artifact, "hello", Sampling(max_tokens=4), lambda piece: None, chat=True)
    assert written.text == "".join(model.generate("<|bos|>[hello]\nanswer:", 4))
    assert chat_of_directory(artifact) == Chat(TEMPLATE, SPECIAL)


def test_a_bundle_carries_the_template(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "chat.zip"
    write_bundle(
        artifact,
        out,
        recipe_text=RECIPE,
        verdicts=[],
        licence="apache-2.0",
        licence_text=None,
        unchecked=True,
        limits=(),
    )
    assert open_package(out).read_chat() == Chat(TEMPLATE, SPECIAL)
    assert chat_text(open_language_model(out, 1), user("hi")) == "<|bos|>[hi]\nanswer:"


@pytest.mark.parametrize(
    ("settings", "template", "found"),
    [
        (None, None, Chat()),
        (b"no JSON", None, Chat()),
        (b"[1]", b"own", Chat("own")),
        (b'{"chat_template": "a", "bos_token": "<s>"}', None, Chat("a", {"bos_token": "<s>"})),
        (
            b'{"chat_template": "a", "eos_token": {"content": "</s>"}}',
            b"b",
            Chat("b", {"eos_token": "</s>"}),
        ),
        (b'{"bos_token": null, "eos_token": {"lstrip": true}}', None, Chat()),
        (
            b'{"extra_special_tokens": {"boi_token": "<img>", "eoi_token": {"content": "</img>"}}}',
            None,
            Chat(None, {"boi_token": "<img>", "eoi_token": "</img>"}),
        ),
        (
            b'{"chat_template": [{"name": "tools", "template": "t"}, 3, '
            b'{"name": "default", "template": "d"}]}',
            None,
            Chat("d"),
        ),
        (b'{"chat_template": [{"name": "tools", "template": "t"}]}', None, Chat()),
    ],
)
def test_what_the_files_of_a_tokenizer_say(
    settings: bytes | None, template: bytes | None, found: Chat
) -> None:
    assert read_chat(settings, template) == found


def test_a_template_in_a_file_of_its_own_comes_along(directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wren"
    shutil.copytree(directory, folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    here, there = (read_directory(each, str(each)) for each in (directory, folder))
    assert {file.name for file in there.source_files} == {
        "chat_template.jinja",
        *(file.name for file in here.source_files),
    }
    for settings in (True, False):
        out = tmp_path / str(settings)
        out.mkdir()
        assert copy_tokenizer(there, out, settings=settings, max_tokens=None) == [
            "tokenizer.json",
            *CHAT_FILES,
        ]
        assert chat_of_directory(out).template == "{{ messages[0].content }}"
    (tmp_path / "plain").mkdir()
    plain = read_directory(WREN, str(WREN))
    assert copy_tokenizer(plain, tmp_path / "plain", settings=False, max_tokens=None) == [
        "tokenizer.json"
    ]


def test_a_message_is_put_as_the_file_s_template_says(file: Path) -> None:
    model = open_language_model(file, 1)
    assert isinstance(model, GgufLanguageModel)
    assert model.chat_template == TEMPLATE
    text = "<|bos|>[Where is the whale?]\nanswer:"  # it puts no token before a text itself
    assert chat_text(model, user("  Where is the whale? ")) == text
    assert model.tokens(text)[0] == model.tokens("<|bos|>")[0]
    written = write_text(file, "hello", Sampling(max_tokens=4), lambda piece: None, chat=True)
    assert written.text == "".join(model.generate("<|bos|>[hello]\nanswer:", 4))
    assert written.prompt_tokens == len(model.tokens("<|bos|>[hello]\nanswer:"))


class Beginning(Table):
    """A model that puts a token before every text; it is spelled as the template spells it."""

    special_tokens = {"bos_token": "x"}  # noqa: RUF012

    def tokens(self, text: str, special: bool = True) -> list[int]:
        return [23] * special + super().tokens(text)


def test_no_text_begins_twice() -> None:
    model = Beginning()
    model.chat_template = "{{ bos_token }}{{ messages[0].content }}"
    assert chat_tokens(model, user("a")) == [23, 0]


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
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ messages[0].content * 10 ** 10 }}",
        "{% for a in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% include '/etc/passwd' %}",
        "",
    ],
)
def test_a_template_that_fails_or_reaches_out_is_refused(template: str) -> None:
    model = Table()
    model.chat_template = template
    with pytest.raises(InvalidInput, match=r"template of table (fails|renders it as an empty)"):
        chat_tokens(model, user("hello"))


def test_what_has_no_template_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has no chat template"):
        chat_text(Table(), user("hello"))
    with pytest.raises(InvalidInput, match="--chat: is for --prompt only"):
        refuse_unused(["a"], None, None, chat=True)
