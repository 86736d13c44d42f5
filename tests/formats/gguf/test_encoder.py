"""Sentence encoders in GGUF files: the vectors of transformers, and inputs that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.model import GgufEncoder
from tests.support import tiny_bert
from tests.support.gguf_artifacts import gguf_artifact, write_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def bert(folder: Path) -> Path:
    pytest.importorskip("transformers", reason="the build side is not installed")
    from transformers import BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), *special[1:]]  # BERT's own places
    words += tiny_bert.VOCABULARY[4:]
    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    tokenizer.add_special_tokens(special)
    model = BertModel(tiny_bert.config(vocab_size=len(words)))
    source = tiny_bert.save_bert(folder / "bert", model=model)
    tiny_bert.write_head(source, "mean")
    tokenizer.save(str(source / "tokenizer.json"))
    return source


def test_a_sentence_encoder_gives_the_vectors_of_transformers(bert: Path, folder: Path) -> None:
    import torch
    import transformers

    model = edgeq.load(gguf_artifact(bert, folder / "bert-f32"), threads=1)
    assert isinstance(model, GgufEncoder)
    texts = [tiny_bert.sentence(seed, 1 + 3 * seed) for seed in range(6)] + [""]
    vectors = model.embed(texts)
    reference = transformers.BertModel.from_pretrained(bert)
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    tokenizer.no_padding()
    for text, vector in zip(texts, vectors, strict=True):
        tokenizer.enable_truncation(model.max_tokens)
        ids = tokenizer.encode(text).ids
        assert model.tokens(text) == ids
        with torch.no_grad():
            mean = reference(torch.tensor([ids])).last_hidden_state[0].mean(0)
        # llama.cpp looks GELU up in a table of float16.
        np.testing.assert_allclose(vector, mean / mean.norm(), rtol=0, atol=2e-3)
        outputs = model.run(model.tokenize(text))
        np.testing.assert_array_equal(outputs["sentence_embedding"][0], vector)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    for call in (lambda: model.logits([1]), lambda: model.generate("a")):
        with pytest.raises(InvalidInput, match=r"is a sentence encoder: no .*\n    use embed\(\)"):
            call()
    with pytest.raises(InvalidInput, match="is a str"):
        model.embed("a text")
    with pytest.raises(InvalidInput, match="omit it"):
        edgeq.load(folder / "bert-f32", context=8)


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"input_ids": np.array([1, 2])},
        {"input_ids": np.array([[0.5]])},
        {"input_ids": np.zeros((1, 0), np.int64)},
        {"input_ids": np.array([[-1]])},
        {"input_ids": np.array([[1]]), "other": np.array([1])},
    ],
)
def test_inputs_an_encoder_does_not_take_are_refused(
    feeds: dict[str, np.ndarray], bert: Path, folder: Path
) -> None:
    path = folder / "bert.gguf"
    model = edgeq.load(path if path.exists() else write_file(bert, path))
    with pytest.raises(InvalidInput, match="input_ids"):
        model.run(feeds)
