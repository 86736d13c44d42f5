"""A small BERT with random weights in Hugging Face layout, and recipes around it."""

from __future__ import annotations

import json
import random
import textwrap
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

HIDDEN = 64
LAYERS = 2
LONGEST = 48
WORDS = [f"{first}{second}" for first in "bcdfghjklmnpqrstvwxz" for second in "aeiou"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *(f"##{word}" for word in WORDS)]
POOLINGS = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}

GOOD = """\
edgeq: 1
name: tiny
model: {source: tiny, task: sentence-embedding}
data:
  calibration: {path: calibration.txt}
  evaluation: {path: evaluation.tsv}
quantize:
  default: [int8-dynamic, int8-static, int4-b32]
  rules:
    - {match: "*.attention.self.value.weight", use: int8, variants: [int4-b32]}
targets:
  - {format: onnx, devices: [here]}
budgets:
  size: {download: 2 MiB}
  quality: {cosine: 0.5}
"""


def tokenizer() -> Tokenizer:
    """A WordPiece tokenizer of two-letter syllables."""
    vocabulary = {word: index for index, word in enumerate(VOCABULARY)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.add_special_tokens(VOCABULARY[:4])
    made.enable_padding(length=LONGEST)
    return made


def config(**changes: Any) -> Any:
    """The configuration of the small BERT; needs transformers."""
    from transformers import BertConfig

    settings = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "intermediate_size": 2 * HIDDEN,
        "max_position_embeddings": LONGEST,
        "initializer_range": 0.2,
    }
    return BertConfig(**{**settings, **changes})


def save_bert(directory: Path, *, seed: int = 0, model: Any = None) -> Path:
    """Save a model (without one, the small BERT) with its tokenizer and a model card."""
    import torch
    from transformers import BertModel

    if model is None:
        torch.manual_seed(seed)
        model = BertModel(config())
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer().save(str(directory / "tokenizer.json"))
    (directory / "README.md").write_text("---\nlicense: mit\n---\n# tiny\n")
    return directory


def write_head(
    directory: Path, pooling: str, *, normalize: bool = True, more: tuple[str, ...] = ()
) -> None:
    """sentence-transformers' files for a head, with `more` modules behind."""
    types = ["Transformer", "Pooling", *more, *(["Normalize"] if normalize else [])]
    modules = [
        {"idx": i, "name": str(i), "path": "", "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(types)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{word}": name == pooling for name, word in POOLINGS.items()}
    settings = {"word_embedding_dimension": HIDDEN, **modes}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def sentence(seed: int, length: int) -> str:
    """A text of `length` syllables, each its own word."""
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def write_data(folder: Path) -> None:
    """calibration.txt and evaluation.tsv for the small BERT; no text is in both."""
    texts = [sentence(seed, 5 + seed % 20) for seed in range(24)]
    (folder / "calibration.txt").write_text("\n".join(texts) + "\n")
    rows = [
        f"{sentence(100 + seed, 4 + seed % 7)}\t{sentence(200 + seed, 9)}\t{seed % 5}"
        for seed in range(12)
    ]
    (folder / "evaluation.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n")


def write_recipe(path: Path, text: str = GOOD) -> Path:
    """A recipe file."""
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path
