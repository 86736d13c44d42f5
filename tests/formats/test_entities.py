"""Tokens become parts of a text as in transformers' pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the build side is not installed")
transformers = pytest.importorskip("transformers", reason="the build side is not installed")

from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402

from edgeq.core.artifact import Classes  # noqa: E402
from edgeq.core.errors import InvalidInput  # noqa: E402
from edgeq.formats.base import Aggregation  # noqa: E402
from edgeq.formats.entities import entities, kinds  # noqa: E402
from edgeq.formats.text import TextEncoder  # noqa: E402
from tests.support.tiny_bert import tokenizer as word_pieces  # noqa: E402

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
TEXTS = (
    "bababe bi bobu, cacece ci",
    "BABE x-y bibi  qoqo zuzu",
    "ba é ba",
    " ".join(["bababa", "cece", "bi"] * 9),
)


def byte_level() -> Tokenizer:
    """Bytes with a few merges, as GPT-2's and RoBERTa's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("b", "a"), ("c", "e"), ("Ġ", "b"), ("Ġb", "i")]
    words = ["<s>", "</s>", "<unk>", *letters, *(a + b for a, b in merges)]
    vocabulary = {word: index for index, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    made.add_special_tokens(["<s>", "</s>", "<unk>"])
    return made


class _Network(torch.nn.Module):  # type: ignore[name-defined]
    """What the pipeline needs of a model: a configuration and logits."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.config = transformers.PretrainedConfig(
            id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)}
        )
        self.device, self.name_or_path, self.dtype = torch.device("cpu"), "", torch.float32
        self._logits = torch.from_numpy(logits)

    def can_generate(self) -> bool:
        return False

    def forward(self, input_ids: Any, **_: Any) -> Any:
        return {"logits": self._logits}


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("aggregation", get_args(Aggregation))
@pytest.mark.parametrize("make", [word_pieces, byte_level])
def test_parts_are_those_of_the_pipeline(
    make: Any, aggregation: Aggregation, tmp_path: Path
) -> None:
    made = make()
    made.no_padding()
    unknown = "[UNK]" if make is word_pieces else "<unk>"
    library = transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token=unknown)
    encoder = TextEncoder(made.to_str().encode(), 512)
    for seed, text in enumerate(TEXTS * 6):
        encoded = encoder.encoded(text)
        logits = np.random.default_rng(seed).normal(0, 3, (len(encoded.ids), len(LABELS)))
        pipeline = transformers.TokenClassificationPipeline(
            model=_Network(logits[None].astype(np.float32)),
            tokenizer=library,
            framework="pt",
            aggregation_strategy=aggregation,
        )
        found = pipeline(text)
        wanted = [
            (each.get("entity_group", each.get("entity")), each["start"], each["end"])
            for each in found
        ]
        classes = Classes(labels=LABELS, function="softmax")
        own = entities(text, encoder, encoded, logits, classes, aggregation)
        assert [(each.label, each.start, each.end) for each in own] == wanted
        assert [each.score for each in own] == pytest.approx(
            [float(each["score"]) for each in found], rel=1e-5
        )
        assert all(each.text == text[each.start : each.end] for each in own)


def test_kinds_are_labels_without_their_place() -> None:
    assert kinds(LABELS) == ("PER", "LOC", "MISC")


def test_another_way_to_join_is_refused() -> None:
    encoder = TextEncoder(word_pieces().to_str().encode(), 512)
    encoded = encoder.encoded("ba be")
    classes = Classes(labels=LABELS, function="softmax")
    wrong: Any = "frist"
    with pytest.raises(InvalidInput, match="'frist' is not a way") as raised:
        entities("ba be", encoder, encoded, np.zeros((4, 6)), classes, wrong)
    assert "'first'" in raised.value.problems[0].remedy
