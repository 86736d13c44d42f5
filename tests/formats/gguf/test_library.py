"""llama.cpp itself: a process that loads it alone, versions it refuses, and its structures."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")


from edgeq.core.artifact import GGUF_FILE
from edgeq.quantize.ggml.llama_api import library

REPOSITORY = Path(__file__).parents[3]


def fresh(program: str, *arguments: str | Path, **environment: str) -> list[str]:
    """What a new process prints; nothing may be on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


FRESH = """
import hashlib, sys
import edgeq
model = edgeq.load(sys.argv[1], threads=1)
ids = model.tokens("The little bird sat in the tree and sang of the long winter.")
print(hashlib.sha256(model.logits(ids).tobytes()).hexdigest())
print("".join(model.generate("The bird", 12)))
loaded = [name for name in ("onnxruntime", "tokenizers", "torch", "gguf", "onnx", "xllamacpp",
                            "transformers") if name in sys.modules]
print(loaded)
"""


def test_a_fresh_process_gives_the_same_bits_and_loads_nothing_else(small: Path) -> None:
    """llama.cpp's own words are kept from the standard streams."""
    first, again = fresh(FRESH, small), fresh(FRESH, small / GGUF_FILE)
    assert first == again
    assert first[-1] == "[]"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"EDGEQ_LLAMA": "llama"}, "'llama' is not a known build of llama.cpp"),
        ({"HIDE": "xllamacpp llama_cpp"}, 'pip install ".[gguf]"'),
        ({"EDGEQ_LLAMA": "llama_cpp", "HIDE": "llama_cpp"}, "llama_cpp"),
    ],
)
def test_without_llama_cpp_the_package_is_named(
    environment: dict[str, str], named: str, small: Path
) -> None:
    program = (
        "import importlib.util, os, sys\n"
        "from pathlib import Path\n"
        "find, hidden = importlib.util.find_spec, os.environ.get('HIDE', '').split()\n"
        "importlib.util.find_spec = lambda name: None if name in hidden else find(name)\n"
        "import edgeq\n"
        "from edgeq.core.errors import Missing\n"
        "try:\n    edgeq.load(sys.argv[1])\n"
        "except Missing as error:\n    print(error)\n"
    )
    assert named in "\n".join(fresh(program, small, **environment))


def test_another_version_is_never_called() -> None:
    """Its structures may be laid out otherwise: a call would write past them."""
    program = (
        "import importlib.metadata\n"
        "version = importlib.metadata.version\n"
        "importlib.metadata.version = lambda n: '1.0' if n == 'xllamacpp' else version(n)\n"
        "from edgeq.core.errors import Missing\n"
        "from edgeq.quantize.ggml.llama_api import library\n"
        "try:\n    library()\n"
        "except Missing as error:\n    print(error)\n"
    )
    (what, remedy) = fresh(program, EDGEQ_LLAMA="xllamacpp")
    assert "version 1.0 is installed" in what
    assert 'pip install "xllamacpp==' in remedy


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls by the rules of x86-64")
def test_structures_have_the_librarys_size() -> None:
    """What the library writes of its defaults ends where the structure ends, but for padding.

    By those rules a large structure is returned to where a hidden first argument points.
    """
    lib = library().lib
    for name in ("llama_context_default_params", "llama_model_default_params"):
        function = getattr(lib, name)
        params = function.restype
        room = (ctypes.c_uint8 * 512)(*[0xAA] * 512)
        function.restype, function.argtypes = None, [ctypes.c_void_p]
        try:
            function(room)
        finally:
            function.restype, function.argtypes = params, []
        written = 512 - len(bytes(room)) + len(bytes(room).rstrip(b"\xaa"))
        assert -(-written // 8) * 8 == ctypes.sizeof(params)
