"""A language model's original: logits by transformers, with its own KV cache."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.tasks import TEXT_GENERATION
from edgeq.models.architectures.reading import LINEAR, WHOLE, WINDOWED
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.network import open_network, versions

_CACHE = "past_key_values"
Floats = npt.NDArray[np.float32]


def _has_cache(network: Any) -> bool:
    """Whether the usual cache serves the model; otherwise all tokens so far run again.

    Most hybrid models have caches of their own. Linear attention, whose memory the usual one keeps
    from transformers 5 on, is computed by another rule for one token than for many: then the
    difference between the two shows how exact the original is.
    """
    kinds = set(getattr(network.config.get_text_config(), "layer_types", None) or ())
    if LINEAR in kinds:
        return kinds <= {WHOLE, LINEAR}
    return kinds <= {WHOLE, WINDOWED} and not getattr(network, "_is_stateful", False)


def cache_argument(network: Any) -> str:
    """The name that a network's `forward` has for the cache, which newer versions renamed."""
    return "cache" if "cache" in inspect.signature(network.forward).parameters else _CACHE


class OriginalDecoder:
    """Runs tokens after those it has seen. runtime: names and versions of the libraries.
    vocabulary: tokens that it has logits for.

    Attention is transformers' plain ("eager") one, which implements every model's scales, caps and
    windows.
    """

    def __init__(self, directory: ModelDirectory) -> None:
        self.network = open_network(directory, TEXT_GENERATION)
        self.runtime = versions("transformers", "torch")
        self.vocabulary = int(self.network.config.get_text_config().vocab_size)
        self._has_cache = _has_cache(self.network)
        self._cache: Any = None
        self._seen: list[int] = []
        self.clear()

    def clear(self) -> None:
        """Start a new text."""
        from transformers import DynamicCache

        self._seen = []
        self._cache = DynamicCache(config=self.network.config) if self._has_cache else None

    def append(self, token_ids: Sequence[int] | npt.NDArray[Any], last: int = 0) -> Floats:
        """Logits after the `last` of `token_ids`, or after each with 0; (tokens, vocabulary)."""
        import torch

        ids = [*self._seen, *map(int, token_ids)]
        if not self._has_cache:
            self._seen, last = ids, last or len(token_ids)
        with torch.inference_mode():
            answer = self.network(
                input_ids=torch.tensor([ids]),
                **{cache_argument(self.network): self._cache},
                use_cache=self._has_cache,
                logits_to_keep=last,
            )
        logits: Floats = answer.logits[0].numpy()
        return logits
