"""JSON files of a model's directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem


def read_json(path: Path, where: str, kind: type = dict) -> Any:
    """The JSON of `path`, which must be of `kind` at its top; InvalidInput at `where`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = f"{path.parent} has no {path.name}"
        remedy = "name a directory in the Hugging Face format, or an .onnx file"
        raise InvalidInput(Problem(where, what, remedy)) from None
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from None
    if not isinstance(value, kind):
        raise damaged(path, f"it holds no {'mapping' if kind is dict else kind.__name__}")
    return value


def read_optional(path: Path) -> dict[str, Any]:
    """The mapping in the JSON file `path`, empty if there is no such file."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = read_json(path, str(path))
    return found


def damaged(path: Path, why: str) -> InvalidInput:
    """The error for a file that is not what its name says."""
    what = f"is not the expected JSON: {why}"
    return InvalidInput(Problem(str(path), what, "download or save it again"))
