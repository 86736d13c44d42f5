"""Import coremltools without its irrelevant messages.

Its import messages do not matter here: torch is newer than the version its tracing front end was
tested with (edgeq builds programs operator by operator and traces nothing), and its bridge to the
Core ML framework is missing (it exists only on macOS; packages are written and read without it).
"""

from __future__ import annotations

import logging
from typing import Any

from edgeq.core.errors import missing_extra

_LOGGER = "coremltools"


def load_coremltools() -> Any:
    """The package. Raises Missing if it is not installed."""
    logger = logging.getLogger(_LOGGER)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        import coremltools
    except ImportError:
        raise missing_extra("coremltools", "coreml", "write a Core ML package") from None
    finally:
        logger.setLevel(level)
    return coremltools
