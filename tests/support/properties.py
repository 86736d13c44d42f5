"""How often properties are tried: `EDGEQ_EXAMPLES` scales all of them."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

DEFAULT = 100
EXAMPLES = int(os.environ.get("EDGEQ_EXAMPLES", str(DEFAULT)))


def examples(count: int, **more: Any) -> settings:
    """Settings of a property that is tried `count` times by default, and scales with the rest.

    For a costly property (`count` under 100) or one over many cases. more: other settings.
    """
    scaled = max(1, count * EXAMPLES // DEFAULT)
    return settings(max_examples=scaled, deadline=None, **more)
