"""Recipes become Core ML packages: what overflows, what classifies, what is coded to 8 bits."""

from __future__ import annotations

import functools
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="the Core ML side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from edgeq.core.artifact import COREML_PACKAGE
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.executor.images import pixels
from edgeq.formats.text import TextEncoder
from edgeq.models.onnx_session import open_session
from edgeq.pipeline.build.build import Built, build, build_float
from edgeq.pipeline.plan.plan import make_plan
from tests.support import onnx_kinds, onnx_models, tiny_bert
from tests.support.commands import run_edgeq, start_edgeq
from tests.support.decoder_artifacts import WREN

TEXT = """\
edgeq: 1
name: tiny
model: {source: tiny, task: sentence-embedding}
data:
  calibration: {path: calibration.txt}
quantize: {default: %s}
targets:
  - {format: coreml, devices: [iphone-15-pro]}
coreml: {lengths: [32]%s}
"""
BOTH = """\
edgeq: 1
name: wren
model: {{source: {model}, task: text-generation}}
data:
  calibration: {{path: {data}, samples: 4}}
quantize: {{default: {{weights: int4-b32, method: nearest}}}}
targets:
  - {{format: coreml, devices: [iphone-15-pro]}}
  - {{format: gguf, devices: [here]}}
"""
CLASSES = 10
IMAGE = """\
edgeq: 1
name: classifier
model: {source: net.onnx, task: tensor}
data:
  calibration: {path: calibration.npz}
quantize: {default: [float16, int8, int8-static, palette6]}
targets:
  - {format: coreml, devices: [iphone-15-pro]}
coreml:
  image: {input: image, scale: [0.02, 0.03, 0.025], bias: [-2, -3, -2.5]}
  labels: labels.txt
"""


def packages(recipe: Path) -> dict[str, Built]:
    """Every artifact of a recipe by its variant."""
    built = build(make_plan(recipe, weights=True), Store(recipe.parent / "store"), str)
    return {each.artifact.variant: each for each in built}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture
def folder(tmp_path: Path, tiny: Path) -> Path:
    """The small BERT, which a test may spoil, beside its data."""
    (tmp_path / "tiny").mkdir()
    for file in tiny.iterdir():
        if file.is_file():
            (tmp_path / "tiny" / file.name).write_bytes(file.read_bytes())
    tiny_bert.write_data(tmp_path)
    return tmp_path


def embeddings(built: Built, texts: list[str]) -> list[np.ndarray]:
    """By the executor, or by onnxruntime for an ONNX artifact."""
    tokenizer = (built.path / "tokenizer.json").read_bytes()
    encoder = TextEncoder(tokenizer, 32)
    names = [value.name for value in built.artifact.inputs]
    feeds = [encoder.feeds(text, names) for text in texts]
    if built.artifact.format == "onnx":
        session = open_session(built.path / "model.onnx", threads=1)
        return [session.run(None, dict(feed))[0] for feed in feeds]
    program = load(built.path / COREML_PACKAGE)
    return [
        program.predict({n: np.pad(a, ((0, 0), (0, 32 - a.shape[1]))) for n, a in feed.items()})[
            "sentence_embedding"
        ]
        for feed in feeds
    ]


def test_an_overflow_stops_the_build_and_its_remedy_works_at_once(folder: Path) -> None:
    """Both layers of the feed-forward net are far beyond float16 between their two products."""
    weights = load_file(folder / "tiny" / "model.safetensors")
    for name in weights:
        if "intermediate.dense" in name:
            weights[name] = weights[name] * np.float32(3e4)
        elif "output.dense.weight" in name and "attention" not in name:
            weights[name] = weights[name] / np.float32(3e4)
    save_file(weights, folder / "tiny" / "model.safetensors", {"format": "pt"})
    recipe = tiny_bert.write_recipe(folder / "recipe.yaml", TEXT % ("float16", ""))
    done = run_edgeq("build", recipe, store=folder / "store", cwd=folder)
    assert done.returncode == 2 and "recipe.yaml" in done.stderr
    told = " ".join(done.stderr.split())
    assert "makes infinity" in told and re.search(r"inputs: .*x -?[\d.e+]+ to ", told)
    (line,) = re.findall(r"coreml: \{(float32: \[[^]]*\])\}", told)
    assert "layer_*_" in line  # one pattern for all layers, not one operator after the other
    tiny_bert.write_recipe(recipe, TEXT % ("float16", f", {line}"))
    (cured,) = packages(recipe).values()
    original = build_float(make_plan(recipe, weights=True), Store(folder / "store"), str, "onnx")
    texts = [tiny_bert.sentence(seed, 9) for seed in range(4)]
    pairs = zip(embeddings(cured, texts), embeddings(original, texts), strict=True)
    assert min(cosine(a, b) for a, b in pairs) > 0.9999


