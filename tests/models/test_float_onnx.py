"""The exported float graph answers as PyTorch does, under the names of the model's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")

import onnx
import onnx_ir as ir
import torch
import transformers
from safetensors import safe_open

from edgeq.core.artifact import DATA_FILE, MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.models.graphs.float_onnx import export_encoder
from edgeq.models.graphs.weights import find_weights
from edgeq.models.huggingface import read_directory
from edgeq.models.onnx_session import open_session
from tests.support import tiny_bert


def export(directory: Path, destination: Path) -> Path:
    destination.mkdir()
    export_encoder(read_directory(directory, "test"), destination)
    return destination / MODEL_FILE


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny, tmp_path_factory.mktemp("export") / "float")


def batch(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and mask, int64 `(texts, tokens)`, padded on the right."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    return rng.integers(4, len(tiny_bert.VOCABULARY), shape) * mask, mask


def expected(
    directory: Path, ids: np.ndarray, mask: np.ndarray, pooling: str, normalize: bool
) -> np.ndarray:
    """The embedding as sentence-transformers defines it, computed by PyTorch."""
    model = transformers.AutoModel.from_pretrained(directory).eval()
    with torch.no_grad():
        tokens = model(
            input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
        ).last_hidden_state
        seen = torch.from_numpy(mask)[..., None].bool()
        if pooling == "mean":
            pooled = (tokens * seen).sum(1) / seen.sum(1)
        elif pooling == "cls":
            pooled = tokens[:, 0]
        else:
            pooled = tokens.masked_fill(~seen, float("-inf")).amax(1)
        if normalize:
            pooled = torch.nn.functional.normalize(pooled, dim=-1)
    return np.asarray(pooled)


def answer(model: Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    session = open_session(model, threads=1)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    wanted = {value.name for value in session.get_inputs()}
    (found,) = session.run(None, {name: feed[name] for name in wanted})
    return np.asarray(found)


LENGTHS = [[1], [7], [tiny_bert.LONGEST], [3, 11], [tiny_bert.LONGEST, 1, 20, 5]]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_embeddings_are_those_of_pytorch(tiny: Path, exported: Path, lengths: list[int]) -> None:
    ids, mask = batch(lengths)
    found = answer(exported, ids, mask)
    np.testing.assert_allclose(found, expected(tiny, ids, mask, "mean", False), atol=1e-5)


def test_padding_changes_no_embedding(exported: Path) -> None:
    ids, mask = batch([9, 30])
    alone = answer(exported, ids[:1, :9], mask[:1, :9])
    np.testing.assert_allclose(answer(exported, ids, mask)[:1], alone, atol=1e-5)


def large_weights(model: Path) -> dict[str, tuple[int, ...]]:
    graph = onnx.load(model, load_external_data=False).graph
    shapes = {value.name: tuple(value.dims) for value in graph.initializer}
    return {name: shape for name, shape in shapes.items() if len(shape) == 2}


def kept_weights(directory: Path) -> set[str]:
    """Names of every matrix in the model's files that an embedding depends on."""
    with safe_open(directory / "model.safetensors", framework="np") as file:
        return {
            name
            for name in file.keys()  # noqa: SIM118  (it is no mapping)
            if len(file.get_slice(name).get_shape()) == 2
            and not any(part in name for part in ("pooler", "cls."))
        }


def test_weights_carry_the_names_of_their_files(tiny: Path, exported: Path) -> None:
    assert set(large_weights(exported)) == kept_weights(tiny)


def test_weights_of_a_model_with_a_prefix_carry_its_names(tmp_path: Path) -> None:
    """As saved from BertForMaskedLM: every name begins with `bert.`."""
    torch.manual_seed(1)
    model = transformers.BertForMaskedLM(tiny_bert.config())
    directory = tiny_bert.save_bert(tmp_path / "prefixed", model=model)
    names = kept_weights(directory)
    assert all(name.startswith("bert.") for name in names)
    assert set(large_weights(export(directory, tmp_path / "float"))) == names


def test_the_interface_is_named(exported: Path) -> None:
    graph = onnx.load(exported, load_external_data=False).graph
    names = {"input_ids", "attention_mask", "token_type_ids"}
    assert {value.name for value in graph.input} == names
    (output,) = graph.output
    assert output.name == "sentence_embedding"
    sizes = [size.dim_value or size.dim_param for size in output.type.tensor_type.shape.dim]
    assert sizes[1] == tiny_bert.HIDDEN
    assert isinstance(sizes[0], str)


