"""What onnxruntime computes from a written file is what the codes in it say."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from edgeq.core.artifact import DATA_FILE, MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.quantized import pack_blocks
from edgeq.formats.onnx.write import Written, write_quantized
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.graphs.rounding import find_codes
from edgeq.models.graphs.weights import SLOWER
from edgeq.models.onnx_session import open_session
from edgeq.quantize.decide import decide
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats import number_format
from edgeq.quantize.number_formats.integers import (
    INT4_B32,
    INT4_STORED,
    INT8,
    INT8_B32,
    INT8_STORED,
    IntegerFormat,
)
from edgeq.quantize.spec import Intent, Rule
from edgeq.quantize.statistics import Observed
from edgeq.quantize.storage import preset
from tests.support import onnx_kinds, onnx_models

Feeds = list[dict[str, np.ndarray]]


def quantize(
    source: Path, folder: Path, variant: str, feeds: Feeds, rules: tuple[Rule, ...] = ()
) -> tuple[Path, Path, Written]:
    """The imported float model, the quantized one, and its record."""
    plain, quantized = folder / "float", folder / variant
    plain.mkdir(exist_ok=True)
    quantized.mkdir()
    import_onnx(source, plain)
    intent = Intent(preset(variant, "onnx", "tensor"), "onnx", "tensor", rules)
    written = write_quantized(
        plain, quantized, lambda name, shape: decide(name, shape, intent), feeds, str
    )
    return plain / MODEL_FILE, quantized / MODEL_FILE, written


def run(model: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(open_session(model, threads=1).run(None, feed)[0])


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def images(count: int, seed: int = 0) -> Feeds:
    rng = np.random.default_rng(seed)
    return [{"image": rng.standard_normal((1, 3, 32, 32), np.float32)} for _ in range(count)]


def sequences(count: int, seed: int = 0) -> Feeds:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((12, 1, 32), np.float32)} for _ in range(count)]


def linear_model(path: Path, columns: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """Rows of a table, looked up and multiplied; also the table and the weight by outputs."""
    rng = np.random.default_rng(5)
    table = rng.standard_normal((200, columns)).astype(np.float32)
    weight = rng.standard_normal((columns, 80)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["rows"], "lookup"),
        onnx.helper.make_node("MatMul", ["rows", "weight"], ["y"], "linear"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 80])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weight, "weight")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path, table, weight.T


@pytest.mark.parametrize("stored_as", ["int8-b32", "int4-b32"])
@pytest.mark.parametrize("columns", [64, 96])
def test_blocks_compute_what_their_codes_dequantize_to(
    tmp_path: Path, stored_as: str, columns: int
) -> None:
    source, table, _ = linear_model(tmp_path / "m.onnx", columns)
    rules = (Rule(match="table", use="float32"),)
    feeds = [{"ids": np.arange(200)}]
    _, quantized, written = quantize(source, tmp_path, stored_as, feeds, rules)
    assert written.tensors["table"].number_format == "float32"
    assert written.tensors["weight"].number_format == stored_as
    tensors = {
        name: value.const_value.numpy()
        for name, value in ir.load(quantized).graph.initializers.items()
        if value.const_value is not None
    }
    codes, scales = tensors["weight.codes"], tensors["weight.scales"]
    expected = table @ unpack_blocks(codes, scales, columns).T
    assert relative_error(run(quantized, feeds[0]), expected) < 1e-6


def unpack_blocks(codes: np.ndarray, scales: np.ndarray, columns: int) -> np.ndarray:
    """MatMulNBits' layout read a second time, from the operator's documentation."""
    if codes.shape[-1] == 16:
        codes = np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:2], 32)
        values = (codes.astype(np.float32) - 8) * scales[..., None]
    else:
        values = (codes.astype(np.float32) - 128) * scales[..., None]
    return np.asarray(values.reshape(len(codes), -1)[:, :columns])


@pytest.mark.parametrize("stored_as", [INT4_B32, INT8_B32], ids=lambda g: g.name)
@pytest.mark.parametrize("columns", [32, 64, 70])
def test_packing_loses_nothing(stored_as: IntegerFormat, columns: int) -> None:
    weight = np.random.default_rng(6).standard_normal((7, columns)).astype(np.float32)
    tensor = NEAREST.round(weight, None, stored_as)
    unpacked = unpack_blocks(pack_blocks(tensor), tensor.scales, columns)
    assert np.array_equal(unpacked, tensor.dequantize())


@pytest.mark.parametrize("variant", ["int8-dynamic", "int8-b32", "int4-b32"])
def test_tables_hold_exactly_their_codes(tmp_path: Path, variant: str) -> None:
    source, _, weight = linear_model(tmp_path / "m.onnx", 64)
    rules = (Rule(match="weight", use="float32"),)
    feeds = [{"ids": np.arange(200)}]
    plain, quantized, _ = quantize(source, tmp_path, variant, feeds, rules)
    stored_as = number_format(preset(variant, "onnx", "tensor").weights)
    intent = Intent(preset(variant, "onnx", "tensor"), "onnx", "tensor", rules)
    codes = find_codes(plain.parent, lambda name, shape: decide(name, shape, intent), feeds, str)
    expected = codes["table"].dequantize() @ weight.T
    # GatherBlockQuantized gives rows in the type of its scales: one rounding of 2⁻¹¹ a value.
    limit = 1e-6 if stored_as.group_size is None else 2**-11
    assert relative_error(run(quantized, feeds[0]), expected) < limit


def test_gemm_keeps_its_bias_and_the_net_its_answers(tmp_path: Path) -> None:
    source = onnx_models.convolutional(tmp_path / "m.onnx")
    plain, quantized, written = quantize(source, tmp_path, "int8-static", images(16))
    number_formats = {name: tensor.number_format for name, tensor in written.tensors.items()}
    assert number_formats == {"c1.w": "int8-stored", "c2.w": "int8", "fc.w": "int8"}
    errors = [relative_error(run(quantized, f), run(plain, f)) for f in images(8, seed=1)]
    assert max(errors) < 0.05
    assert written.tensors["c2.w"].shape == (64, 32, 3, 3)


def test_convolutions_really_run_in_integers(tmp_path: Path) -> None:
    source = onnx_models.convolutional(tmp_path / "m.onnx")
    _, quantized, _ = quantize(source, tmp_path, "int8-static", images(16))
    operators = operators_at_run_time(quantized, tmp_path / "optimized.onnx")
    assert operators.count("QLinearConv") == operators.count("Conv") == 1
    assert "BatchNormalization" not in operators


def test_a_convolution_that_is_slower_in_codes_is_stored_in_them(tmp_path: Path) -> None:
    """Its three input channels are; what is computed are floats of the codes, made only once."""
    source = onnx_models.convolutional(tmp_path / "m.onnx")
    rules = (Rule(match="*c2.w", use="float32"), Rule(match="fc.w", use="float32"))
    plain, quantized, written = quantize(source, tmp_path, "int8-static", images(16), rules)
    record = written.tensors["c1.w"]
    assert record.note == SLOWER and record.number_format == "int8-stored"
    operators = operators_at_run_time(quantized, tmp_path / "run.onnx")
    assert operators == operators_at_run_time(plain, tmp_path / "plain.onnx")
    model = onnx.load(plain)
    (weight,) = (each for each in model.graph.initializer if each.name == "c1.w")
    exact = NEAREST.round(numpy_helper.to_array(weight).reshape(32, -1), None, INT8).dequantize()
    weight.CopyFrom(numpy_helper.from_array(exact.reshape(32, 3, 7, 7), "c1.w"))
    onnx.save(model, plain)
    (image,) = images(1, seed=1)
    assert relative_error(run(quantized, image), run(plain, image)) < 1e-6


def test_between_convolutions_onnxruntime_stays_in_codes(tmp_path: Path) -> None:
    source, feed = onnx_kinds.save("residual_with_silu", tmp_path)
    _, model, _ = quantize(source, tmp_path, "int8-static", [feed])
    found = operators_at_run_time(model, tmp_path / "run.onnx")
    assert {"QLinearAdd", "QLinearMul", "QLinearSigmoid"} <= set(found)
    assert found.count("QuantizeLinear") == 1 and not {"Add", "Mul", "Relu"} & set(found)


def test_a_hard_swish_between_convolutions_in_codes_is_a_sum_and_a_product(tmp_path: Path) -> None:
    source, feed = onnx_kinds.save("hard_swish_and_numbers", tmp_path)
    plain, model, _ = quantize(source, tmp_path, "int8-static", [feed])
    found = operators_at_run_time(model, tmp_path / "run.onnx")
    assert {"QLinearAdd", "QLinearMul", "QLinearConv"} <= set(found)
    assert not {"Conv", "HardSigmoid", "Add", "Mul", "Clip", "LeakyRelu"} & set(found)
    assert relative_error(run(model, feed), run(plain, feed)) < 0.05


def test_what_changes_the_answers_most_is_computed_in_floats(tmp_path: Path) -> None:
    source, feed = onnx_kinds.save("hard_swish_and_numbers", tmp_path)
    plain, model, _ = quantize(source, tmp_path, "int8-static", [feed])
    plain_error = relative_error(run(model, feed), run(plain, feed))
    intent = Intent(preset("int8-static", "onnx", "tensor"), "onnx", "tensor")
    limited = tmp_path / "limited"
    limited.mkdir()
    written = write_quantized(
        plain.parent,
        limited,
        lambda name, shape: decide(name, shape, intent),
        [feed],
        str,
        limit=plain_error / 4,
    )
    assert relative_error(run(limited / MODEL_FILE, feed), run(plain, feed)) < plain_error / 2
    notes = {tensor.note for tensor in written.tensors.values()}
    assert any("change the answers" in note for note in notes)


def test_variants_share_what_was_observed(tmp_path: Path) -> None:
    """Other variants in between change no byte, and what was observed is not observed again."""
    import_onnx(onnx_models.convolutional(tmp_path / "m.onnx"), tmp_path)
    shared: Observed = {}

    def built(variant: str, observed: Observed | None) -> tuple[dict[str, bytes], bool]:
        folder, said = tmp_path / f"{variant}-{observed is None}", list[str]()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        intent = Intent(preset(variant, "onnx", "tensor"), "onnx", "tensor")
        write_quantized(
            tmp_path, folder, lambda n, s: decide(n, s, intent), images(4), said.append,
            observed=observed,
        )  # fmt: skip
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        return files, any(words.startswith("calibrate on") for words in said)

    for variant in ("int8-dynamic", "int8-static", "int4-b32"):
        alone, _ = built(variant, None)
        first, _ = built(variant, shared)
        again, calibrated = built(variant, shared)
        assert alone == first == again and not calibrated
    assert shared


def operators_at_run_time(model: Path, optimized: Path) -> list[str]:
    """What onnxruntime makes of a file when it loads it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimized)
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = level
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(optimized, load_external_data=False).graph.node]