def test_a_mask_of_the_least_float_needs_no_remedy(tmp_path: Path) -> None:
    """As eager attention has it: in float16 it were -inf, and 0 times it NaN."""
    least = np.array(np.finfo(np.float32).min, np.float32)
    nodes = [
        helper.make_node("Sub", ["one", "mask"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "least"], ["added"]),
        helper.make_node("Add", ["scores", "added"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
    ]
    held = {"one": np.array(1, np.float32), "least": least}
    values = {name: [1, 64] for name in ("scores", "mask", "shares")}
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in values.items()]
    constants = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "mask", made[:2], made[2:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "net.onnx")
    text = IMAGE.partition("data:")[0] + "quantize: {default: float16}\n"
    text += "targets:\n  - {format: coreml, devices: [iphone-15-pro]}\n"
    (built,) = packages(tiny_bert.write_recipe(tmp_path / "r.yaml", text)).values()
    feed = {
        "scores": np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32),
        "mask": (np.arange(64) < 40).astype(np.float32)[None],
    }
    (expected,) = open_session(tmp_path / "net.onnx", threads=1).run(None, feed)
    answer = load(built.path / COREML_PACKAGE).predict(feed)["shares"]
    assert np.abs(answer - expected).max() < 1e-3


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for a small convolutional net that takes images."""
    folder = tmp_path_factory.mktemp("classifier")
    onnx_models.convolutional(folder / "net.onnx")
    np.savez(folder / "calibration.npz", image=images(12, seed=0))
    (folder / "labels.txt").write_text("".join(f"thing {i}\n" for i in range(CLASSES)))
    return tiny_bert.write_recipe(folder / "recipe.yaml", IMAGE)


SCALE, BIAS = (0.02, 0.03, 0.025), (-2.0, -3.0, -2.5)


def images(count: int, seed: int) -> np.ndarray:
    """What the net takes for random pixels."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32))
    scale, bias = (np.reshape(part, (1, 3, 1, 1)) for part in (SCALE, BIAS))
    return np.asarray(drawn * scale + bias, np.float32)


def test_classifiers_take_pixels_and_answer_with_labels(classifier: Path) -> None:
    session = open_session(classifier.parent / "net.onnx", threads=1)
    for variant, built in packages(classifier).items():
        program = load(built.path / COREML_PACKAGE)
        assert [value.name for value in built.artifact.outputs] == ["logits"]
        close, agreed = [], 0
        for array in images(12, seed=1):
            (expected,) = session.run(None, {"image": array[None]})
            seen = pixels(array[None], SCALE, BIAS)
            assert np.array_equal(seen, np.clip(np.rint(seen), 0, 255))
            answer = program.predict({"image": seen})
            close.append(cosine(answer["logits"], expected))
            best = int(answer["logits"].argmax())
            assert answer["classLabel"] == f"thing {best}"
            shares = torch.softmax(torch.tensor(answer["logits"][0]), 0).numpy()
            assert np.allclose(list(answer["classLabel_probs"].values()), shares, atol=1e-5)
            agreed += best == int(expected.argmax())
        assert np.mean(close) > (0.9999 if variant == "float16" else 0.99), variant
        assert agreed >= (12 if variant == "float16" else 10), variant


def test_activations_are_recorded_and_need_ios_17(classifier: Path) -> None:
    built = packages(classifier)["int8-static"]
    planned = make_plan(classifier)
    targets = {a.variant.name: a.deployment_target for a in planned.plan.artifacts}
    assert targets["int8"] == "iOS 16 / macOS 13"
    assert targets["int8-static"] == "iOS 17 / macOS 14"
    kinds = [op.kind for op in load(built.path / COREML_PACKAGE).functions["main"].block.operations]
    assert kinds.count("quantize") == kinds.count("dequantize") > 2
    assert built.artifact.settings["inputs"]["fc.w"]["range"]


