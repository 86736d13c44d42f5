"""Pictures as Vega-Lite specifications, drawn by vl-convert: no browser, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import writable, write_bytes

_VERSION = "5.21"  # of Vega-Lite, which vl-convert carries
SUFFIXES = (".html", ".svg", ".png")


def check_picture(path: Path, option: str) -> None:
    """Raise before work is done for what could not be written: InvalidInput, or Missing."""
    if path.suffix not in SUFFIXES:
        what = f"{path} is none of the pictures that can be drawn"
        raise InvalidInput(Problem(option, what, f"end its name in {', '.join(SUFFIXES)}"))
    writable(path, option)
    _library()


def save_picture(specification: Mapping[str, Any], path: Path) -> None:
    """Draw into an .html that needs nothing from elsewhere, an .svg or a .png; whole or not."""
    drawing, text = _library(), json.dumps(specification)
    if path.suffix == ".html":
        held = drawing.vegalite_to_html(text, vl_version=_VERSION, bundle=True).encode()
    elif path.suffix == ".svg":
        held = drawing.vegalite_to_svg(text, vl_version=_VERSION).encode()
    else:
        held = drawing.vegalite_to_png(text, vl_version=_VERSION, scale=2)
    write_bytes(path, held)


def _library() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise missing_extra("vl-convert-python", "report", "draw pictures") from None
    return vl_convert
