"""A small detector of colored squares as an .onnx file, and annotated images of some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

LABELS = ("red", "green")
SIDE, CELL, BOX = 64, 4, 16
CELLS = SIDE // CELL
WIDE = 24


def scene(seed: int) -> tuple[Image.Image, list[tuple[str, list[float]]]]:
    """One to three noisy squares of 24 pixels on 96 × 128; labels and COCO boxes."""
    rng = np.random.default_rng(seed)
    pixels, found = rng.integers(0, 90, (96, 128, 3)), []
    for column in rng.permutation(4)[: rng.integers(1, 4)]:
        label = int(rng.integers(2))
        left, top = int(32 * column + rng.integers(0, 9)), int(rng.integers(0, 73))
        bright = rng.integers(90, 200)  # some are hardly seen
        pixels[top : top + 24, left : left + 24, label] = bright + rng.integers(-40, 40, (24, 24))
        found.append((LABELS[label], [float(left), float(top), 24.0, 24.0]))
    return Image.fromarray(pixels.astype(np.uint8)), found


def save_scenes(folder: Path, seeds: range, *, annotated: bool) -> Path:
    """PNG files, with annotations.json if wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for seed in seeds:
        image, found = scene(seed)
        image.save(folder / f"{seed}.png")
        images.append({"id": seed, "file_name": f"{seed}.png", "width": 128, "height": 96})
        for label, box in found:
            about = {"image_id": seed, "category_id": LABELS.index(label) + 7, "bbox": box}
            boxes.append({"id": len(boxes) + 1, "area": box[2] * box[3], "iscrowd": 0, **about})
    categories = [{"id": index + 7, "name": name} for index, name in enumerate(LABELS)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    if annotated:
        (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def save_detector(path: Path, *, suppress: bool = False) -> Path:
    """Convolutions that score every cell; (1, 6, cells): the box's center and sizes, two scores.

    suppress: with NonMaxSuppression in the graph, whose one output has rows of a box, score, class.
    """
    rng = np.random.default_rng(0)
    mean = np.zeros((96, 3, CELL, CELL), np.float32)
    for channel in range(96):
        mean[channel, channel % 3] = 1 / CELL**2
    mean += rng.normal(0, 0.003, mean.shape).astype(np.float32)
    # Over 3 × 3 cells: one color's mean minus the others'.
    sums = np.zeros((2, 96, 3, 3), np.float32)
    for label in range(2):
        for channel in range(96):
            sums[label, channel] = (1.4 if channel % 3 == label else -1.0) / (9 * 32)
    mean[90:] *= WIDE  # whose range takes the others' codes: int8 finds other boxes
    sums[:, 90:] /= WIDE
    y, x = np.divmod(np.arange(CELLS**2), CELLS)
    centers = [(x + 0.5) * CELL, (y + 0.5) * CELL, 0 * x + BOX, 0 * y + BOX]
    constants = {
        "mean": mean,
        "sums": sums,
        "bias": np.full(2, -0.3, np.float32),
        "steep": np.array(12, np.float32),
        "flat": np.array([1, 2, CELLS**2]),
        "boxes": np.stack(centers)[None].astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "mean"], ["a"], "conv1", strides=[CELL, CELL]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "sums", "bias"], ["c"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["c", "steep"], ["d"], "steepen"),
        helper.make_node("Sigmoid", ["d"], ["e"], "chance"),
        helper.make_node("Reshape", ["e", "flat"], ["scores"], "flatten"),
        helper.make_node("Concat", ["boxes", "scores"], ["found"], "end", axis=1),
    ]
    output = helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, 6, CELLS**2])
    if suppress:
        nodes[-1:] = _suppression(constants)
        output = helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, "n", 6])
    graph = helper.make_graph(
        nodes,
        "scenes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [output],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, overlap: float, least: float
) -> set[tuple[int, int]]:
    """Pairs of label and box that onnxruntime's own operator keeps; boxes (n, 4), centers first,
    scores (labels, n)."""
    import onnxruntime

    node = helper.make_node(
        "NonMaxSuppression", ["b", "s", "most", "overlap", "least"], ["kept"], center_point_box=1
    )
    most = np.array([len(boxes)])
    graph = helper.make_graph(
        [node],
        "nms",
        [
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, "n", 4]),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, "c", "n"]),
        ],
        [helper.make_tensor_value_info("kept", TensorProto.INT64, ["k", 3])],
        [
            numpy_helper.from_array(most, "most"),
            numpy_helper.from_array(np.array([overlap], np.float32), "overlap"),
            numpy_helper.from_array(np.array([least], np.float32), "least"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {"b": boxes[None].astype(np.float32), "s": scores[None].astype(np.float32)}
    (kept,) = session.run(None, feeds)
    return {(int(label), int(box)) for _, label, box in kept}


def _suppression(constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """From centers and scores to (1, n, 6): corners, score, class."""
    x, y, width, height = constants["boxes"][0]
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
    constants |= {
        "corners": corners[None].astype(np.float32),
        "most": np.array([50]),
        "overlap": np.array([0.3], np.float32),
        "least": np.array([0.3], np.float32),
        "box_at": np.array([2]),
        "label_at": np.array([1]),
        "one": np.array([1]),
        "plane": np.array([0]),
    }
    return [
        helper.make_node(
            "NonMaxSuppression", ["corners", "scores", "most", "overlap", "least"], ["kept"], "nms"
        ),
        helper.make_node("Gather", ["kept", "box_at"], ["box"], "box", axis=1),
        helper.make_node("Gather", ["kept", "label_at"], ["label"], "label", axis=1),
        helper.make_node("Squeeze", ["box", "one"], ["row"], "row"),
        helper.make_node("Gather", ["corners", "row"], ["own"], "own", axis=1),
        helper.make_node("GatherND", ["scores", "kept"], ["score"], "score"),
        helper.make_node("Unsqueeze", ["score", "one"], ["scored"], "scored"),
        helper.make_node("Cast", ["label"], ["class"], "class", to=TensorProto.FLOAT),
        helper.make_node("Concat", ["scored", "class"], ["right"], "right", axis=1),
        helper.make_node("Unsqueeze", ["right", "plane"], ["rights"], "rights"),
        helper.make_node("Concat", ["own", "rights"], ["found"], "end", axis=2),
    ]