def test_importing_a_net_changes_no_answer(tmp_path: Path) -> None:
    source = onnx_models.convolutional(tmp_path / "m.onnx")
    import_onnx(source, tmp_path)
    for feed in images(4):
        found = run(tmp_path / MODEL_FILE, feed)
        assert relative_error(found, run(source, feed)) < 1e-5
    assert (tmp_path / DATA_FILE).exists()


def test_dynamic_int8_refuses_a_net_of_convolutions_by_name(tmp_path: Path) -> None:
    source = onnx_models.convolutional(tmp_path / "m.onnx")
    rules = (Rule(match="fc.w", use="float32"),)
    with pytest.raises(InvalidInput, match="Conv has fast int8 kernels only for static") as error:
        quantize(source, tmp_path, "int8-dynamic", images(1), rules)
    assert [problem.where for problem in error.value.problems] == [
        "the weight 'c1.w'",
        "the weight 'c2.w'",
    ]


@pytest.mark.parametrize("variant", ["int8-dynamic", "int8-static"])
def test_an_lstm_runs_quantized(tmp_path: Path, variant: str) -> None:
    source = onnx_models.lstm(tmp_path / "m.onnx")
    plain, quantized, written = quantize(source, tmp_path, variant, sequences(8))
    assert {tensor.number_format for tensor in written.tensors.values()} == {"int8"}
    operators = [node.op_type for node in onnx.load(quantized).graph.node]
    assert "DynamicQuantizeLSTM" in operators
    errors = [relative_error(run(quantized, f), run(plain, f)) for f in sequences(4, seed=1)]
    assert max(errors) < 0.1


