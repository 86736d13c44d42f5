"""llama.cpp's C library through ctypes: choosing a build, opening models, and its errors.

Two builds are supported: `xllamacpp`, a wheel for every CPU of an architecture, and
`llama-cpp-python`, compiled on the machine for its own CPU. llama.cpp's structures change without
notice, so versions are pinned exactly, and default parameters are compared with known values before
anything else is called. Only one build can be used in a process.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import threading
from collections import deque
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Missing, Problem, missing_extra
from edgeq.quantize.ggml import llama_abi
from edgeq.quantize.ggml.llama_abi import BUILDS, Batch, Build, ModelParams

CHOICE = "EDGEQ_LLAMA"
"""The environment variable that names the package to take llama.cpp from."""


class _Log:
    """Keeps the last errors logged by the library; nothing is printed."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=8)
        self._kept = False
        self._lock = threading.Lock()
        self.callback = llama_abi.LogCallback(self._take)

    def _take(self, level: int, text: bytes, _user_data: int | None) -> None:
        with self._lock:
            if level != llama_abi.CONTINUED:
                self._kept = level == llama_abi.ERROR
                if self._kept:
                    self._lines.append("")
            if self._kept:
                self._lines[-1] += text.decode("utf-8", "replace")

    def pop(self) -> str:
        """The messages since the last call, in one line."""
        with self._lock:
            said = " ".join(" ".join(self._lines).split())
            self._lines.clear()
        return said


class Llama:
    """One build of llama.cpp, loaded.

    lib: its functions, those of `llama_abi` declared. runtime: package and version. system: the
    instruction sets reported by `llama_print_system_info`.
    """

    def __init__(self, lib: ctypes.CDLL, build: Build) -> None:
        self.lib = lib
        self.runtime = f"llama.cpp of {build.distribution} {build.version}"
        self._log = _Log()
        for name, (result, *arguments) in llama_abi.FUNCTIONS.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
        lib.llama_context_default_params.restype = build.context_params
        lib.llama_init_from_model.restype = ctypes.c_void_p
        lib.llama_init_from_model.argtypes = [ctypes.c_void_p, build.context_params]
        _require_layout(lib, build)
        lib.llama_log_set(self._log.callback, None)
        lib.llama_backend_init()
        self.system = lib.llama_print_system_info().decode().strip(" |")

    def open_model(self, path: Path, *, vocabulary_only: bool = False) -> int:
        """Map the model in the file `path`: a `struct llama_model *`, for `llama_model_free`.

        On the CPU, and without repacking, which would keep a second copy of the weights in memory.
        Raises InvalidInput with llama.cpp's reason. Damaged files can abort the process: read the
        header first (`edgeq.formats.gguf.header.read_header`).
        """
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False
        params.vocab_only = vocabulary_only
        self._log.pop()
        model: int | None = self.lib.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise self.refusal(path, "cannot open it")
        return model

    def open_adapter(self, model: int, path: Path) -> int:
        """Load the adapter in the file `path` for `model`, with which it is freed.

        Raises InvalidInput with llama.cpp's reason; read the header first, as for a model.
        """
        self._log.pop()
        adapter: int | None = self.lib.llama_adapter_lora_init(model, os.fsencode(path))
        if not adapter:
            raise self.refusal(path, "cannot open it")
        return adapter

    def use_adapter(self, context: int, adapter: int) -> None:
        """Apply `adapter` to every product in `context`."""
        adapters, scales = (ctypes.c_void_p * 1)(adapter), (ctypes.c_float * 1)(1.0)
        self.lib.llama_set_adapters_lora(context, adapters, 1, scales)

    def open_context(self, model: int, where: Path, **settings: Any) -> int:
        """A `struct llama_context *` for `model`, for `llama_free`; with defaults except for
        `settings`.

        `settings` are fields of `struct llama_context_params`. Raises InvalidInput.
        """
        params = self.lib.llama_context_default_params()
        for name, value in settings.items():
            setattr(params, name, value)
        self._log.pop()
        context: int | None = self.lib.llama_init_from_model(model, params)
        if not context:
            raise self.refusal(where, f"cannot open a context of {params.n_ctx} positions for it")
        return context

    def refusal(self, where: Path, what: str) -> InvalidInput:
        """The error for a failure of llama.cpp, with its own message."""
        said = self._log.pop() or "it gave no reason"
        remedy = "build or download the file again, or free memory"
        return InvalidInput(Problem(str(where), f"{self.runtime} {what}: {said}", remedy))


