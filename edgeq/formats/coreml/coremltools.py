"""Import coremltools without its irrelevant messages, and to write without what it converts from.

Its import messages do not matter here: torch is newer than the version its tracing front end was
tested with (edgeq builds programs operator by operator and traces nothing), and its bridge to the
Core ML framework is missing (it exists only on macOS; packages are written and read without it).
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from edgeq.core.errors import missing_extra
from edgeq.core.imports import without

_LOGGER = "coremltools"
_CONVERTED_FROM = ("torch", "sklearn", "scipy", "transformers")


def load_coremltools(*, whole: bool = False) -> Any:
    """The package. Raises Missing if it is not installed.

    whole: import the libraries that it converts from, too, which takes five seconds: in a user's
    process, which may want to convert with it.
    """
    logger = logging.getLogger(_LOGGER)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    hidden = contextlib.nullcontext() if whole else without(*_CONVERTED_FROM)
    try:
        with hidden:
            import coremltools
    except ImportError:
        raise missing_extra("coremltools", "coreml", "write a Core ML package") from None
    finally:
        logger.setLevel(level)
    return coremltools
