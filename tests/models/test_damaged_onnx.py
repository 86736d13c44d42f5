"""Damaged ONNX graphs are read or refused by name; nothing else is raised, nothing is logged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
from onnx import helper

from edgeq.core.errors import EdgeqError, InvalidInput
from edgeq.formats.onnx.write import copy_float, write_quantized
from edgeq.models.graphs.imported import import_onnx, read_onnx
from edgeq.models.graphs.source import source_files
from edgeq.quantize.decide import decide
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import preset
from tests.support import onnx_kinds, onnx_models
from tests.support.mutants import mutant

MUTANTS = 8
INTENT = Intent(preset("int8-dynamic", "onnx", "tensor"), "onnx", "tensor", ())
OTHERS = ("convolutional", "lstm", "loop", "gru")


def build(path: Path, folder: Path) -> None:
    """All that is done with a graph before onnxruntime sees it."""
    graph, written = folder / "float", folder / "written"
    for each in (graph, written):
        each.mkdir(exist_ok=True)
    source_files(path)
    import_onnx(path, graph)
    copy_float(graph, written)
    write_quantized(graph, written, lambda name, shape: decide(name, shape, INTENT), [], str)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # weights that became infinite
@pytest.mark.parametrize("name", [*onnx_kinds.KINDS, *OTHERS])
def test_a_damaged_graph_is_read_or_refused(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if name in OTHERS:
        content = getattr(onnx_models, name)(tmp_path / "good.onnx").read_bytes()
    else:
        content = onnx_kinds.save(name, tmp_path)[0].read_bytes()
    path, refused = tmp_path / "damaged.onnx", 0
    for seed in range(MUTANTS):
        path.write_bytes(mutant(f"{name}.onnx", content, seed))
        try:
            build(path, tmp_path)
        except EdgeqError as error:
            refused += 1
            assert all(p.where and p.what and p.remedy for p in error.problems), seed
        assert not caplog.records, seed  # names out of the file, written to a terminal as they are
    assert refused


def _with_attribute_of_no_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="alpha", f=1.0)


def _without_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = 0


def _without_operator_set(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "another"


def _without_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = ""


def _with_input_of_nobody(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nobody"


def _with_output_of_nobody(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nobody"


def _with_short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-1]


def _not_convertible(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9
    model.graph.node.append(helper.make_node("NoSuchOperator", ["x"], ["unused"]))


DEFECTS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "attribute": (_with_attribute_of_no_type, "of Gemm 'gemm' has no type"),
    "type": (_without_type, "the output 'y' has no element type"),
    "operator set": (_without_operator_set, "no version of ONNX's operator set"),
    "input": (_without_input, "Gemm 'gemm' lacks an input"),
    "unmade input": (_with_input_of_nobody, "Gemm 'gemm' reads 'nobody', which nothing makes"),
    "unmade output": (_with_output_of_nobody, "nothing makes the output 'nobody'"),
    "short": (_with_short_weight, "the tensor 'w' of shape (64, 96) has 24575 bytes"),
    "converter": (_not_convertible, "opset 9 cannot be converted to 17"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_named_with_its_place(defect: str, tmp_path: Path) -> None:
    path, _ = onnx_kinds.save("gemm_bias_columns", tmp_path)
    model = onnx.load(path)
    damage, words = DEFECTS[defect]
    damage(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidInput) as caught:
        read_onnx(path)
    assert words in str(caught.value)
    assert caught.value.problems[0].where == str(path)
