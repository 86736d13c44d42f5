"""The settings beside a tokenizer.json mean what they mean to transformers, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the build side is not installed")

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import AutoTokenizer

from edgeq.core.errors import InvalidInput
from edgeq.formats.hard_texts import HARD_TEXTS
from edgeq.models.added_tokens import with_tokens
from edgeq.models.huggingface import read_directory
from edgeq.models.original.tokenizer import is_in_words_of_5, open_tokenizer
from edgeq.models.tokenizer_settings import read_tokenizer_settings, whole_tokenizer
from edgeq.pipeline.proof.tokens import require_same_tokens
from tests.support.tiny_bert import WORDS

WHERE = "recipe.yaml:3:9"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *WORDS, *(f"##{word}" for word in WORDS), *"abcABC[]<>", "NEW", "new"]
ROWS = len(VOCABULARY) + 4
"""The embedding has rows for some tokens that only the settings name."""


def bert(**normalizer: Any) -> Tokenizer:
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(**normalizer)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.add_special_tokens(SPECIAL)
    return made


def byte_level(*, prefix_space: bool = False) -> Tokenizer:
    special = ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: id for id, text in enumerate([*special, *letters])}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([*special[:-1], AddedToken("<mask>", lstrip=True)])
    return made


def saved(folder: Path, tokenizer: Tokenizer, family: str = "bert", **files: Any) -> Path:
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = tokenizer.get_vocab_size() + 4
    (folder / "config.json").write_text(json.dumps({"model_type": family, "vocab_size": rows}))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def read(folder: Path) -> Tokenizer:
    """The tokenizer as edgeq ships it."""
    config = json.loads((folder / "config.json").read_text())
    return Tokenizer.from_str(json.dumps(whole_tokenizer(folder, config, WHERE)))


def assert_same(folder: Path, *texts: str) -> None:
    """Every text, and what stands around it, gives the library's own ids."""
    original, found = AutoTokenizer.from_pretrained(folder), read(folder)
    around = [f"{text}{space}{text}a {text} B{text}\n" for text in texts for space in ("", " ")]
    for text in (*HARD_TEXTS, *texts, *around):
        assert found.encode(text).ids == original(text)["input_ids"], text
    assert found.get_added_tokens_decoder() == original.added_tokens_decoder


