"""Metadata keys that edgeq writes into its models, as strings, for their runners."""

from __future__ import annotations

CONTEXT_KEY = "edgeq.context"
"""Context length that a language model's file was made for."""
SWITCH_KEY = "edgeq.rope_switch"
"""Texts longer than this use other rotary angles; absent if the angles never change."""
END_KEY = "edgeq.end_tokens"
"""Ids of the end tokens, separated by spaces."""
