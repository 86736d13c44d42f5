"""A small trained classifier of shapes as an .onnx file, and images of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

LABELS = ("circle", "square", "cross", "bar", "triangle", "frame")
SIDE = 32
MEAN, DEVIATION = (0.5, 0.4, 0.45), (0.25, 0.3, 0.2)


def shape(label: str, seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A shape of one color on another with noise; size: width and height."""
    rng = np.random.default_rng(seed)
    back, front = rng.integers(60, 110, 3), rng.integers(120, 170, 3)
    image = Image.new("RGB", size, tuple(map(int, back)))
    draw, (width, height) = ImageDraw.Draw(image), size
    left, top = rng.integers(2, 9, 2)
    right, bottom = width - rng.integers(2, 9), height - rng.integers(2, 9)
    box, color = [int(left), int(top), int(right), int(bottom)], tuple(map(int, front))
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    if label == "circle":
        draw.ellipse(box, fill=color)
    elif label == "square":
        draw.rectangle(box, fill=color)
    elif label == "cross":
        draw.line([x, box[1], x, box[3]], color, 5)
        draw.line([box[0], y, box[2], y], color, 5)
    elif label == "bar":
        draw.line([box[0], y, box[2], y], color, 7)
    elif label == "triangle":
        draw.polygon([x, box[1], box[2], box[3], box[0], box[3]], fill=color)
    else:
        draw.rectangle(box, outline=color, width=4)
    noisy = np.asarray(image, np.float64) + rng.normal(0, 120, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def save_shapes(folder: Path, seeds: range, *, by_label: bool) -> Path:
    """PNG files, in subdirectories named by their labels if wanted."""
    for seed in seeds:
        label = LABELS[seed % len(LABELS)]
        path = folder / (f"{label}/{seed}.png" if by_label else f"{seed}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        shape(label, seed).save(path)
    return folder


def save_classifier(path: Path, *, softmax: bool = False, layout: str = "NCHW") -> Path:
    """Two random convolutions, and a linear layer that is fitted to shapes by least squares."""
    rng = np.random.default_rng(0)
    first, second = (
        rng.normal(0, 1 / np.sqrt(size * 9), (24, size, 3, 3)).astype(np.float32)
        for size in (3, 24)
    )
    pixels = np.stack([inputs(shape(LABELS[i % 6], 10_000 + i)) for i in range(600)])
    seen = np.concatenate([_features(chunk, first, second) for chunk in np.split(pixels, 6)])
    truth = np.eye(6)[np.arange(600) % 6]
    with_one = np.concatenate([seen, np.ones((600, 1))], 1)
    ridge = with_one.T @ with_one + 30 * np.eye(with_one.shape[1])
    head = np.linalg.solve(ridge, with_one.T @ (8 * truth)).astype(np.float32)
    constants = {"conv1.w": first, "conv2.w": second, "head.w": head[:-1], "head.b": head[-1]}
    nodes = [
        helper.make_node("Conv", ["x", "conv1.w"], ["a"], "conv1", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "conv2.w"], ["c"], "conv2", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("Flatten", ["d"], ["e"], "flat"),
        helper.make_node("Gemm", ["e", "head.w", "head.b"], ["scores"], "head"),
    ]
    sizes = ["n", 3, SIDE, SIDE] if layout == "NCHW" else ["n", SIDE, SIDE, 3]
    if layout == "NCHW":
        nodes.insert(0, helper.make_node("Identity", ["image"], ["x"], "same"))
    else:
        nodes.insert(0, helper.make_node("Transpose", ["image"], ["x"], "turn", perm=[0, 3, 1, 2]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["chances"], "end", axis=-1))
    graph = helper.make_graph(
        nodes,
        "shapes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def inputs(image: Image.Image) -> np.ndarray:
    """The model's input (3, 32, 32), by Pillow and numpy alone: resized exactly, normalized."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    scaled = np.asarray(small, np.float32) / 255
    mean, deviation = np.array([MEAN, DEVIATION], np.float32)
    return np.asarray((scaled - mean) / deviation).transpose(2, 0, 1)


def _features(pixels: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    for weight in (first, second):
        pixels = np.maximum(_convolved(pixels, weight), 0)
    return pixels.reshape(len(pixels), -1)


def _convolved(pixels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A 3 × 3 convolution with a stride of 2 and no padding."""
    high, wide = (1 + (side - 3) // 2 for side in pixels.shape[2:])
    rows, columns = 2 * np.arange(high)[:, None], 2 * np.arange(wide)[:, None]
    windows = pixels[:, :, rows + np.arange(3)][..., columns + np.arange(3)]
    return np.asarray(np.einsum("nchiwj,ocij->nohw", windows, weight, optimize=True))
