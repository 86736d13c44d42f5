"""Nets of phones through the translator for Core ML and Core AI, one row each.

    python benchmarks/apple_nets.py [WORD of the nets' names] …

Each has its architecture's real structure, narrow, with random weights, and is exported by PyTorch.
The program for Apple must answer as onnxruntime does for that export: within 1e-5 of the answer's
size in float32 and 2e-3 in float16, or what PyTorch's own float16 loses; or be refused by name.
Core ML's programs run in edgeq's executor, Core AI's in Apple's own runtime.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.coreai.write import export_graph_coreai
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.write import export_graph_coreml
from edgeq.models.graphs.imported import import_onnx
from edgeq.pipeline.proof.onnx_original import open_original

LIMITS = {"float32": 1e-5, "float16": 2e-3}
COLUMNS = [(kind, compute) for kind in ("Core ML", "Core AI") for compute in LIMITS]
Array = np.ndarray
Net = tuple[nn.Module, tuple[torch.Tensor, ...]]


class Chosen(nn.Module):
    """A model whose output is one tensor."""

    def __init__(self, model: nn.Module, output: str, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.output, self.names = model, output, names

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        """Run the model on inputs by name."""
        result = self.model(**dict(zip(self.names, given, strict=True)))
        found: torch.Tensor = getattr(result, self.output)
        return found


def hugging_face(
    kind: str, output: str, names: tuple[str, ...], given: tuple[torch.Tensor, ...], **settings: Any
) -> Net:
    """A class of transformers, and its configuration's settings."""
    model_class = getattr(transformers, kind)
    config = model_class.config_class(**settings)
    return Chosen(model_class(config), output, names), given


def image(size: int, channels: int = 3) -> torch.Tensor:
    """One random picture."""
    return torch.randn(1, channels, size, size)


def vision(kind: str, size: int = 64, output: str = "logits", **settings: Any) -> Net:
    """An image model of transformers; a classifier has a hundred classes."""
    if output == "logits":
        settings = {"num_labels": 100, **settings}
    return hugging_face(kind, output, ("pixel_values",), (image(size),), **settings)


def block(inputs: int, outputs: int, **more: Any) -> nn.Sequential:
    """A convolution as detectors have it."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **more)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


class Unet(nn.Module):
    """Down and up again, with a transposed convolution and one by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = block(3, 8), block(8, 16), block(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.fourth, self.fifth = block(32, 16), block(24, 8)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classes of pixels."""
        first = self.first(x)
        second = self.second(nn.functional.max_pool2d(first, 2))
        third = self.third(nn.functional.max_pool2d(second, 2))
        joined = self.fourth(torch.cat([self.up(third), second], 1))
        wide = nn.functional.interpolate(joined, scale_factor=2, mode="bilinear")
        found: torch.Tensor = self.last(self.fifth(torch.cat([wide, first], 1)))
        return found


class Detector(nn.Module):
    """A YOLO-like detector: features of two sizes, boxes from distributions, the best scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, 8, stride=2), block(8, 16, stride=2))
        self.fine, self.coarse = block(16, 16, stride=2), block(16, 32, stride=2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.joined = block(48, 16)
        self.heads = nn.ModuleList(nn.Conv2d(n, 4 * 8 + 5, 1) for n in (16, 32))
        self.register_buffer("bins", torch.arange(8.0))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All boxes, and the twenty best scores: their places change where two are near."""
        fine = self.fine(self.stem(x))
        coarse = self.pool(self.coarse(fine))
        up = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        maps = [self.joined(torch.cat([fine, up], 1)), coarse]
        found = [head(m).flatten(2) for head, m in zip(self.heads, maps, strict=True)]
        boxes, scores = torch.cat(found, 2).split([32, 5], 1)
        shares = boxes.unflatten(1, (4, 8)).softmax(2)
        sides = torch.einsum("bcna,n->bca", shares, self.bins)
        start, end = sides.chunk(2, 1)
        corners = torch.cat([(end - start) / 2, start + end], 1).transpose(1, 2)
        return corners, scores.sigmoid().amax(1).topk(20)[0]


class Keywords(nn.Module):
    """Words in sound: features of a line, a recurrent layer, a class."""

    def __init__(self, recurrent: type[nn.Module]) -> None:
        super().__init__()
        self.line = nn.Sequential(nn.Conv1d(20, 32, 5, padding=2), nn.PReLU(32), nn.MaxPool1d(2))
        self.recurrent = recurrent(32, 24, batch_first=True, bidirectional=True)
        self.last = nn.Linear(48, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities of words, as logarithms."""
        steps, _ = self.recurrent(self.line(x).transpose(1, 2))
        return torch.log_softmax(self.last(steps.mean(1)), -1)


class Sharper(nn.Module):
    """Super-resolution: residuals, norms of instances and groups, pixels from channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True)
        )
        self.second = nn.Sequential(
            nn.GroupNorm(4, 16), nn.Hardswish(), nn.Conv2d(16, 12, 3, padding=1)
        )
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the size."""
        wide = nn.functional.interpolate(x, scale_factor=2, mode="bicubic")
        found: torch.Tensor = self.shuffle(self.second(self.first(x))) + wide
        return found


_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_SMALL: dict[str, Any] = {**_VIT, "image_size": 64, "patch_size": 16}
_TOKENS = torch.arange(8)[None] + 3


def _clip() -> Net:
    config = transformers.CLIPConfig(
        text_config={**_VIT, "vocab_size": 99, "eos_token_id": 2},
        vision_config=_SMALL,
        projection_dim=16,
    )
    model = transformers.CLIPModel(config)
    names = ("input_ids", "pixel_values")
    return Chosen(model, "logits_per_image", names), (_TOKENS, image(64))


def _whisper() -> Net:
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_attention_heads=4,
        num_mel_bins=20,
        max_source_positions=50,
    )
    model = transformers.WhisperModel(config).encoder
    return Chosen(model, "last_hidden_state", ("input_features",)), (torch.randn(1, 20, 100),)


