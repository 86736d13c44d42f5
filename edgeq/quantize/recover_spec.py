"""How a recipe asks for recovery."""

from __future__ import annotations

from pydantic import Field

from edgeq.core.artifact import Frozen

LEAST = 16
"""Windows of calibration text; with fewer, less than two would be held out."""


def too_few(windows: int) -> str:
    """Why this many windows are too few."""
    return f"{windows} windows of text; every eighth is held out to judge recovery by"


class RecoverSpec(Frozen):
    """A low-rank adapter for the quantized weights, trained on the full model's logits.

    For language models in GGUF and ONNX. It uses calibration text only. If bytes may be spent on
    wider number formats, those gain more: a llama of 5.8 M parameters in Q2_K went from a KL
    divergence of 0.022 to 0.019 with 0.47 MB of adapter, and to 0.006 as Q3_K_M, which is 0.54 MB
    more. An adapter is for models that are already at that limit. In wide models it is a smaller
    part of the file; its gain there was not measured.
    """

    rank: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Rank of the two factors for every layer's weight; bytes grow with it.",
        examples=[8],
    )
    steps: int = Field(
        default=300,
        ge=1,
        le=100_000,
        description="Training steps; each uses a few thousand tokens of calibration text.",
        examples=[300],
    )
    learning_rate: float = Field(
        default=2e-3,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="The peak learning rate of AdamW; it decays to zero as a cosine.",
        examples=[0.002],
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Seed for the order of the text; the same seed gives the same bytes.",
        examples=[0],
    )
