"""Terms shared by the records of several rooms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

Progress = Callable[[str], object]
"""Called with a short description of the step that starts now; what it returns is ignored."""


TextOrPair: TypeAlias = str | tuple[str, str]
"""What an encoder reads at once: a text, or by a reranker a query and a text."""


TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs that a tokenizer makes of a text, each `(texts, tokens)`."""


Continuation: TypeAlias = tuple[tuple[int, ...], int]
"""Token ids of a text, and the position from which on they are scored."""


Effort = Literal["quick", "full"]


Pass = Literal["memory", "latency", "quality"]


How = Literal["measured", "emulated", "estimated", "not run"]


Arch = Literal["x86_64", "aarch64"]
