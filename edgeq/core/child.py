"""Python child processes: isolated, and killed with the process that started them.

`python -m` and `python -c` put the working directory first on the search path, where a malicious
`numpy.py` may lie. Children are started with `-I` instead, which also ignores Python's environment
variables, and get their parent's search path without the working directory. edgeq itself is loaded
from its own folder, so that an editable install works and its parent folder is not searched.

Sent to other machines as text, so only the standard library is imported.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# No module of edgeq can be imported before this has run, so it cannot be one.
_START = """\
import sys
package, path, parent = {package!r}, {path!r}, {parent!r}
sys.path[:] = [*path, *(place for place in sys.path if place not in path)]
from importlib import util
spec = util.spec_from_file_location("edgeq", package + "/__init__.py")
sys.modules["edgeq"] = util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["edgeq"])
from edgeq.core.child import begin
begin(parent)
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
_begun = False


def trusted_path() -> tuple[str, ...]:
    """The search path of this process without the working directory."""
    here = os.path.realpath(os.curdir)
    return tuple(
        place for place in sys.path if Path(place).is_absolute() and os.path.realpath(place) != here
    )


@dataclass(frozen=True)
class Python:
    """An interpreter, its package folders, and the folder of the edgeq it runs."""

    executable: str
    path: tuple[str, ...]
    package: str

    def command(self, module: str, *arguments: str) -> list[str]:
        """The command line that runs `module` as `python -m` would, isolated.

        The process is killed when this one ends (on Linux).
        """
        start = _START.format(package=self.package, path=[*self.path], parent=os.getpid())
        return [self.executable, "-I", "-c", start, module, *arguments]


def this_python() -> Python:
    """The interpreter and the edgeq of this process."""
    return Python(sys.executable, trusted_path(), str(Path(__file__).parents[1]))


def command(module: str, *arguments: str) -> list[str]:
    """The command line of a child of this process that runs `module`; see `Python.command`."""
    return this_python().command(module, *arguments)


def begin(parent: int) -> None:
    """Have Linux kill this process when `parent` ends; elsewhere it does not."""
    global _begun
    _begun = True
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the request
        os._exit(1)


def can_start() -> bool:
    """Whether there is a Python to start; frozen or embedded applications have none."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def limit_memory(most_bytes: int) -> None:
    """Leave no core dump and, on Linux, allocate no more than `most_bytes` from now on."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or most_bytes < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


def limit_seconds(most: float) -> None:
    """Be killed by SIGXCPU after this much processor time, however busy the machine is."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(most), math.ceil(most)))


def is_child() -> bool:
    """Whether edgeq started this process, so that ending it does not end a user's program."""
    return _begun