@pytest.mark.parametrize("variant", ["int8-dynamic", "int8-static", "int4-b32"])
def test_weights_inside_a_loop_are_quantized(tmp_path: Path, variant: str) -> None:
    source = onnx_models.loop(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((1, 96)).astype(np.float32)} for _ in range(4)]
    plain, quantized, written = quantize(source, tmp_path, variant, feeds)
    assert written.tensors["step.w"].number_format == preset(variant, "onnx", "tensor").weights
    limit = 0.3 if variant == "int4-b32" else 0.05
    assert max(relative_error(run(quantized, f), run(plain, f)) for f in feeds) < limit
    if variant == "int8-static":
        assert "dynamic ranges" in written.tensors["step.w"].note


@pytest.mark.parametrize(
    ("variant", "share", "error"), [("int8-stored", 0.3, 0.05), ("int4-stored", 0.18, 0.4)]
)
@pytest.mark.parametrize("name", ["gru", "lstm", "loop", "convolutional"])
def test_any_weight_can_be_stored_in_integers(
    tmp_path: Path, name: str, variant: str, share: float, error: float
) -> None:
    source = getattr(onnx_models, name)(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    shapes = {"loop": ("x", (1, 96)), "convolutional": ("image", (1, 3, 32, 32))}
    feed, shape = shapes.get(name, ("x", (12, 1, 32)))
    plain, quantized, written = quantize(source, tmp_path, variant, [])
    assert {tensor.number_format for tensor in written.tensors.values()} == {variant}
    onnx.checker.check_model(str(quantized))
    size = [path.with_name(DATA_FILE).stat().st_size for path in (quantized, plain)]
    assert size[0] < share * size[1]
    feeds = {feed: rng.standard_normal(shape).astype(np.float32)}
    assert relative_error(run(quantized, feeds), run(plain, feeds)) < error
    expansion = {"DequantizeLinear", "Cast", "Floor", "Div"}
    assert not expansion & {*operators_at_run_time(quantized, tmp_path / "run.onnx")}


@pytest.mark.parametrize("stored", [INT8_STORED, INT4_STORED])
@pytest.mark.parametrize("rows_first", [False, True])
def test_what_is_expanded_is_exactly_what_its_codes_say(
    tmp_path: Path, stored: IntegerFormat, rows_first: bool
) -> None:
    """With 96 columns in 3 groups, and with 80, whose last group is half full."""
    for columns in (96, 80):
        weight = np.random.default_rng(0).standard_normal((64, columns)).astype(np.float32)
        kept = weight if rows_first else np.ascontiguousarray(weight.T)
        node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], "product", transB=int(rows_first))
        inputs, outputs = (
            [onnx_kinds.value("x", ["n", columns])],
            [onnx_kinds.value("y", ["n", 64])],
        )
        model = onnx_kinds.model([node], inputs, outputs, {"w": kept}, opset=11)
        source = tmp_path / f"{columns}.onnx"
        onnx.save(model, source)
        folder = tmp_path / str(columns)
        folder.mkdir()
        _, quantized, _ = quantize(source, folder, stored.name, [])
        wanted = NEAREST.round(weight, None, stored).dequantize().T
        found = run(quantized, {"x": np.eye(columns, dtype=np.float32)})
        np.testing.assert_array_equal(found, wanted)