def _wav2vec(kind: str = "Wav2Vec2Model", **more: Any) -> Net:
    return hugging_face(
        kind,
        "last_hidden_state",
        ("input_values",),
        (torch.randn(1, 3200),),
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        **_VIT,
        **more,
    )


def _encoder(kind: str, **more: Any) -> Net:
    """An encoder of texts that is none of those that edgeq exports itself."""
    return hugging_face(
        kind, "last_hidden_state", ("input_ids",), (_TOKENS,), vocab_size=99, **_VIT, **more
    )


NETS: dict[str, Callable[[], Net]] = {
    "MobileNet V1": lambda: vision("MobileNetV1ForImageClassification", depth_multiplier=0.25),
    "MobileNet V2": lambda: vision("MobileNetV2ForImageClassification", depth_multiplier=0.25),
    "EfficientNet": lambda: vision(
        "EfficientNetForImageClassification",
        width_coefficient=0.25,
        depth_coefficient=0.5,
        hidden_dim=320,
        image_size=64,
    ),
    "ResNet": lambda: vision(
        "ResNetForImageClassification",
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1] * 4,
    ),
    "RegNet": lambda: vision(
        "RegNetForImageClassification",
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1] * 4,
        groups_width=8,
    ),
    "ConvNeXt V2": lambda: vision(
        "ConvNextV2ForImageClassification", hidden_sizes=[8, 16, 24, 32], depths=[1] * 4
    ),
    "PoolFormer": lambda: vision(
        "PoolFormerForImageClassification", hidden_sizes=[8, 16, 24, 32], depths=[1] * 4
    ),
    "MobileViT": lambda: vision(
        "MobileViTForImageClassification",
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 12, 16, 20, 24, 80],
    ),
    "LeViT": lambda: vision(
        "LevitForImageClassification",
        size=128,
        image_size=128,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4],
        key_dim=[8, 8, 8],
        depths=[1, 1, 1],
    ),
    "ViT": lambda: vision("ViTForImageClassification", **_SMALL),
    "DeiT": lambda: vision("DeiTForImageClassification", **_SMALL),
    "BEiT": lambda: vision("BeitForImageClassification", **_SMALL, use_relative_position_bias=True),
    "DINOv2": lambda: vision("Dinov2ForImageClassification", **_SMALL),
    "Swin": lambda: vision(
        "SwinForImageClassification",
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        image_size=64,
    ),
    "Swin V2": lambda: vision(
        "Swinv2ForImageClassification",
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        image_size=64,
    ),
    "SegFormer": lambda: vision(
        "SegformerForSemanticSegmentation",
        hidden_sizes=[8, 16, 24, 32],
        depths=[1] * 4,
        num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=32,
    ),
    "DPT (depth)": lambda: vision(
        "DPTForDepthEstimation",
        output="predicted_depth",
        **{**_SMALL, "num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
    ),
    "YOLOS": lambda: vision("YolosForObjectDetection", **{**_SMALL, "image_size": [64, 64]}),
    "CLIP": _clip,
    "SigLIP": lambda: vision("SiglipVisionModel", output="pooler_output", **_SMALL),
    "Whisper encoder": _whisper,
    "wav2vec 2": _wav2vec,
    "HuBERT": lambda: _wav2vec("HubertModel"),
    "DeBERTa V2": lambda: _encoder(
        "DebertaV2Model",
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=4,
        share_att_key=True,
    ),
    "ModernBERT": lambda: _encoder(
        "ModernBertModel",
        global_attn_every_n_layers=2,
        local_attention=4,
        pad_token_id=0,
        attn_implementation="eager",
    ),
    "U-Net": lambda: (Unet(), (image(32),)),
    "YOLO-like detector": lambda: (Detector(), (image(64),)),
    "keywords, LSTM": lambda: (Keywords(nn.LSTM), (torch.randn(1, 20, 30),)),
    "keywords, GRU": lambda: (Keywords(nn.GRU), (torch.randn(1, 20, 30),)),
    "super-resolution": lambda: (Sharper(), (image(24),)),
}


