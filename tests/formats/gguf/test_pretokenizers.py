"""Named pre-tokenizers cut words as the tokenizer does, or are noted or refused."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import MetaValue
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.parity import require_parity
from edgeq.formats.gguf.pretokenizers import pretokenizer_name
from edgeq.formats.gguf.vocabulary import vocabulary_of
from edgeq.formats.gguf.writer import write_gguf
from edgeq.formats.hard_texts import HARD_TEXTS
from edgeq.pipeline.plan.plan import make_plan
from tests.support import tiny_decoders
from tests.support.vocabularies import save, values, whole

ROOT = Path(__file__).parents[3]
SPLITS = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ],
    "llama-bpe": tiny_decoders.split(tiny_decoders.LLAMA3_SPLIT),
    "smaug-bpe": tiny_decoders.split(tiny_decoders.LLAMA3_SPLIT),
    "qwen2": tiny_decoders.split(tiny_decoders.QWEN2_SPLIT),
    "qwen35": tiny_decoders.split(tiny_decoders.QWEN35_SPLIT),
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