def test_a_gru_is_stored_in_int8_and_refused_in_int4(tmp_path: Path) -> None:
    source = onnx_models.gru(tmp_path / "m.onnx")
    _, _, written = quantize(source, tmp_path, "int8-dynamic", sequences(1))
    notes = {tensor.number_format: tensor.note for tensor in written.tensors.values()}
    assert notes == {"int8-stored": "computed in float32: no integer kernel reads it"}
    with pytest.raises(InvalidInput, match="GRU 'gru': it has no quantized kernel"):
        quantize(source, tmp_path, "int4-b32", sequences(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read"), (b"not an onnx file", "cannot be read"), (b"\x08\x07", "cannot be")],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as error:
        import_onnx(path, tmp_path)
    assert "broken.onnx" in error.value.problems[0].where


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    source = onnx_models.convolutional(tmp_path / "m.onnx")
    made: list[dict[str, bytes]] = []
    for attempt in ("a", "b"):
        (tmp_path / attempt).mkdir()
        _, quantized, _ = quantize(source, tmp_path / attempt, "int8-static", images(4))
        made.append({p.name: p.read_bytes() for p in quantized.parent.iterdir()})
    assert made[0] == made[1]


def test_a_watched_value_is_the_one_that_is_multiplied(tmp_path: Path) -> None:
    source, table, _ = linear_model(tmp_path / "m.onnx", 64)
    plain, quantized = tmp_path / "float", tmp_path / "int8"
    for folder in (plain, quantized):
        folder.mkdir()
    import_onnx(source, plain)
    intent = Intent(preset("int8-static", "onnx", "tensor"), "onnx", "tensor")
    feeds = [{"ids": np.arange(100)}, {"ids": np.arange(100, 200)}]
    written = write_quantized(plain, quantized, lambda n, s: decide(n, s, intent), feeds, str)
    bounds = written.input_codes["weight"]["range"]
    assert isinstance(bounds, list)
    low, high = bounds
    assert table.min() * 1.001 <= low <= 0 <= high <= table.max() * 1.001


@pytest.mark.parametrize(
    "stored",
    [
        IntegerFormat("int5-b32", bits=5, group_size=32),
        IntegerFormat("int4-b24", bits=4, group_size=24),
        IntegerFormat("int4", bits=4),
    ],
    ids=lambda each: each.name,
)
def test_widths_and_groups_that_no_operator_reads_are_refused(stored: IntegerFormat) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 96)).astype(np.float32)
    with pytest.raises(InvalidInput, match=stored.name):
        pack_blocks(NEAREST.round(weight, None, stored))
