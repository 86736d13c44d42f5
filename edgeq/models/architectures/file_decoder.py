"""A language model whose weights only llama.cpp knows how to use: that of any GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeq.models.architectures.decoder import BEFORE, Decoder
from edgeq.models.rope import Rope

FILE = "gguf"
"""`model_type` in the config.json that stands for a file of an architecture of llama.cpp's."""


@dataclass(frozen=True)
class FileDecoder(Decoder):
    """The sizes of such a model. What it computes is not known: no graph is made of it.

    reason: why edgeq does not read its architecture. stored: shapes of its weights, rows first, by
    their names in the file; experts of a layer are one of three axes. keys, key_windows: of each
    layer with a cache the values of a position's keys, and the positions that it keeps, None for
    all. state: bytes that other layers carry on.
    """

    reason: str = ""
    stored: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    keys: tuple[int, ...] = ()
    key_windows: tuple[int | None, ...] = ()
    state: int = 0

    @property
    def unknown(self) -> str:
        return self.reason

    def tensors(self) -> dict[str, tuple[int, ...]]:
        return dict(self.stored)

    @property
    def cached_widths(self) -> tuple[int, ...]:
        return self.keys

    @property
    def cached_windows(self) -> tuple[int | None, ...]:
        return self.key_windows

    @property
    def state_bytes(self) -> int:
        return self.state


def read_file_decoder(config: Mapping[str, Any]) -> FileDecoder:
    """The model of a config.json with the type `FILE`; what is not stated there is not known."""
    layers, heads, width = (int(config[key]) for key in ("layers", "heads", "head_dim"))
    return FileDecoder(
        family=FILE,
        reason=str(config["reason"]),
        stored={name: tuple(shape) for name, shape in config["tensors"].items()},
        keys=tuple(config["keys"]),
        key_windows=tuple(config["key_windows"]),
        state=int(config["state"]),
        layers=layers,
        hidden=int(config["hidden_size"]),
        heads=heads,
        kv_heads=heads,
        head_dim=width,
        feed_forward=int(config["feed_forward"]),
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        tied="output.weight" not in config["tensors"],
        **_UNKNOWN,
        rope=Rope("default", 1e4, width),
        rotates=(True,) * layers,
        windows=(None,) * layers,
    )


_UNKNOWN: dict[str, Any] = {
    **{"norm_eps": 0.0, "activation": "silu", "local_rope": None, "interleaved": False},
    **{"attention_scale": 1.0, "query_growth": 0.0, "attention_softcap": None},
    **{"embedding_scale": 1.0, "residual_scale": 1.0, "logit_scale": 1.0, "logit_softcap": None},
    **{"norms": BEFORE, "norm_plus_one": False, "qk_norm": None, "qkv_bias": False},
    **{"output_bias": False, "fused_qkv": False, "fused_gate_up": False},
}
