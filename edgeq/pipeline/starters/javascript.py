"""The starters in JavaScript: onnxruntime for Node.js or for browsers, and a tokenizer.

Their files are in the folder `javascript` next to this module.
"""

from __future__ import annotations

import json

from edgeq.core.artifact import Artifact
from edgeq.pipeline.starters.kinds import DTYPES, Kind, dtypes_of, kind_of, source, unpacked

NODE = {"onnxruntime-node": "1.30.0"}
WEB = {"onnxruntime-web": "1.30.0"}
TOKENIZER = {"@huggingface/tokenizers": "0.2.0"}
INSTALL = "npm install --ignore-scripts"
"""On Linux, onnxruntime-node's script downloads CUDA libraries, which no starter uses."""

_SHARED = ("session.mjs", "cases.mjs")
_EXAMPLES: dict[Kind, tuple[str, ...]] = {
    "encoder": ("how do I reset my password", "steps to change a login", "rain tomorrow"),
    "classifier": ("it works well", "it broke on the first day"),
    "arrays": (),
    "decoder": ("It was",),
}
_README = f"""\
# {{name}} in {{where}}

    {INSTALL}
{{commands}}

`bundle/` is the bundle, unpacked; its README says what the model takes and gives. `model.mjs` is
yours to change: after a change, run the self-test.
{{more}}"""
_OTHER_SERVERS = """
A server that sends the two headers in `serve.mjs` lets the page use several threads.
"""


def runs(artifact: Artifact) -> bool:
    """Whether these starters run the artifact; not float16, for which JavaScript has no array."""
    kind = kind_of(artifact)
    return kind in _EXAMPLES and (kind != "arrays" or dtypes_of(artifact) <= DTYPES - {"float16"})


def node_files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of a program for Node.js, by name. arrays: the self-test's `.npz`."""
    texts = " ".join(f'"{text}"' for text in _examples(artifact))
    commands = ["node selftest.mjs", f"node main.mjs {texts}".strip()]
    return {
        **_model(artifact, arrays),
        "platform.mjs": source("javascript", "node.mjs"),
        "selftest.mjs": source("javascript", "selftest.mjs"),
        "main.mjs": source("javascript", "main.mjs"),
        "package.json": _package(artifact, name, NODE, "node selftest.mjs"),
        "README.md": _readme(name, "Node.js", commands, ""),
    }


def web_files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of a page for browsers, by name. arrays: the self-test's `.npz`."""
    page = "http://127.0.0.1:8000/"
    texts = "&".join(f"text={text.replace(' ', '+')}" for text in _examples(artifact))
    commands = ["node serve.mjs", f"# open {page}{'?' if texts else ''}{texts}"]
    return {
        **_model(artifact, arrays),
        "platform.mjs": source("javascript", "web.mjs"),
        "index.html": source("javascript", "index.html"),
        "serve.mjs": source("javascript", "serve.mjs"),
        "package.json": _package(artifact, name, WEB, "node serve.mjs"),
        "README.md": _readme(name, "a browser", commands, _OTHER_SERVERS),
    }


def _examples(artifact: Artifact) -> tuple[str, ...]:
    kind = kind_of(artifact)
    assert kind is not None  # the caller asks first
    return _EXAMPLES[kind]


def _model(artifact: Artifact, arrays: bytes | None) -> dict[str, bytes]:
    kind = kind_of(artifact)
    shared = (*_SHARED, "text.mjs") if kind in ("encoder", "classifier") else _SHARED
    return {
        **{file: source("javascript", file) for file in shared},
        "model.mjs": source("javascript", f"{kind}.mjs"),
        **({} if arrays is None else unpacked(arrays)),
    }


def _readme(name: str, where: str, commands: list[str], more: str) -> bytes:
    lines = "\n".join(f"    {command}" for command in commands)
    return _README.format(name=name, where=where, commands=lines, more=more).encode()


def _package(artifact: Artifact, name: str, runtime: dict[str, str], start: str) -> bytes:
    content = {
        "name": name,
        "private": True,
        "type": "module",
        "engines": {"node": ">=20"},
        "scripts": {"start": start},
        "dependencies": {**runtime, **(TOKENIZER if artifact.text is not None else {})},
    }
    return json.dumps(content, indent=2).encode() + b"\n"
