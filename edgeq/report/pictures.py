"""Charts as Vega-Lite specifications, drawn by vl-convert: no browser, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import writable, write_bytes

_VERSION = "5.21"  # of the Vega-Lite that vl-convert includes
SUFFIXES = (".html", ".svg", ".png")


def check_picture(path: Path, option: str) -> None:
    """Raise InvalidInput or Missing, before any work, if a chart could not be written."""
    if path.suffix not in SUFFIXES:
        what = f"{path} is not a supported chart file"
        raise InvalidInput(Problem(option, what, f"end its name in {', '.join(SUFFIXES)}"))
    writable(path, option)
    _library()


def save_picture(specification: Mapping[str, Any], path: Path) -> None:
    """Draw a self-contained .html, an .svg or a .png, written atomically."""
    drawing, text = _library(), json.dumps(specification)
    if path.suffix == ".html":
        drawn = drawing.vegalite_to_html(text, vl_version=_VERSION, bundle=True).encode()
    elif path.suffix == ".svg":
        drawn = drawing.vegalite_to_svg(text, vl_version=_VERSION).encode()
    else:
        drawn = drawing.vegalite_to_png(text, vl_version=_VERSION, scale=2)
    write_bytes(path, drawn)


def _library() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise missing_extra("vl-convert-python", "report", "draw pictures") from None
    return vl_convert
