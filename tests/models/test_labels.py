"""Labels are those of transformers, named or not."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("transformers", reason="the build side is not installed")

import transformers

from edgeq.models.labels import read_classes


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"num_labels": 5},
        {"id2label": {0: "no", 1: "yes", 2: "maybe"}},
        {"id2label": {1: "yes", 0: "no"}},
    ],
)
def test_labels_have_the_names_and_the_order_of_transformers(given: dict[str, Any]) -> None:
    known = transformers.BertConfig(**given)
    labels = tuple(known.id2label[index] for index in range(known.num_labels))
    written = {key: value for key, value in given.items() if key == "num_labels"}
    if "id2label" in given:
        written["id2label"] = {str(index): name for index, name in given["id2label"].items()}
    assert read_classes(written, "here").labels == labels
