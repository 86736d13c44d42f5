"""Import Apple's package for Core AI, which also has the runtime for Linux."""

from __future__ import annotations

from typing import Any

from edgeq.core.errors import missing_extra


def load_authoring() -> Any:
    """`coreai.authoring`. Raises Missing if the package is not installed."""
    try:
        import coreai.authoring
    except ImportError:
        raise missing_extra("coreai-core", "coreai", "write or run a Core AI model") from None
    return coreai.authoring
