from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import edgeq
from edgeq.core.artifact import ARTIFACT_FILE, DATA_FILE, MODEL_FILE, ValueInfo, seal
from edgeq.core.known_settings import SAMPLE_KEY, require_known
from edgeq.formats import runtime_cache
from edgeq.formats.onnx import prepacked
from edgeq.formats.onnx.model import OnnxModel
from edgeq.formats.samples import made_up
from edgeq.models import onnx_session
from tests.support import samples
from tests.support.bundles import unchecked_bundle

REPOSITORY = Path(__file__).parents[3]

# Prints how much more this process holds (MiB) after loading and running, and whether it prepared.
GROWTH = """
import json, sys, warnings
import numpy as np
import edgeq, edgeq.formats.loaded
from tests.support import samples

warnings.simplefilter("ignore")
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

feeds = samples.tensor_feeds(batch=1, width=2048)
before = anonymous()
model = edgeq.load(sys.argv[1], threads=1)
model.run(feeds)
print(json.dumps([model.prepared, anonymous() - before]))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def copies(cache: Path) -> list[Path]:
    return [path for path in cache.glob("prepared/*") if path.is_dir()]


def zipped(artifact: Path, out: Path) -> Path:
    return unchecked_bundle(artifact, out)


def unprepared(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxModel:
    with monkeypatch.context() as patch:
        patch.setattr(prepacked, "PREPARE_FROM", 2**40)
        model = edgeq.load(artifact)
    assert isinstance(model, OnnxModel)
    return model


def test_a_prepared_model_gives_the_same_bits(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    feeds = samples.tensor_feeds()
    plain = unprepared(artifact, monkeypatch)
    mapped = edgeq.load(artifact)
    assert (plain.prepared, mapped.prepared) == (False, True)
    assert (plain.run(feeds)["logits"] == mapped.run(feeds)["logits"]).all()
    assert len(copies(cache)) == 1


def test_it_is_made_once_for_a_model_in_any_form(tmp_path: Path, cache: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    edgeq.load(artifact)
    (copy,) = copies(cache)
    made = (copy / DATA_FILE).stat()
    bundle = zipped(artifact, tmp_path / "a.zip")
    assert edgeq.load(bundle).prepared
    assert copies(cache) == [copy]
    assert (copy / DATA_FILE).stat().st_mtime_ns == made.st_mtime_ns
    assert (copy / DATA_FILE).stat().st_ino == made.st_ino


def test_a_bundle_is_unpacked_only_while_it_is_prepared(tmp_path: Path, cache: Path) -> None:
    bundle = zipped(samples.tensor_artifact(tmp_path / "artifact"), tmp_path / "a.zip")
    edgeq.load(bundle)
    (copy,) = copies(cache)
    assert {path.name for path in copy.iterdir()} == {MODEL_FILE, DATA_FILE, "stage.json"}


def test_other_weights_and_other_processors_get_their_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = samples.tensor_artifact(tmp_path / "first", seed=1)
    edgeq.load(first)
    edgeq.load(samples.tensor_artifact(tmp_path / "second", seed=2))
    assert len(copies(cache)) == 2
    monkeypatch.setattr(onnx_session, "cpu_facts", lambda: {"machine": "another"})
    prepacked.main(first)
    assert len(copies(cache)) == 3


def test_a_record_with_another_sample_is_compared_anew(tmp_path: Path, cache: Path) -> None:
    first = samples.tensor_artifact(tmp_path / "artifact")
    edgeq.load(first)
    record = json.loads((first / ARTIFACT_FILE).read_text())
    del record["digest"]
    record["settings"][SAMPLE_KEY] = {record["inputs"][0]["name"]: {"shape": [1, 256]}}
    (first / ARTIFACT_FILE).write_bytes(seal(record))
    with pytest.warns(RuntimeWarning, match="accepts none of the inputs"):  # of that shape
        edgeq.load(first)
    assert len(copies(cache)) == 2


def test_small_models_are_loaded_as_they_are(tmp_path: Path, cache: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    assert not edgeq.load(artifact).prepared
    assert copies(cache) == []


@pytest.mark.parametrize("name", [MODEL_FILE, DATA_FILE])
def test_a_damaged_copy_is_made_again(tmp_path: Path, cache: Path, name: str) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    expected = edgeq.load(artifact).run(samples.tensor_feeds())["logits"]
    (copy,) = copies(cache)
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    model = edgeq.load(artifact)
    assert model.prepared
    assert (model.run(samples.tensor_feeds())["logits"] == expected).all()
    assert (copy / name).read_bytes() == whole


@pytest.mark.parametrize("form", ["artifact", "zip"])
def test_without_a_place_for_the_copy_it_loads_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    path = samples.tensor_artifact(tmp_path / "artifact")
    expected = unprepared(path, monkeypatch).run(samples.tensor_feeds())["logits"]
    if form == "zip":
        path = zipped(path, tmp_path / "a.zip")
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match=r"(?s)1\.0 MiB more memory.*EDGEQ_CACHE") as warned:
        model = edgeq.load(path)
    assert warned[0].filename == __file__
    assert not model.prepared
    assert (model.run(samples.tensor_feeds())["logits"] == expected).all()


def test_a_copy_that_answers_otherwise_is_refused_and_not_made_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", seed=1)
    other = samples.tensor_artifact(tmp_path / "other", seed=2)
    expected = unprepared(artifact, monkeypatch).run(samples.tensor_feeds())["logits"]
    save = onnx_session.save_optimized
    with monkeypatch.context() as patch:
        patch.setattr(
            onnx_session, "save_optimized", lambda _, to, own: save(other / MODEL_FILE, to, own)
        )
        prepacked.main(artifact)
    (copy,) = copies(cache)
    assert {path.name for path in copy.iterdir()} == {"refused.txt", "stage.json"}
    made = (copy / "refused.txt").stat().st_mtime_ns
    with pytest.warns(RuntimeWarning, match="give other outputs than the model"):
        model = edgeq.load(artifact)
    assert not model.prepared
    assert (model.run(samples.tensor_feeds())["logits"] == expected).all()
    assert (copy / "refused.txt").stat().st_mtime_ns == made


@pytest.mark.filterwarnings("ignore:.*loaded without a prepared copy")
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("bits", "accuracy_level"), [(4, 0), (4, 4), (8, 4)])
def test_block_wise_weights_answer_the_same_however_they_are_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bits: int,
    accuracy_level: int,
    aligned: bool,
) -> None:
    artifact = samples.block_artifact(tmp_path / "artifact", bits, accuracy_level, aligned=aligned)
    feeds = samples.tensor_feeds(width=1024)
    expected = unprepared(artifact, monkeypatch).run(feeds)["logits"]
    model = edgeq.load(artifact)
    assert (model.run(feeds)["logits"] == expected).all()
    if aligned:
        assert model.prepared


def test_two_loaders_at_once_get_one_copy(tmp_path: Path, cache: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    program = "import edgeq, sys; assert edgeq.load(sys.argv[1]).prepared"
    command = [sys.executable, "-W", "error", "-c", program, str(artifact)]
    processes = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert len(copies(cache)) == 1


def test_the_longest_unused_copies_go_first(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = [samples.tensor_artifact(tmp_path / str(seed), seed=seed) for seed in range(3)]
    for artifact in artifacts[:2]:
        prepacked.main(artifact)
    edgeq.load(artifacts[0])  # so that the second is the longest unused
    one = sum(path.stat().st_size for path in copies(cache)[0].iterdir())
    monkeypatch.setattr(runtime_cache, "KEEP", int(2.5 * one))
    prepacked.main(artifacts[2])
    left = copies(cache)
    assert len(left) == 2
    for index in (0, 2):
        prepacked.main(artifacts[index])
    assert set(copies(cache)) == set(left)


@pytest.mark.skipif(sys.platform != "linux", reason="reads RssAnon, which only Linux reports")
def test_preparing_keeps_the_weights_out_of_anonymous_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=2048)  # 16 MiB of weights

    def growth() -> tuple[bool, float]:
        command = [sys.executable, "-c", GROWTH, str(artifact)]
        prepacked, mib = json.loads(subprocess.check_output(command, text=True, cwd=REPOSITORY))
        return prepacked, mib

    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setenv("EDGEQ_CACHE", str(tmp_path / "file" / "cache"))
        was_prepared, plain = growth()
        assert not was_prepared
    for when in ("as it is made", "from the cache"):
        was_prepared, mapped = growth()
        assert was_prepared, when
        assert mapped < plain - 8, when


def test_the_probe_for_saturation_is_one_integer_product() -> None:
    shape = {"a": (TensorProto.UINT8, [1, 64]), "b": (TensorProto.INT8, [64, 64])}
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, *info) for name, info in shape.items()],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 64])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert base64.b64encode(model.SerializeToString()) == base64.b64encode(
        onnx_session.PRODUCT_MODEL
    )


def test_int8_products_are_exact_with_the_settings_for_this_processor(tmp_path: Path) -> None:
    weight = np.full((64, 8), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "weight"], ["y"])],
        "extremes",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 8])],
        [helper.make_tensor("weight", TensorProto.INT8, weight.shape, weight.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / MODEL_FILE
    path.write_bytes(model.SerializeToString())
    session = onnx_session.open_session(path, threads=1)
    (product,) = session.run(None, {"a": np.full((1, 64), 255, np.uint8)})
    assert (product == 255 * 127 * 64).all()


def test_probes_have_the_shapes_and_integers_that_the_record_tells() -> None:
    inputs = [
        ValueInfo(name="x", dtype="float32", shape=("batch", "sequence")),
        ValueInfo(name="rate", dtype="int64", shape=()),
    ]
    known = {"x": {"shape": [1, 576]}, "rate": {"shape": [], "integer": 16000}}
    feed = made_up(inputs, {SAMPLE_KEY: known}, np.random.default_rng(0))
    assert feed["x"].shape == (1, 576) and feed["rate"] == 16000
    assert made_up(inputs, {}, np.random.default_rng(0))["x"].shape == (8, 8)


def test_a_record_whose_sample_would_not_fit_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="an input has over"):
        require_known({SAMPLE_KEY: {"x": {"shape": [1 << 20, 1 << 20]}}})


def test_what_onnxruntime_says_is_told_without_its_codes() -> None:
    said = "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running"
    error = Exception(f"{said} Pad node. Name:'p' Status Message: post-pad (64) exceeds 7\n")
    assert (
        onnx_session.reason(error)
        == "it stops while running Pad node. Name:'p' post-pad (64) exceeds 7"
    )
