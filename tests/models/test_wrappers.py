"""Models of text and images: their language model alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

import torch
import transformers

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import TEXT_GENERATION
from edgeq.models.architectures.wrappers import text_part
from edgeq.models.huggingface import read_directory
from edgeq.models.original.network import open_network
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import decoder_artifact, float_graph
from tests.support.gguf_artifacts import gguf_artifact

WRAPPERS = [("Gemma3", "gemma3_text"), ("Mistral3", "mistral")]


@pytest.mark.parametrize(("wrapper", "family"), WRAPPERS)
def test_logits_of_text_are_those_of_the_whole_model(
    tmp_path: Path, wrapper: str, family: str
) -> None:
    path = tiny_decoders.make_with_images(tmp_path / "model", wrapper, family, sliding_window=64)
    whole = getattr(transformers, f"{wrapper}ForConditionalGeneration").from_pretrained(
        path, attn_implementation="eager"
    )
    ids = np.random.default_rng(0).integers(300, 650, 50)
    with torch.no_grad():
        wanted = whole.eval()(torch.from_numpy(ids)[None]).logits[0].numpy()
    directory = read_directory(path, "model")
    assert directory.config["model_type"] == family
    own = open_network(directory, TEXT_GENERATION)  # what a build is compared with
    with torch.no_grad():
        assert np.abs(own(torch.from_numpy(ids)[None]).logits[0].numpy() - wanted).max() < 1e-5
    for artifact, limit in (
        (decoder_artifact(path, float_graph(path, tmp_path / "float"), tmp_path / "onnx"), 1e-4),
        (gguf_artifact(path, tmp_path / "gguf"), 2e-3),  # Gemma's GELU is a table in float16 there
    ):
        assert np.abs(edgeq.load(artifact, threads=1).logits(ids) - wanted).max() < limit
    assert np.abs(wanted).max() > 1


def test_what_a_published_file_leaves_out_is_what_its_class_assumes() -> None:
    published: dict[str, Any] = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "mm_tokens_per_image": 256,
        "text_config": {"hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152},
    }
    found = text_part(published, "config.json")
    assumed = transformers.Gemma3TextConfig(**published["text_config"]).to_dict()
    assert found.pop("eos_token_id") == [1, 106]
    assert found == {key: assumed[key] for key in found}


def test_a_setting_of_the_whole_that_is_not_known_is_refused(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "text_config": {}, "invented": 3}
    with pytest.raises(InvalidInput, match="'invented'"):
        text_part(config, "config.json")
    assert text_part({"model_type": "llama"}, "config.json") == {"model_type": "llama"}
    assert json.dumps(text_part({"model_type": "gemma3"}, "config.json"))
