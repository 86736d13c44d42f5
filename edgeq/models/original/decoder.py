"""A language model's original: logits by transformers, with its own KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.tasks import TEXT_GENERATION
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.network import open_network, versions

Floats = npt.NDArray[np.float32]


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
        self._cache: Any = None
        self.clear()

    def clear(self) -> None:
        """Start a new text."""
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self.network.config)

    def append(self, token_ids: Sequence[int] | npt.NDArray[Any], last: int = 0) -> Floats:
        """Logits after the `last` of `token_ids`, or after each with 0; (tokens, vocabulary)."""
        import torch

        ids = torch.from_numpy(np.asarray(token_ids, np.int64))[None]
        with torch.inference_mode():
            answer = self.network(
                input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=last
            )
        logits: Floats = answer.logits[0].numpy()
        return logits
