"""The page of the Python API: the names in `edgeq.__all__`, with signatures and docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

from tables import plain

import edgeq

_INTRODUCTION = """\
*This page is made from the code that it describes, whenever the site is built.*

Public are the names below, as `edgeq.NAME`; everything else may change in any release
([versions](../versions.md)). `import edgeq` loads no runtime: onnxruntime, llama.cpp or Core ML are
imported when `edgeq.load` opens a file that needs them. Arrays are numpy's; shapes are written as
tuples. Errors are subclasses of `EdgeqError`, whose text says where, what is wrong and what to do.
"""


def api() -> str:
    """Every public name."""
    names = sorted(edgeq.__all__, key=lambda name: (name != "load", name.lower()))
    return "\n\n".join(["# Python API", _INTRODUCTION, *map(_section, names)]) + "\n"


def _section(name: str) -> str:
    value = getattr(edgeq, name)
    if isinstance(value, str):
        text = "The version of the installed package, such as `0.1.0`."
        return f"## {plain(name)} {{ #{name} }}\n\n{text}"
    head = f"## {plain(name)} {{ #{name} }}"
    if not inspect.isclass(value):
        return "\n\n".join([head, _signature(f"edgeq.{name}", value), _text(value.__doc__)])
    parts = [head, _text(value.__doc__)]
    if dataclasses.is_dataclass(value):
        parts.insert(1, _signature(f"edgeq.{name}", value))
    for verb, method in _methods(value):
        parts += [f"### {plain(verb)} {{ #{name}.{verb} }}", _signature(verb, method)]
        parts.append(_text(inspect.getdoc(method)))
    return "\n\n".join(parts)


def _methods(value: type) -> Iterator[tuple[str, Any]]:
    """The public methods that a class itself defines, in order."""
    for name, method in vars(value).items():
        if not name.startswith("_") and inspect.isfunction(method):
            yield name, method


def _signature(name: str, value: Any) -> str:
    shown = str(inspect.signature(value)).replace("'", "").replace("npt.NDArray[Any]", "Array")
    return f"```text\n{name}{shown.replace('(self, ', '(').replace('(self)', '()')}\n```"


def _text(docstring: str | None) -> str:
    """A docstring in Markdown; its examples become code."""
    parts = []
    for part in inspect.cleandoc(docstring or "").split("\n\n"):
        if part.startswith(">>>"):
            code = re.sub(r" +# doctest: .*", "", part)
            parts.append(f"```text\n{code}\n```")
        else:
            parts.append(plain(part))
    return "\n\n".join(parts)
