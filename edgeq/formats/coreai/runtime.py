"""Run Core AI models: by the system on macOS 27, elsewhere by the runtime in Apple's package.

The package's runtime for Linux is Apple's own, with kernels for the CPU.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib.metadata
import os
import sys
import time
import weakref
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.base import Array
from edgeq.formats.coreai.coreai import load_authoring
from edgeq.formats.coreai.write_program import FUNCTION

# The runtime's threads drop what they were given a moment after they answered. If the interpreter
# has ended by then, they abort the process: it waits for so many seconds.
_AFTERWARDS = 0.2


class Runtime:
    """One open model."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput if the runtime does not take it, Missing without the package."""
        authoring = load_authoring()
        _wait_at_exit()
        self._loop = asyncio.new_event_loop()
        try:
            opened = authoring.AIModelAsset.load(path).executable()
            model = _wait(self._loop, opened.__aenter__())
            with _without_log():
                self._functions = [model.load_function(FUNCTION)]
        except (RuntimeError, KeyError) as error:
            what = f"Core AI's runtime does not open it: {error}"
            raise InvalidInput(Problem(str(path), what, "build it again")) from error
        weakref.finalize(self, _close, self._loop, self._functions, opened)
        self.is_apples = sys.platform == "darwin"
        self.name = runtime_name()

    def states(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its states, by name."""
        found = self._functions[0].desc
        return {name: tuple(found.state_descriptor(name).shape) for name in found.state_names}

    def run(
        self, feeds: Mapping[str, Array], states: Mapping[str, Array] = MappingProxyType({})
    ) -> dict[str, Array]:
        """Run the model once: arrays by input name in, arrays by output name out.

        states: arrays of `states`, which are changed.
        """
        from coreai.runtime import NDArray

        self._require_shapes(feeds)
        given = {name: NDArray(np.asarray(array, order="C")) for name, array in feeds.items()}
        kept = {name: NDArray(array) for name, array in states.items()}
        try:
            answer = _wait(self._loop, self._functions[0](given, kept))
        except RuntimeError as error:
            what = f"Core AI's runtime failed: {error}"
            raise InvalidInput(Problem("run", what, "report it with this line")) from error
        for name, array in states.items():
            array[...] = kept[name].numpy()
        # Arrays of the runtime are views of memory that it takes back.
        return {name: np.array(value.numpy()) for name, value in answer.items()}

    def _require_shapes(self, feeds: Mapping[str, Array]) -> None:
        """Raise InvalidInput for shapes that the model does not take: the runtime may abort."""
        found = self._functions[0].desc
        problems = []
        for name in found.input_names:
            wanted = tuple(found.input_descriptor(name).shape)
            shape = feeds[name].shape if name in feeds else wanted
            fits = len(shape) == len(wanted) and all(
                size == own if own >= 0 else size > 0
                for size, own in zip(shape, wanted, strict=True)
            )
            if not fits:
                shown = " × ".join("any" if size < 0 else str(size) for size in wanted)
                problems.append(Problem(f"input {name!r}", f"has shape {shape}", f"it is {shown}"))
        if problems:
            raise InvalidInput(problems)


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`; in another thread if an event loop runs in this one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return loop.run_until_complete(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(loop.run_until_complete, work).result()


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep a line that the runtime prints for every function from the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@functools.cache
def _wait_at_exit() -> None:
    atexit.register(time.sleep, _AFTERWARDS)


def _close(loop: asyncio.AbstractEventLoop, functions: list[Any], opened: Any) -> None:
    functions.clear()
    _wait(loop, opened.__aexit__(None, None, None))
    loop.close()


def runtime_name() -> str:
    """Name and version of the runtime here."""
    version = importlib.metadata.version("coreai-core")
    system = {"darwin": "macOS", "linux": "Linux"}.get(sys.platform, sys.platform)
    return f"Core AI's own runtime on {system} (coreai-core {version})"
