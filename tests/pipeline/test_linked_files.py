"""Models whose data lie behind links, as caches, installers and snapshots of folders make them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
from onnx import external_data_helper, helper

from edgeq.models.graphs.imported import import_onnx
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.source import read_whole
from edgeq.pipeline.proof.onnx_prove import prove_onnx
from tests.support import onnx_models


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return onnx_models.convolutional(tmp_path / "plain.onnx")


@pytest.fixture
def parted(plain: Path, tmp_path: Path) -> Path:
    """The folder of the same net with its data in a file, a constant's among them."""
    folder, model = tmp_path / "parted", onnx.load(plain)
    folder.mkdir()
    weight = model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], [weight.name], value=weight))
    del model.graph.initializer[0]
    external_data_helper.convert_model_to_external_data(
        model, location="w.bin", size_threshold=64, convert_attribute=True
    )
    onnx.save(model, folder / "model.onnx")
    assert len(source_locations(folder / "model.onnx")) > 1
    return folder


def source_locations(path: Path) -> list[str]:
    """Names of the tensors whose data are in a file."""
    graph = onnx.load(path, load_external_data=False).graph
    tensors = [*graph.initializer, graph.node[0].attribute[0].t]
    return [each.name for each in tensors if each.external_data]


def imported(path: Path, to: Path) -> dict[str, bytes]:
    """The constants of the graph that is made of `path` in the folder `to`."""
    to.mkdir()
    import_onnx(path, to)
    return constants(to)


def constants(directory: Path) -> dict[str, bytes]:
    graph = load_graph(directory).graph
    values = {name: value.const_value for name, value in graph.initializers.items()}
    return {name: tensor.tobytes() for name, tensor in values.items() if tensor is not None}


def test_a_hub_cache_links_to_files_elsewhere(plain: Path, parted: Path, tmp_path: Path) -> None:
    """As huggingface_hub keeps them: named by their hash, in a folder beside the snapshot's."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name, blob in (("model.onnx", "a1"), ("w.bin", "b2")):
        (parted / name).rename(parted / blob)
        (snapshot / name).symlink_to(f"../{parted.name}/{blob}")
    assert imported(snapshot / "model.onnx", tmp_path / "a") == imported(plain, tmp_path / "b")
    assert read_whole(snapshot / "model.onnx").ByteSize() > plain.stat().st_size / 2


def test_installers_give_a_file_two_names(plain: Path, parted: Path, tmp_path: Path) -> None:
    """As uv does with its cache, and `cp -al` with a folder: in the source and in the store."""
    shutil.copytree(parted, tmp_path / "installed", copy_function=os.link)
    path, float_graph = parted / "model.onnx", tmp_path / "a"
    assert imported(path, float_graph) == imported(plain, tmp_path / "b")
    shutil.copytree(float_graph, tmp_path / "snapshot", copy_function=os.link)
    assert constants(float_graph) == constants(tmp_path / "b")
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    proof = prove_onnx(path, float_graph, [{"image": image}])  # refuses another model's answers
    assert proof.difference is not None and proof.difference < 1e-6