TOKEN = {"content": "<new>", "lstrip": True, "normalized": False, "rstrip": False}
LISTED = {
    str(id): {"content": text, "special": True, "normalized": False}
    for id, text in enumerate(SPECIAL)
}
END = str(len(VOCABULARY))


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"additional_special_tokens": ["<new>", "NEW"]}},
        {"tokenizer_config": {"additional_special_tokens": [{**TOKEN, "__type": "AddedToken"}]}},
        {"tokenizer_config": {"extra_special_tokens": {"tool_token": "<new>"}}},
        {
            "tokenizer_config": {
                "extra_special_tokens": {"tool_token": "<new>"},
                "tool_token": "<new>",
            }
        },
        {"tokenizer_config": {"mask_token": "<new>", "bos_token": "NEW"}},
        {"tokenizer_config": {"mask_token": {**TOKEN, "__type": "AddedToken", "special": True}}},
        {"tokenizer_config": {"added_tokens_decoder": {**LISTED, END: TOKEN}}},
        {
            "tokenizer_config": {
                "added_tokens_decoder": {**LISTED, END: TOKEN},
                "additional_special_tokens": ["<new>"],
            }
        },
        {  # the listed tokens have other properties than tokenizer.json gives them
            "tokenizer_config": {
                "added_tokens_decoder": {
                    **LISTED,
                    "4": {"content": "[MASK]", "lstrip": True, "rstrip": True, "special": True},
                    END: {"content": "NEW", "normalized": True, "single_word": True},
                }
            }
        },
        {  # with a list of tokens, the older files are not read
            "tokenizer_config": {"added_tokens_decoder": LISTED},
            "special_tokens_map": {"additional_special_tokens": ["<new>"]},
            "added_tokens": {"<other>": len(VOCABULARY)},
        },
        {"special_tokens_map": {"additional_special_tokens": ["<new>", TOKEN]}},
        {
            "tokenizer_config": {"additional_special_tokens": ["NEW"]},
            "special_tokens_map": {"additional_special_tokens": ["<new>"], "bos_token": "<bos>"},
        },
        {"special_tokens_map": {"mask_token": TOKEN, "cls_token": {"content": "[CLS]"}}},
        {"added_tokens": {"<new>": len(VOCABULARY) + 1, "<other>": len(VOCABULARY), "NEW": 4}},
        {
            "added_tokens": {"<new>": len(VOCABULARY)},
            "special_tokens_map": {"additional_special_tokens": ["<new>"]},
        },
    ],
)
def test_tokens_that_only_the_settings_name_are_found(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    folder = saved(tmp_path / "m", bert(), **files)
    assert_same(folder, "<new>", "NEW", "<other>", "<bos>", "[MASK]")


def test_a_token_without_a_row_stays_text(tmp_path: Path) -> None:
    many = [f"<{word}>" for word in WORDS]
    more = {"additional_special_tokens": many}
    found = read(saved(tmp_path / "m", bert(), tokenizer_config=more))
    assert found.get_vocab_size() == ROWS
    assert found.encode(many[3]).ids[1:-1] == [ROWS - 1]
    assert max(found.encode(many[4]).ids) < ROWS - 4


def test_the_same_for_a_vocabulary_of_bytes_and_of_pieces(tmp_path: Path) -> None:
    more = {"additional_special_tokens": ["<new>", "</s>"], "unk_token": "</s>"}
    more["tokenizer_class"] = "PreTrainedTokenizerFast"
    assert_same(saved(tmp_path / "bytes", byte_level(), tokenizer_config=more), "<new>", "</s>")
    pieces = [("<unk>", 0.0), *((letter, -2.0) for letter in "▁ab<>new")]
    unigram = Tokenizer(models.Unigram(pieces, 0, byte_fallback=False))
    unigram.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    assert_same(saved(tmp_path / "pieces", unigram, tokenizer_config=more), "<new>", "</s>")


@pytest.mark.parametrize(
    ("normalizer", "settings", "key"),
    [
        ({}, {"do_lower_case": False}, "do_lower_case"),
        ({"lowercase": False}, {}, "do_lower_case"),
        ({}, {"strip_accents": False}, "strip_accents"),
        ({"lowercase": False}, {"do_lower_case": False, "strip_accents": True}, "strip_accents"),
        ({}, {"tokenize_chinese_chars": False}, "tokenize_chinese_chars"),
    ],
)
def test_what_transformers_would_overrule_is_refused(
    tmp_path: Path, normalizer: dict[str, Any], settings: dict[str, Any], key: str
) -> None:
    tokenizer = bert(**normalizer)
    folder = saved(tmp_path / "m", tokenizer, tokenizer_config=settings)
    with pytest.raises(InvalidInput, match=key):
        read(folder)
    original = AutoTokenizer.from_pretrained(folder)
    assert any(tokenizer.encode(t).ids != original(t)["input_ids"] for t in ("BA á", "漢a"))
    original.save_pretrained(folder)  # the remedy
    assert_same(folder)


@pytest.mark.parametrize(
    ("family", "settings", "key"),
    [
        ("llama", {"add_bos_token": True}, "add_bos_token"),
        ("llama", {}, "add_bos_token"),
        ("llama", {"add_bos_token": False, "add_eos_token": True}, "add_eos_token"),
        ("llama", {"add_bos_token": False}, None),
        ("llama", {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}, None),
    ],
)
def test_ends_that_transformers_writes_anew_are_refused(
    tmp_path: Path, family: str, settings: dict[str, Any], key: str | None
) -> None:
    folder = saved(tmp_path / "m", byte_level(), family, tokenizer_config=settings)
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    if key is not None:
        with pytest.raises(InvalidInput, match=key):
            read(folder)
        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert_same(folder)


def test_settings_that_transformers_5_wrote_are_opened(tmp_path: Path) -> None:
    settings = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<new>", "NEW"]}
    folder = saved(tmp_path / "m", bert(), tokenizer_config=settings)
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    directory = read_directory(folder, WHERE)
    require_same_tokens(directory, open_tokenizer(directory))
    assert is_in_words_of_5(directory)
    assert read(folder).encode("<new>NEW").ids[1:-1] == [ROWS - 4, VOCABULARY.index("NEW")]


def test_another_tokenizer_than_the_library_opens_is_refused_by_text(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", bert())
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    directory = read_directory(folder, WHERE)
    original = open_tokenizer(directory)
    content = json.loads(directory.tokenizer.read_text())
    content["normalizer"]["lowercase"] = False
    directory.tokenizer.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match=r"in the tokens of .*, the first other one at \d"):
        require_same_tokens(directory, original)


def test_a_space_in_front_that_transformers_takes_away_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", byte_level(prefix_space=True), "roberta")
    with pytest.raises(InvalidInput, match="add_prefix_space"):
        read(folder)
    (folder / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    assert_same(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tokenizer_config", {"invented": 1}, "'invented'"),
        ("special_tokens_map", {"invented": "x"}, "'invented'"),
        ("tokenizer_config", {"split_special_tokens": True}, "split_special_tokens"),
        ("tokenizer_config", {"auto_map": {"AutoTokenizer": "x.Y"}}, "auto_map"),
        ("tokenizer_config", {"truncation_side": "middle"}, "left or right"),
        ("tokenizer_config", {"model_max_length": "long"}, "model_max_length"),
        ("tokenizer_config", {"added_tokens_decoder": {"x": {}}}, "added_tokens_decoder"),
        ("tokenizer_config", {"additional_special_tokens": [7]}, "special tokens"),
        ("tokenizer_config", {"extra_special_tokens": "x"}, "extra_special_tokens"),
        ("added_tokens", {"<new>": "x"}, "added_tokens.json"),
    ],
)
def test_what_is_not_known_is_refused_by_file_and_key(
    tmp_path: Path, file: str, content: dict[str, Any], said: str
) -> None:
    folder = saved(tmp_path / "m", bert(), "bert", **{file: content})
    with pytest.raises(InvalidInput) as error:
        read(folder)
    assert said in str(error.value) and file in str(error.value) and WHERE in str(error.value)
    assert all(problem.remedy for problem in error.value.problems)


def test_the_length_limit_has_an_older_name(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", bert(), tokenizer_config={"max_len": 64})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = read_tokenizer_settings(folder, {"model_type": "bert"}, tokenizer, WHERE)
    assert settings.longest == 64 == AutoTokenizer.from_pretrained(folder).model_max_length
    assert with_tokens(tokenizer, settings.tokens, None) == tokenizer
