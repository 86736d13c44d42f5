"""Make untrusted text safe to display: terminal control characters are escaped.

A model's metadata, a tensor's name, a file's name, an answer: each may contain escape sequences
that rewrite a terminal's display, or marks that reorder it.
"""

from __future__ import annotations

import re

# C0 except tab and line feed, delete, C1; marks that reorder text (Unicode TR 9) or show nothing;
# line and paragraph separators; lone surrogates, which no encoding has; tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str, *, line: bool = False) -> str:
    r"""`text` with control characters escaped as in Python; tabs and line ends stay.

    line: escape those, too, for text that must stay on one line.

    >>> visible("a\x1b[2J\tb")
    'a\\x1b[2J\tb'
    """
    shown = _HIDDEN.sub(_spelled, text.replace("\r\n", "\n"))
    return shown.replace("\n", "\\n").replace("\t", "\\t") if line else shown


def visible_json(text: str) -> str:
    """The same JSON, with control characters as JSON's own escapes."""
    return _HIDDEN.sub(_spelled_in_json, text)


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _spelled_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
