"""Keys of what edgeq writes into the models it makes, as strings, for those who run them."""

from __future__ import annotations

CONTEXT_KEY = "edgeq.context"
"""Positions that a language model's file was made for."""
SWITCH_KEY = "edgeq.rope_switch"
"""Texts over this length turn keys by other angles; absent where none do."""
END_KEY = "edgeq.end_tokens"
"""Ids of the tokens that end a text, with spaces between."""
