"""Bundles that starters are written for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """\
edgeq: 1
name: starter
model: {{source: {source}, task: {task}}}
quantize: {{default: [{how}]}}
targets: [{{format: {format}, devices: [here]}}]
"""
Bundler = Callable[..., Path]


@pytest.fixture(scope="session")
def bundle(tiny_store: Path) -> Bundler:
    """Makes an unchecked bundle of a model in a folder."""

    def make(
        folder: Path, source: str, task: str, how: str = "int8-dynamic", format: str = "onnx"
    ) -> Path:
        from edgeq.pipeline.workflow import BundleRequest, bundle_recipe

        recipe, out = folder / f"{task}.yaml", folder / f"{task}.zip"
        text = RECIPE.format(source=source, task=task, how=how, format=format)
        recipe.write_text(text, encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGEQ_STORE", str(tiny_store))
            bundle_recipe(BundleRequest(recipe, out, allow_unchecked=True), lambda step: None)
        return out

    return make


def as_published(model: Path) -> None:
    """Give a small BERT the pre-tokenizer of published ones.

    The JavaScript tokenizer splits `Whitespace` at letters beyond ASCII, as the self-test shows.
    """
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = {"type": "BertPreTokenizer"}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture(scope="session")
def encoder(tiny: Path, bundle: Bundler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    shutil.copytree(tiny, folder / "tiny")
    as_published(folder / "tiny")
    return bundle(folder, "tiny", "sentence-embedding")


@pytest.fixture(scope="session")
def classifier(bundle: Bundler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    import transformers

    from tests.support.tiny_bert import config, save_bert

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(3)
    names = {0: "praise", 1: "complaint", 2: "question"}
    settings = config(id2label=names, label2id={name: i for i, name in names.items()})
    save_bert(folder / "mood", model=transformers.BertForSequenceClassification(settings))
    as_published(folder / "mood")
    return bundle(folder, "mood", "text-classification")


@pytest.fixture(scope="session")
def decoder(bundle: Bundler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    shutil.copytree(Path(__file__).parents[3] / "recipes" / "wren", folder / "wren")
    return bundle(folder, "./wren", "text-generation", "int8-b32")


@pytest.fixture(scope="session")
def net(bundle: Bundler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support import onnx_models

    folder = tmp_path_factory.mktemp("net")
    onnx_models.convolutional(folder / "net.onnx")
    return bundle(folder, "net.onnx", "tensor")
