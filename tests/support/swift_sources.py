"""Swift sources: parsed, their calls compared with a list, and compiled where Swift is."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

SIGNATURES = Path(__file__).with_name("swift_signatures.txt")
MODULES = Path(__file__).with_name("swift")
"""Declarations of what the sources use of Apple's frameworks and of swift-transformers."""
_LIBRARIES: dict[str, tuple[str, ...]] = {
    "AppleHost": (),
    "CoreGraphics": (),
    "CoreVideo": (),
    "CoreML": ("AppleHost", "CoreGraphics", "CoreVideo"),
    "CoreAI": ("AppleHost",),
    "Tokenizers": ("AppleHost",),
    "UIKit": (),
}
"""In this order, each with those that it uses."""


def parsed(text: str) -> Any:
    """The syntax tree by an independent grammar."""
    grammar = pytest.importorskip("tree_sitter_swift", reason="no grammar of Swift here")
    tree_sitter = pytest.importorskip("tree_sitter", reason="no parser here")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    return parser.parse(text.encode()).root_node


def bare(text: str) -> str:
    """Swift without comments and the content of strings."""
    return re.sub(r'"[^"\n]*"', '""', re.sub(r"//.*", "", text))


def is_balanced(text: str) -> bool:
    """Whether every bracket is closed, and none before it is opened."""
    code = bare(text)
    for opening, closing in ("()", "[]", "{}"):
        depth = 0
        for letter in code:
            depth += (letter == opening) - (letter == closing)
            if depth < 0:
                return False
        if depth:
            return False
    return True


def descendants(node: Any, *kinds: str) -> Iterator[Any]:
    for child in node.children:
        if child.type in kinds:
            yield child
        yield from descendants(child, *kinds)


def calls(tree: Any) -> Iterator[str]:
    """Every call, by the last part of its name and its labels."""
    for node in descendants(tree, "call_expression"):
        if node.children[-1].text.startswith(b"["):
            continue  # the grammar's word for a subscript, too
        name = re.findall(r"(\w+)(?:<[^<>]*>)?[?!]?$|(\])$", node.children[0].text.decode())
        labels = [
            (child.children[0].text.decode() if child.children[0].type.endswith("label") else "_")
            for suffix in node.children
            if suffix.type == "call_suffix"
            for arguments in suffix.children
            if arguments.type == "value_arguments"
            for child in arguments.children
            if child.type == "value_argument"
        ]
        yield f"{''.join(name[0])}({''.join(f'{label}:' for label in labels)})"


def declared(tree: Any) -> set[str]:
    """Names of the file's own functions, types, closures and cases."""
    kinds = ("function_declaration", "class_declaration", "enum_entry", "parameter")
    return {
        child.text.decode()
        for node in descendants(tree, *kinds)
        for child in node.children
        if child.type in ("simple_identifier", "type_identifier")
    }


def unknown_calls(text: str) -> set[str]:
    """Calls of what neither the file nor the frameworks declare."""
    known = {line.split()[0] for line in SIGNATURES.read_text().splitlines() if line[:1].strip("#")}
    tree = parsed(text)
    own = declared(tree)
    return {call for call in calls(tree) if call not in known and call.split("(")[0] not in own}


def compiler_says(text: str, folder: Path) -> str:
    """Errors and warnings of a Swift 6 compiler, as for code of a package; empty without any."""
    source, resources = folder / "source.swift", folder / "resources.swift"
    source.write_text(text, encoding="utf-8")
    # What the package manager adds for a target with resources.
    resources.write_text(
        "import Foundation\nextension Bundle { static var module: Bundle { .main } }\n"
    )
    checks = ["-typecheck", "-swift-version", "6", "-parse-as-library", "-D", "SWIFT_PACKAGE"]
    return _said([*checks, "-I", str(modules()), str(source), str(resources)])


@functools.cache
def modules() -> Path:
    """A folder with MODULES as libraries; skips where there is no Swift."""
    folder = Path(tempfile.mkdtemp(prefix="swift-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, needs in _LIBRARIES.items():
        made = ["-emit-library", "-emit-module", "-parse-as-library", "-module-name", name]
        places = ["-o", str(folder / f"lib{name}.so"), *linked(folder, needs)]
        assert not _said([*made, *places, str(MODULES / f"{name}.swift")])
    return folder


def linked(folder: Path, names: Iterable[str] = _LIBRARIES) -> list[str]:
    """Arguments for a compiler: libraries of MODULES, by default all."""
    rpath = ["-Xlinker", "-rpath", "-Xlinker", "$ORIGIN"]
    return ["-I", str(folder), "-L", str(folder), *rpath, *(f"-l{name}" for name in names)]


def _said(arguments: list[str]) -> str:
    swiftc = shutil.which("swiftc")
    if swiftc is None:
        pytest.skip("no swiftc here: Swift sources are not compiled")
    done = subprocess.run([swiftc, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "error:" in done.stderr, done.stderr
    return done.stderr