def _scaled(model: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
    """Give weights and norms the sizes of trained ones: else activations vanish in float16.

    A library's own random weights are so small that an EfficientNet answers 9e-36.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.ones_(norm.weight)
        nn.init.ones_(norm.bias)
    if norms:
        with torch.no_grad():
            model.train()(*(torch.randn(8, *each.shape[1:]) for each in given))


def exported(net: Net, folder: Path) -> dict[str, Array]:
    """Write the net as a float graph into `folder`; returns its inputs."""
    model, given = net
    _scaled(model, given)
    path = folder / "source.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), given, path, dynamo=False, verbose=False)
    import_onnx(path, folder)
    names = [value.name for value in open_original(folder / MODEL_FILE).inputs]
    return {name: each.numpy() for name, each in zip(names, given, strict=True)}


def answer(kind: str, compute: Any, folder: Path, feed: dict[str, Array]) -> dict[str, Array]:
    """What the program for Apple says."""
    shapes = {name: [each.shape] for name, each in feed.items()}
    narrow = {
        name: each.astype(np.float32 if each.dtype.kind == "f" else np.int32)
        for name, each in feed.items()
    }
    path = folder / f"{kind}-{compute}"
    if kind == "Core ML":
        package = path.with_suffix(".mlpackage")
        export_graph_coreml(folder, package, {}, shapes=shapes, compute=compute)
        return load(package).predict(narrow)
    asset = path.with_suffix(".aimodel")
    export_graph_coreai(folder, asset, {}, shapes=shapes, compute=compute)
    return Runtime(asset).run(narrow)


def half_loss(net: Net, wanted: list[Array]) -> float | None:
    """What PyTorch's own float16 loses, into which it turns the net; None if that does not run."""
    try:
        with torch.no_grad():
            halved = net[0].half().train().eval()  # training drops what was computed in float32
            found = halved(*(_half(each) for each in net[1]))
    except RuntimeError:
        return None
    parts = found if isinstance(found, tuple) else (found,)
    return max(_gap(p.float().numpy(), w) for p, w in zip(parts, wanted, strict=True))


def _half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


def cells(make: Callable[[], Net]) -> Iterator[tuple[str, bool]]:
    """What PyTorch's float16 loses, and what a net's programs do, by column; whether it may."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        folder, net = Path(place), make()
        feed = exported(net, folder)
        original = open_original(folder / MODEL_FILE)
        names = [value.name for value in original.outputs]
        wanted = dict(zip(names, original.run(feed), strict=True))
        lost = half_loss(net, list(wanted.values()))
        yield ("–" if lost is None else f"{lost:.0e}"), True
        limits = {**LIMITS, "float16": max(LIMITS["float16"], lost or 0.0)}
        for kind, compute in COLUMNS:
            try:
                found = answer(kind, compute, folder, feed)
            except InvalidInput as error:
                yield f"refused: {error.problems[0].what}", True
                continue
            gap = max(_gap(found[name], wanted[name]) for name in names)
            yield f"{gap:.0e}", gap <= limits[compute]


def _gap(found: Array, wanted: Array) -> float:
    """The largest difference, as a share of the largest value."""
    size = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(found.astype(np.float64) - wanted).max()) / size


def main(words: list[str]) -> None:
    """Print the table; the exit status says whether an answer is beyond its limit."""
    print(f"| net | PyTorch float16 | {' | '.join(' '.join(column) for column in COLUMNS)} |")
    print(f"| --- |{' --- |' * (1 + len(COLUMNS))}")
    failed = False
    for name, make in NETS.items():
        if words and not any(word.lower() in name.lower() for word in words):
            continue
        row = list(cells(make))
        failed |= not all(is_right for _, is_right in row)
        print(
            f"| {name} | {' | '.join(f'{c}' if ok else f'**{c}**' for c, ok in row)} |", flush=True
        )
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
