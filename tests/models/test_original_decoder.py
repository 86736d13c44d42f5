"""The original of a language model, by whichever version of transformers is installed."""

from __future__ import annotations

from typing import Any

from edgeq.models.original.decoder import cache_argument


def test_the_cache_is_passed_by_the_name_that_a_version_has_for_it() -> None:
    """Version 5 warns of the old name on the terminal, and drops it in 5.40."""

    class Older:
        def forward(self, input_ids: Any, past_key_values: Any = None) -> None: ...

    class Newer:
        def forward(self, input_ids: Any, cache: Any = None, **others: Any) -> None: ...

    assert cache_argument(Older()) == "past_key_values"
    assert cache_argument(Newer()) == "cache"