@pytest.mark.parametrize(
    "change, message",
    [
        (("labels.txt", "few.txt"), r"3 labels for the model's 10 classes"),
        (("labels.txt", "twice.txt"), r"'a' is listed 2 times"),
        (("labels.txt", "none.txt"), r"none\.txt: no such file"),
        (("input: image", "input: imag"), r"no input 'imag'\n.*image"),
        (("scale: [0.02, 0.03, 0.025]", "scale: [1, 2]"), r"2 numbers for 3 channels"),
        (("bias: [-2, -3, -2.5]", "color: grayscale, bias: 0"), r"3 numbers for 1 channels"),
        (("image: {", "lengths: [8]\n  inputs: {image: [1, 1, 8, 8]}\n  image: {"), "1, 1, 8, 8"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(
    classifier: Path, change: tuple[str, str], message: str
) -> None:
    (classifier.parent / "few.txt").write_text("a\nb\nc\n")
    (classifier.parent / "twice.txt").write_text("a\nb\na\n")
    recipe = tiny_bert.write_recipe(classifier.parent / "other.yaml", IMAGE.replace(*change))
    with pytest.raises(Exception, match=message):
        make_plan(recipe)


def test_codes_of_activations_are_those_of_the_onnx_artifact(folder: Path) -> None:
    both = TEXT.replace("coreml: {lengths: [32]%s}", "  - {format: onnx, devices: [here]}\n")
    recipe = tiny_bert.write_recipe(
        folder / "recipe.yaml", both % "int8-static" + "coreml: {lengths: [32], compute: float32}\n"
    )
    built = build(make_plan(recipe, weights=True), Store(folder / "store"), str)
    on_coreml, on_onnx = sorted(built, key=lambda each: each.artifact.format)
    ranges = [
        {n: codes.get("range") for n, codes in each.artifact.settings["inputs"].items()}
        for each in (on_coreml, on_onnx)
    ]
    assert all(ranges[1][name] == own for name, own in ranges[0].items() if own)
    texts = [tiny_bert.sentence(seed, 9) for seed in range(6)]
    pairs = list(zip(embeddings(on_coreml, texts), embeddings(on_onnx, texts), strict=True))
    assert min(cosine(a, b) for a, b in pairs) > 0.9999


@pytest.mark.skipif(not find_spec("xllamacpp"), reason="the GGUF side is not installed")
def test_one_rounding_is_in_both_formats(tmp_path: Path) -> None:
    """The weights of a GGUF artifact and of a package, value for value."""
    from gguf import GGUFReader, dequantize

    text = BOTH.format(model=WREN, data=WREN.parent / "data" / "wren-calibration.txt")
    built = build(
        make_plan(tiny_bert.write_recipe(tmp_path / "recipe.yaml", text), weights=True),
        Store(tmp_path / "store"),
        str,
    )
    paths = {each.artifact.format: each.path for each in built}
    constants = load(paths["coreml"] / COREML_PACKAGE).constants()
    tensors = {t.name: t for t in GGUFReader(paths["gguf"] / "model.gguf").tensors}
    compared = 0
    for layer in range(6):
        for theirs, ours in (("ffn_up", "up"), ("ffn_down", "down"), ("ffn_gate", "gate")):
            held = tensors[f"blk.{layer}.{theirs}.weight"]
            expected = dequantize(held.data, held.tensor_type).astype(np.float16)
            found = constants[f"layers_{layer}_mlp_{ours}_proj_weight"]
            assert np.array_equal(found.astype(np.float16), expected)
            compared += 1
    assert compared == 18


def test_nothing_unexplained_is_said(classifier: Path) -> None:
    """Neither coremltools nor what it imports says a word; warnings of all kinds are on."""
    folder = classifier.parent
    plain = IMAGE.replace("[float16, int8, int8-static, palette6]", "[float16, palette6]")
    recipe = tiny_bert.write_recipe(folder / "quiet.yaml", plain)
    ask = functools.partial(
        start_edgeq, store=folder / "quiet", cwd=folder, PYTHONWARNINGS="always"
    )
    done = ask("plan", recipe)
    assert (done.returncode, done.stderr) == (0, "")
    done = ask("build", recipe)
    said = [line for line in done.stderr.splitlines() if not re.match(r" *\d+ s  \w", line)]
    assert (done.returncode, said) == (0, [])
    assert done.stdout.startswith("artifact") and "arning" not in done.stdout


ROOTS = """\
edgeq: 1
name: roots
model: {source: net.onnx, task: tensor}
data:
  calibration: {path: calibration.npz}
quantize: {default: int8}
targets:
  - {format: coreml, devices: [iphone-15-pro]}
"""


def test_roots_that_a_mask_leaves_out_are_no_overflow_and_a_free_size_is_that_of_samples(
    tmp_path: Path,
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Sqrt", ["a"], ["r"], "root"),
        helper.make_node("Greater", ["a", "zero"], ["real"], "sign"),
        helper.make_node("Where", ["real", "r", "zero"], ["y"], "mask"),
    ]
    constants = {"w": onnx_kinds.floats(64, 96), "zero": np.array(0, np.float32)}
    inputs, outputs = [onnx_kinds.value("x", ["n", 64])], [onnx_kinds.value("y", ["n", 96])]
    onnx.save(onnx_kinds.model(nodes, inputs, outputs, constants), tmp_path / "net.onnx")
    samples = np.random.default_rng(0).normal(size=(3, 2, 64)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", x=samples)
    recipe = tiny_bert.write_recipe(tmp_path / "recipe.yaml", ROOTS)
    with pytest.raises(InvalidInput, match="has the shape") as caught:
        packages(recipe)
    (problem,) = caught.value.problems
    line = problem.remedy.removeprefix("write ")
    assert line == "coreml: {inputs: {x: [2, 64]}}"
    tiny_bert.write_recipe(recipe, f"{ROOTS}{line}\n")
    found = load(packages(recipe)["int8"].path / COREML_PACKAGE).predict({"x": samples[0]})["y"]
    (wanted,) = open_session(tmp_path / "net.onnx", threads=1).run(None, {"x": samples[0]})
    assert cosine(found, wanted) > 0.999