_loading = threading.Lock()  # two threads that load the library at once crash the process


def library() -> Llama:
    """The build of llama.cpp for this process: EDGEQ_LLAMA, else xllamacpp, else llama_cpp.

    Raises Missing if there is none, or none of the supported version, or if the system lacks a
    library it needs.
    """
    with _loading:
        return _library()


@functools.cache
def _library() -> Llama:
    build = _chosen()
    found = importlib.metadata.version(build.distribution)
    install = f'pip install "{build.distribution}=={build.version}"'
    if found != build.version:
        what = f"version {found} is installed, and this edgeq supports only {build.version}"
        raise Missing(Problem(build.distribution, what, install))
    # Read once, when the library loads. Waiting threads of OpenMP would spin on a shared core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    path = _file(build)
    if path is None:
        what = "its package has no library for this system"
        raise Missing(Problem(build.distribution, what, install))
    try:
        return Llama(ctypes.CDLL(str(path)), build)
    except OSError as error:
        remedy = "install the OpenMP runtime: `apt-get install libgomp1` (Debian, Ubuntu) or "
        remedy += "`dnf install libgomp` (Fedora)"
        known = "libgomp" in str(error)
        raise Missing(
            Problem(build.distribution, f"cannot be loaded: {error}", remedy if known else install)
        ) from None
    except AttributeError as error:  # a function is missing
        raise Missing(Problem(build.distribution, f"has changed: {error}", install)) from None


def chosen_build() -> str:
    """Package and version of the llama.cpp that `library` loads, without loading it."""
    build = _chosen()
    return f"{build.distribution} {build.version}"


def _chosen() -> Build:
    wanted = os.environ.get(CHOICE)
    if wanted and wanted not in BUILDS:
        remedy = f"take one of: {', '.join(BUILDS)}"
        raise Missing(Problem(CHOICE, f"{wanted!r} is not a known build of llama.cpp", remedy))
    for name in [wanted] if wanted else BUILDS:
        if importlib.util.find_spec(name) is not None:
            return BUILDS[name]
    raise missing_extra(wanted or "xllamacpp", "gguf", "run and quantize GGUF models")


def _file(build: Build) -> Path | None:
    """The library, found without running the package's own code."""
    spec = importlib.util.find_spec(build.module)
    roots = (spec and spec.submodule_search_locations) or ()
    candidates = (Path(root, name) for root in roots for name in build.files)
    return next((path for path in candidates if path.is_file()), None)


def _require_layout(lib: ctypes.CDLL, build: Build) -> None:
    """Compare sizes and default values with the known ones; raises Missing if they differ."""
    sizes = (ctypes.sizeof(build.context_params), ctypes.sizeof(ModelParams), ctypes.sizeof(Batch))
    pairs: list[tuple[Any, dict[str, Any]]] = [
        (lib.llama_context_default_params(), llama_abi.DEFAULTS),
        (lib.llama_model_default_params(), llama_abi.MODEL_DEFAULTS),
    ]
    strange = [
        f"{name} is {getattr(params, name)}"
        for params, known in pairs
        for name, value in known.items()
        if getattr(params, name) != value
    ]
    if sizes != (build.context_bytes, llama_abi.MODEL_BYTES, llama_abi.BATCH_BYTES):
        strange.append(f"sizes are {sizes} on this platform")
    if strange:
        what = f"its structures differ from the expected layout: {', '.join(strange)}"
        remedy = f'pip install --force-reinstall "{build.distribution}=={build.version}"'
        raise Missing(Problem(build.distribution, what, remedy))
