"""Boxes in the executor, against onnxruntime's and PyTorch's operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="the build side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")

import onnxruntime
import torch
from onnx import TensorProto, helper

from edgeq.formats.coreml.executor.operators import OPERATORS
from edgeq.formats.coreml.executor.types import Array
from tests.support.properties import examples

WHOLE = np.array([[0, 0, 1, 1]], np.float32)


def onnx_answer(kind: str, inputs: dict[str, Array], domain: str = "", **attributes: Any) -> Array:
    node = helper.make_node(kind, list(inputs), ["y"], domain=domain, **attributes)
    types = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
    given = [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if array.dtype == np.int32 else types[array.dtype.kind],
            array.shape,
        )
        for name, array in inputs.items()
    ]  # fmt: skip
    kind_of = TensorProto.INT64 if kind == "NonMaxSuppression" else TensorProto.FLOAT
    graph = helper.make_graph(
        [node], "one", given, [helper.make_tensor_value_info("y", kind_of, None)]
    )
    opsets = [helper.make_opsetid("", 16), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found: Array = session.run(None, inputs)[0]
    return found


def corners(rng: np.random.Generator, count: int, low: float, high: float) -> Array:
    """(count, 4): top, left, bottom, right, each side at least a little long."""
    first = rng.uniform(low, high - 0.1, (count, 2))
    second = first + rng.uniform(0.05, high - first)
    return np.concatenate([first, second], 1).astype(np.float32)


@seed(0)
@examples(20)
@given(
    number=st.integers(0, 1000), height=st.integers(1, 5), width=st.integers(1, 5),
    outside=st.booleans(), order=st.sampled_from(["HEIGHT", "WIDTH"]),
    kind=st.sampled_from(["CORNERS", "CENTER_SIZE"]),
)  # fmt: skip
def test_parts_are_those_of_onnxruntime(
    number: int, height: int, width: int, outside: bool, order: str, kind: str
) -> None:
    rng = np.random.default_rng(number)
    x = rng.normal(size=(2, 3, 6, 7)).astype(np.float32)
    low, high = (-0.4, 1.4) if outside else (0.0, 1.0)
    boxes, numbers = corners(rng, 4, low, high), rng.integers(0, 2, 4, np.int32)
    inputs = {"x": x, "roi": boxes, "of": numbers, "size": np.array([height, width], np.int32)}
    settings: dict[str, Any] = {"extrapolation_value": 0.5, "mode": "bilinear"}
    wanted = onnx_answer("CropAndResize", inputs, domain="com.microsoft", **settings)
    ours = boxes
    if kind == "CENTER_SIZE":
        ours = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    if order == "WIDTH":
        ours = ours[:, [1, 0, 3, 2]]
    shared: dict[str, Any] = {
        "target_height": height, "target_width": width, "normalized_coordinates": True,
        "box_coordinate_mode": f"{kind}_{order}_FIRST", "sampling_mode": "ALIGN_CORNERS",
        "pad_value": 0.5,
    }  # fmt: skip
    found = OPERATORS["crop_resize"](x, boxes=ours, box_indices=numbers, **shared)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    roi = np.concatenate([numbers[:, None], ours], 1)[:, None, :, None, None].astype(np.float32)
    np.testing.assert_array_equal(OPERATORS["crop_resize"](x, roi, **shared)[:, 0], found)
    every = OPERATORS["crop_resize"](x, roi[:, :, 1:], **shared)
    np.testing.assert_array_equal(every[np.arange(4), numbers], found)


def test_parts_of_pixels_are_those_of_aligned_regions() -> None:
    """One sample for each place: onnxruntime's RoiAlign, whose boxes are in pixels of an input."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    boxes, numbers = corners(rng, 5, 0, 12), rng.integers(0, 2, 5, np.int64)
    inputs = {"x": x, "rois": boxes[:, [1, 0, 3, 2]].copy(), "of": numbers}
    wanted = onnx_answer(
        "RoiAlign", inputs, output_height=3, output_width=2, sampling_ratio=1, spatial_scale=0.5,
        coordinate_transformation_mode="output_half_pixel",
    )  # fmt: skip
    found = OPERATORS["crop_resize"](
        x, boxes=boxes, box_indices=numbers, target_height=3, target_width=2,
        spatial_scale=0.5, sampling_mode="OFFSET_CORNERS", pad_value=0.0,
    )  # fmt: skip
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("mode", "aligned"), [("UNALIGN_CORNERS", False), ("ALIGN_CORNERS", True)])
def test_a_whole_image_before_ios_16_is_the_resized_image(mode: str, aligned: bool) -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 4)).astype(np.float32)
    roi = WHOLE.reshape(1, 1, 4, 1, 1)
    sizes = {"target_height": 9, "target_width": 7, "normalized_coordinates": True}
    found = OPERATORS["crop_resize"](x, roi, sampling_mode=mode, **sizes)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(x), (9, 7), mode="bilinear", align_corners=aligned
    )
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)


@seed(0)
@examples(20)
@given(
    number=st.integers(0, 1000), overlap=st.sampled_from([0.0, 0.3, 0.6]),
    most=st.integers(1, 25), least=st.sampled_from([0.0, 0.4]),
)  # fmt: skip
def test_the_boxes_kept_are_those_of_onnxruntime(
    number: int, overlap: float, most: int, least: float
) -> None:
    rng = np.random.default_rng(number)
    boxes = np.concatenate([rng.uniform(0, 3, (2, 20, 2)), rng.uniform(0.2, 2, (2, 20, 2))], -1)
    boxes, scores = boxes.astype(np.float32), rng.random((2, 20, 1), np.float32)
    inputs = {
        "boxes": boxes, "scores": scores.transpose(0, 2, 1).copy(), "most": np.array([most]),
        "overlap": np.array([overlap], np.float32), "least": np.array([least], np.float32),
    }  # fmt: skip
    wanted = onnx_answer("NonMaxSuppression", inputs, center_point_box=1)
    suppress = OPERATORS["non_maximum_suppression"]
    found, rated, places, counts = suppress(boxes, scores, overlap, most, least)
    for batch in range(2):
        own = wanted[wanted[:, 0] == batch, 2]
        assert counts[batch] == len(own)
        assert places[batch].tolist() == own.tolist() + [-1] * (most - len(own))
        np.testing.assert_array_equal(found[batch, : len(own)], boxes[batch, own])
        np.testing.assert_array_equal(rated[batch, : len(own)], scores[batch, own])
        assert not found[batch, len(own) :].any() and not rated[batch, len(own) :].any()
    if not least:  # iOS 17 has no such threshold, and another order of axes
        turned = suppress(boxes.transpose(0, 2, 1), scores.transpose(0, 2, 1), overlap, most)
        np.testing.assert_array_equal(turned[0].transpose(0, 2, 1), found)
        np.testing.assert_array_equal(turned[2], places)


def test_classes_are_kept_apart_where_the_program_says_so() -> None:
    boxes = np.array([[[0, 0, 2, 2], [0.1, 0, 2, 2], [0.2, 0, 2, 2]]], np.float32)
    scores = np.array([[[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]], np.float32)
    suppress = OPERATORS["non_maximum_suppression"]
    together = suppress(boxes, scores, 0.5, 3, 0.0)[2]
    apart = suppress(boxes, scores, 0.5, 3, 0.0, per_class_suppression=True)[2]
    assert together.tolist() == [[0, -1, -1]]
    assert apart.tolist() == [[0, 1, -1]]
