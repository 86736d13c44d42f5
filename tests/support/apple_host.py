"""Swift programs that run on Linux: Apple's frameworks ask this process to run their models.

The frameworks are the modules in `tests/support/swift`. Models run as in checks: Core ML packages
by our executor, Core AI models by Apple's own runtime for Linux; tokenizers by their library.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import pytest

from edgeq.formats.chat import chat_of_directory
from tests.support.swift_sources import linked, modules

_DTYPES = {"Float": np.float32, "Float16": np.float16, "Double": np.float64, "Int32": np.int32}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_SECONDS = 120


def run_program(text: str, resources: Path, folder: Path) -> list[Any]:
    """What the program tells by `tell(…)`, in its order, run with `resources` as its bundle's.

    text: Swift with statements behind its declarations. Skips where there is no Swift.
    """
    swift = shutil.which("swift")
    if swift is None:
        pytest.skip("no swift here: Swift sources are not run")
    source = folder / "main.swift"
    bundle = f"static let module = Bundle(path: {json.dumps(str(resources))})!"
    source.write_text(
        f"import AppleHost\n{_TELL}{text}\nextension Bundle {{ {bundle} }}\n", encoding="utf-8"
    )
    places = linked(modules())
    command = [swift, "-swift-version", "5", "-D", "SWIFT_PACKAGE", *places, str(source)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        host = _Host()
        for line in process.stdout:
            process.stdin.write(json.dumps(host.answer(json.loads(line))) + "\n")
            process.stdin.flush()
        said = process.stderr.read()
        assert process.wait(_SECONDS) == 0, said
    return host.told


_TELL = """
func tell(_ found: Any) { _ = try! Host.shared.ask("tell", ["found": found]) }
"""


class _Host:
    """Answers questions of one program."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self._opened: dict[int, Any] = {}
        self._numbers = itertools.count()
        self._answers: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "tell": self._hear,
            "open": self._open,
            "state": lambda asked: self._keep(self._opened[asked["model"]].make_state()),
            "run": self._run,
            "tokenizer": self._tokenizer,
            "encode": lambda asked: {"ids": self._tokens(asked).encode(asked["text"]).ids},
            "decode": self._decode,
            "chat": self._chat,
        }

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._answers[asked["ask"]](asked)

    def _keep(self, thing: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._opened[number] = thing
        return {"number": number}

    def _hear(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.told.append(asked["found"])
        return {}

    def _open(self, asked: dict[str, Any]) -> dict[str, Any]:
        path = Path(asked["path"])
        if path.suffix == ".aimodel":
            from edgeq.formats.coreai.runtime import Runtime

            return self._keep(Runtime(path))
        from edgeq.formats.coreml.executor.executor import load

        return self._keep(load(path.resolve()))

    def _run(self, asked: dict[str, Any]) -> dict[str, Any]:
        model = self._opened[asked["model"]]
        inputs, states = (
            {name: _array(value) for name, value in asked.get(key, {}).items()}
            for key in ("inputs", "states")
        )
        if hasattr(model, "predict"):
            state = self._opened[asked["state"]] if "state" in asked else None
            found = model.predict(inputs, state)
        else:
            found = model.run(inputs, states)
        return {
            "outputs": {name: _json(value) for name, value in found.items()},
            "states": {name: _json(value) for name, value in states.items()},
        }

    def _tokenizer(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._keep(Path(asked["path"]))

    def _tokens(self, asked: dict[str, Any]) -> Any:
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(self._opened[asked["model"]] / "tokenizer.json"))
        found.no_truncation()
        found.no_padding()
        return found

    def _decode(self, asked: dict[str, Any]) -> dict[str, Any]:
        text = self._tokens(asked).decode(asked["ids"], skip_special_tokens=asked["skip"])
        return {"text": text}

    def _chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        chat = chat_of_directory(self._opened[asked["model"]])
        template = jinja2.Environment().from_string(chat.template or "")
        text = template.render(messages=asked["messages"], add_generation_prompt=True)
        return {"ids": self._tokens(asked).encode(text, add_special_tokens=False).ids}


def _array(value: Mapping[str, Any]) -> npt.NDArray[Any]:
    return np.array(value["scalars"], _DTYPES[value["type"]]).reshape(value["shape"])


def _json(array: Any) -> dict[str, Any]:
    values = np.asarray(array)
    return {
        "scalars": values.astype(np.float64).ravel().tolist(),
        "shape": list(values.shape),
        "type": _NAMES[values.dtype],
    }
