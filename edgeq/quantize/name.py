"""Names of artifacts in a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from edgeq.core.validation_messages import refuse

_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def _check_name(value: Any) -> Any:
    if isinstance(value, str) and not _PLAIN_NAME.fullmatch(value):
        what = f"{value!r} cannot be a name: it becomes part of file names"
        raise refuse(what, "use a-z, 0-9, '-', '_' and '.', e.g. 'minilm-search'")
    return value


Name = Annotated[str, BeforeValidator(_check_name)]
"""A name that can be part of a file name."""
