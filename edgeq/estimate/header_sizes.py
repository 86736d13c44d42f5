"""Sizes of a language model from the header of its GGUF file, whatever its architecture."""

from __future__ import annotations

import math
from typing import Any

from edgeq.estimate.sizes import Sizes
from edgeq.formats.gguf.cache import cache_facts
from edgeq.formats.gguf.header import Header


def sizes_of_header(header: Header) -> Sizes:
    """Raises KeyError, TypeError or ValueError for a header that does not state them."""
    architecture = header.get("general.architecture", "")

    def fact(name: str, default: Any = None) -> Any:
        found = header.get(f"{architecture}.{name}", default)
        if found is None:
            raise KeyError(f"{architecture}.{name}")
        return max(found) if isinstance(found, list) else found

    hidden, heads = int(fact("embedding_length")), int(fact("attention.head_count"))
    head = int(fact("attention.key_length", hidden // heads))
    experts, used = int(fact("expert_count", 0)), int(fact("expert_used_count", 0))
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    wide = int(fact("expert_feed_forward_length", 0)) * used or int(fact("feed_forward_length"))
    is_decoder = header.get(f"{architecture}.attention.causal", True) is not False
    cache = cache_facts(header)
    active = {name: used / experts for name in shapes if experts and "_exps." in name}
    if not shapes or not all(math.prod(shape) for shape in shapes.values()):
        raise ValueError("it has no weights")
    return Sizes(
        shapes=shapes,
        hidden=hidden,
        wide=wide,
        heads=heads,
        query=heads * head,
        key=int(fact("attention.head_count_kv", heads)) * head,
        windows=(None,) * sum(map(bool, cache.values)) if is_decoder else (),
        tied=is_decoder and "output.weight" not in shapes,
        longest=int(fact("context_length")),
        is_decoder=is_decoder,
        state=cache.state,
        active=active,
    )
