"""Use cases of a model, and the loss that each tolerates."""

from __future__ import annotations

from typing import Literal

Purpose = Literal["chat", "code", "search"]

TOLERANCE: dict[Purpose, float] = {"chat": 0.05, "code": 0.015, "search": 0.015}
"""The expected loss that a use case tolerates, a rule of thumb. Language models: mean KL divergence
from the
float model, in nats per token; a wrong token breaks code, in a chat it is another word. Embeddings:
1 − mean cosine with the float model's."""
USES: dict[Purpose, str] = {"chat": "a chat", "code": "code", "search": "a search"}
"""Use cases with their articles, for sentences."""
