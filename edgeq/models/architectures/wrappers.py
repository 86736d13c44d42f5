"""Models of text and images: their language model alone.

`config.json` of such a model has the settings of each part in a mapping of its own, and settings of
the whole around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeq.core.errors import InvalidInput
from edgeq.models.known_keys import HARMLESS, TOKEN_IDS
from edgeq.models.settings import Settings

TEXT = "text_config"
# First parts of the names of weights that only images and sounds pass through.
_IMAGE_WEIGHTS = (
    *("vision_tower.", "vision_model.", "multi_modal_projector.", "visual.", "embed_vision."),
    *("audio_tower.", "embed_audio."),
)
_FURTHER_WEIGHTS = ("mtp.",)  # of layers that predict later tokens, which transformers leaves out


@dataclass(frozen=True)
class _Wrapper:
    """images: keys that only images need. usual: settings that transformers' class assumes if
    `text_config` lacks them, as the published files of some families do.
    """

    images: tuple[str, ...]
    usual: Mapping[str, Any] = field(default_factory=dict)


_WRAPPERS = {
    "gemma3": _Wrapper(
        images=(
            *("vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index"),
            "image_token_index",
        ),
        usual={
            "model_type": "gemma3_text",
            "vocab_size": 262_208,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-6,
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
        },
    ),
    **dict.fromkeys(
        ("qwen3_5", "qwen3_5_moe"),
        _Wrapper(
            images=(
                *("vision_config", "image_token_id", "video_token_id", "vision_start_token_id"),
                *("vision_end_token_id", "language_model_only"),
            ),
        ),
    ),
    "gemma3n": _Wrapper(
        images=(
            *("vision_config", "audio_config", "audio_soft_tokens_per_image", "image_token_id"),
            *("vision_soft_tokens_per_image", "boi_token_id", "eoi_token_id", "boa_token_id"),
            *("eoa_token_id", "audio_token_id"),
        ),
        usual={"model_type": "gemma3n_text"},
    ),
    "gemma4": _Wrapper(
        images=(
            *("vision_config", "audio_config", "boi_token_id", "eoi_token_id", "image_token_id"),
            *("video_token_id", "boa_token_id", "eoa_token_id", "eoa_token_index"),
            *("audio_token_id", "vision_soft_tokens_per_image"),
        ),
        usual={"model_type": "gemma4_text"},
    ),
    "mistral3": _Wrapper(
        images=(
            *("vision_config", "image_token_index", "image_token_id", "multimodal_projector_bias"),
            *("projector_hidden_act", "spatial_merge_size", "vision_feature_layer"),
        ),
    ),
}


def text_part(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The configuration of a model's language part; `config` itself if it has no other.

    Raises InvalidInput at `where` for settings of the whole that are not known.
    """
    wrapper = _WRAPPERS.get(str(config.get("model_type")))
    if wrapper is None or TEXT not in config:
        return dict(config)
    outer = Settings(config, where, "config.json")
    outer.ignore((*HARMLESS, *wrapper.images, "model_type", "tie_word_embeddings"))
    inner = outer.mapping(TEXT)
    problems = list(outer.unread())
    if problems:
        raise InvalidInput(problems)
    tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
    ids = {key: config[key] for key in TOKEN_IDS if config.get(key) is not None}
    stated = {key: value for key, value in inner.items() if value is not None}
    stated.pop("architectures", None)  # of the whole
    return {**wrapper.usual, **tied, **stated, **ids}


def is_left_out(name: str) -> bool:
    """Whether a weight is of the part of a model that sees or hears, or of none that is run."""
    return name.removeprefix("model.").startswith((*_IMAGE_WEIGHTS, *_FURTHER_WEIGHTS))
