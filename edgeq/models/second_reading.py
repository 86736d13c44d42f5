"""Read config.json a second time, by the names of keys alone, anywhere in the file.

For machines without the model's own library: this detects a value that the first reading missed
because of an unexpected place or form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.architectures import Decoder
from edgeq.models.rope import Rope

_SAME = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "feed_forward",
    "vocab_size": "vocabulary",
    "rms_norm_eps": "norm_eps",
}
_SHARED = "shared_intermediate_size"  # Granite 4's, where the other key is about experts
_ADJUSTED = "block_auto_adjust_ff_dim"  # LFM2's, where the width follows from the other key


def require_second_reading(config: Mapping[str, Any], decoder: Decoder, where: str) -> None:
    """Raise InvalidInput if the two readings of a language model's config.json differ."""
    differing = list(_differences(dict(_by_name(config)), decoder))
    if differing:
        remedy = 'install the build side, which asks the model itself: pip install ".[build]"'
        raise InvalidInput(Problem(where, differing[0], remedy))


def _differences(found: Mapping[str, list[Any]], decoder: Decoder) -> Iterator[str]:
    for key, field in _SAME.items():
        if key == "intermediate_size" and _ADJUSTED in found:
            continue
        if key == "intermediate_size" and _SHARED in found:
            key = _SHARED
        read = getattr(decoder, field)
        for value in found.get(key, ()):
            if value not in (read, *_others(key, decoder)):
                yield f"{key} is {value} in it and was read as {read}"
    yield from _rotary_differences(found, [decoder.rope, decoder.local_rope or decoder.rope])


def _others(key: str, decoder: Decoder) -> Iterator[Any]:
    """Further values of a key: layer by layer, or of layers without a window."""
    if key == "intermediate_size":
        yield list(decoder.feed_forwards) or [decoder.feed_forward] * decoder.layers
        yield min(decoder.feed_forwards, default=decoder.feed_forward)
    whole = decoder.whole_heads
    if whole:
        yield {"num_key_value_heads": whole.kv_heads, "head_dim": whole.head_dim}.get(key)


def _rotary_differences(found: Mapping[str, list[Any]], ropes: Sequence[Rope]) -> Iterator[str]:
    read: dict[str, set[Any]] = {
        "rope_theta": {rope.theta for rope in ropes},
        "rope_local_base_freq": {rope.theta for rope in ropes},
        "rope_type": {"default", *(rope.kind for rope in ropes)},
    }
    for key, known in read.items():
        for value in found.get(key, ()):
            if value not in known:
                yield f"{key} is {value} in it and was read as {sorted(known)[-1]}"


def _by_name(config: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Every key with all its values at any depth; null counts as absent."""
    pairs = list(_flat(config))
    for key in dict.fromkeys(key for key, _ in pairs):
        yield key, [value for name, value in pairs if name == key and value is not None]


def _flat(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner)
        else:
            yield key, inner