def test_a_second_export_has_the_same_bytes(tiny: Path, exported: Path, tmp_path: Path) -> None:
    again = export(tiny, tmp_path / "again")
    for name in (MODEL_FILE, DATA_FILE):
        assert again.with_name(name).read_bytes() == exported.with_name(name).read_bytes()
    assert sorted(path.name for path in again.parent.iterdir()) == [MODEL_FILE, DATA_FILE]


@pytest.mark.parametrize(
    ("pooling", "normalize"),
    [("mean", False), ("cls", True), ("cls", False), ("max", True), ("max", False)],
)
def test_other_heads(tiny: Path, tmp_path: Path, pooling: str, normalize: bool) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    for path in tiny.iterdir():
        (directory / path.name).symlink_to(path)
    tiny_bert.write_head(directory, pooling, normalize=normalize)
    ids, mask = batch([12, 4, 30], seed=3)
    found = answer(export(directory, tmp_path / "float"), ids, mask)
    wanted = expected(tiny, ids, mask, pooling, normalize)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


_RELATIVE = {
    **{"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    **{"position_biased_input": False, "norm_rel_ebd": "layer_norm"},
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "distilbert": (
        "DistilBert",
        {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4},
    ),
    "roberta": ("Roberta", {"type_vocab_size": 1}),
    "mpnet": ("MPNet", {}),
    "electra": ("Electra", {"embedding_size": 64}),
    "albert": ("Albert", {"embedding_size": 32}),  # its layers share their weights
    # Every second layer sees 4 tokens to each side.
    "modernbert": (
        "ModernBert",
        {"global_attn_every_n_layers": 2, "local_attention": 8, "pad_token_id": 0},
    ),
    "deberta": (
        "Deberta",
        {"type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "roformer": ("RoFormer", {}),
    "rembert": ("RemBert", {"input_embedding_size": 32}),
    "convbert": ("ConvBert", {"embedding_size": 32, "conv_kernel_size": 3, "head_ratio": 1}),
    "deberta-v2": ("DebertaV2", {"type_vocab_size": 0, "conv_kernel_size": 3, **_RELATIVE}),
    "deberta-v3": ("DebertaV2", {"type_vocab_size": 0, "share_att_key": True, **_RELATIVE}),
}
PARTLY_FLOAT = ("convbert", "deberta")  # with steps that no number format is for


@pytest.mark.parametrize("family", FAMILIES)
def test_other_architectures(tmp_path: Path, family: str) -> None:
    name, own = FAMILIES[family]
    settings = {
        "vocab_size": len(tiny_bert.VOCABULARY),
        "max_position_embeddings": tiny_bert.LONGEST,
        "initializer_range": 0.2,
    }
    if family != "distilbert":
        widths = {"hidden_size": 64, "intermediate_size": 128}
        settings |= {**widths, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(2)
    config = getattr(transformers, f"{name}Config")(**settings, **own)
    model = getattr(transformers, f"{name}Model")(config)
    directory = tiny_bert.save_bert(tmp_path / "model", model=model)
    built = export(directory, tmp_path / "float")
    longest = read_directory(directory, "test").max_tokens
    ids, mask = batch([longest, 5])
    ids[mask == 0] = config.pad_token_id
    found = answer(built, ids, mask)
    np.testing.assert_allclose(found, expected(directory, ids, mask, "mean", False), atol=2e-5)
    if family in PARTLY_FLOAT:
        return
    assert set(large_weights(built)) >= {n for n in kept_weights(directory) if "layer" in n}
    assert not [w for w in find_weights(ir.load(built)) if w.obstacle]


def test_what_the_exporter_cannot_trace_is_refused(tmp_path: Path) -> None:
    """Its own example has texts of two types."""
    from transformers import BertModel

    model = BertModel(tiny_bert.config(type_vocab_size=1))
    directory = read_directory(tiny_bert.save_bert(tmp_path / "model", model=model), "here")
    with pytest.raises(InvalidInput, match=r"cannot export this bert model: index out of range"):
        export_encoder(directory, tmp_path)
