"""Requirements of another machine for a pass, and messages about what it lacks."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
from collections.abc import Mapping

from edgeq.core.errors import Missing, Problem
from edgeq.devices.address import Address
from edgeq.devices.profile import in_range
from edgeq.places.answers import Greeting
from edgeq.quantize.ggml.llama_abi import BUILDS
from edgeq.quantize.ggml.llama_api import CHOICE

PYTHON = ">=3.10"
PACKAGES = {
    "filelock": ">=3.15",
    "numpy": ">=1.26,<2.4",
    "onnxruntime": ">=1.23",
    "platformdirs": ">=4.2",
    "psutil": ">=5.9",
    "pydantic": ">=2.8",
    "tokenizers": ">=0.20",
}
"""Dependencies of edgeq that a worker imports, and their versions; the command line needs more."""
LLAMAS = {build.distribution: build.version for build in BUILDS.values()}
"""Builds of llama.cpp that can run GGUF files; at least one is required for them."""
_DECIDE = ("onnxruntime", *LLAMAS)  # packages whose version affects answers and speed


def no_python(address: Address, found: str, said: str) -> Missing:
    """The error for a machine without a recent enough Python.

    `found` is the version and path of one that is too old, or empty; `said` is the machine's output
    instead.
    """
    what = f"its Python is {found}, and {PYTHON} is required" if found else "no Python was started"
    if said and not found:
        what += f": {said}"
    remedy = "install Python 3.10 or later there"
    remedy += f", or name one: {address.name}?python=/path/there; {_without(address)}"
    return Missing(Problem(address.name, what, remedy))


def require_packages(address: Address, facts: Greeting, *, gguf: bool) -> None:
    """Raise Missing, with the command to type there, if a package is missing or of another version.

    `facts` are the agent's greeting; `gguf` also requires a build of llama.cpp.
    """
    versions = facts.packages
    lacking, install = [], []
    for name, needed in PACKAGES.items():
        found = versions.get(name)
        if found is None or not in_range(found, needed):
            lacking.append(f"{name}{needed}" + (f" (has {found})" if found else ""))
            install.append(f"{name}{needed}")
    if gguf and (build := _lacking_llama(versions)):
        lacking.append(f"{build}, to run GGUF files")
        install.append(build)
    if lacking:
        what = f"its Python {facts.python} ({facts.executable}) lacks {', '.join(lacking)}"
        remedy = _remedy(address, facts, install)
        if not gguf:
            remedy += f"; {_without(address)}"
        raise Missing(Problem(address.name, what, remedy))


def _without(address: Address) -> str:
    return (
        "or measure without Python, by a copy of onnxruntime's library for that machine on this "
        f"one: {address.name}?library=/path/here"
    )


def differences(facts: Greeting) -> tuple[str, ...]:
    """Describe which runtimes have another version there than here."""
    notes = []
    for name in _DECIDE:
        there, here = facts.packages.get(name), _version_here(name)
        if there and here and there != here:
            notes.append(f"{name} is {there} there and {here} here")
    return tuple(notes)


def _lacking_llama(versions: Mapping[str, str | None]) -> str | None:
    chosen = BUILDS.get(os.environ.get(CHOICE, ""))
    wanted = {chosen.distribution: chosen.version} if chosen else LLAMAS
    if any(versions.get(name) == version for name, version in wanted.items()):
        return None
    name, version = next(iter(wanted.items()))
    return f"{name}=={version}"


def _remedy(address: Address, facts: Greeting, install: list[str]) -> str:
    python = shlex.quote(facts.executable)
    packages = " ".join(shlex.quote(package) for package in install)
    if not facts.managed:
        return f"run there: {python} -m pip install {packages}"
    # Its distribution refuses pip outside a virtual environment (PEP 668).
    home = f"{facts.home.rstrip('/')}/edgeq-python"
    packages = " ".join(shlex.quote(f"{name}{range_}") for name, range_ in PACKAGES.items())
    more = [shlex.quote(package) for package in install if "==" in package]
    return (
        f"run there: {python} -m venv {home} && {home}/bin/pip install "
        f"{' '.join([packages, *more])}; and reach it as {address.name}?python={home}/bin/python"
    )


def _version_here(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
