"""Rounding by the C library, in pieces on many threads, and whole files of it."""

from __future__ import annotations

import ctypes
import filecmp
import functools
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("xllamacpp", reason="no llama.cpp is installed")

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.requantize import facts_of, quantize_file
from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import write_gguf
from edgeq.quantize.ggml.library import quantize_rows, requires_importance, widen
from edgeq.quantize.ggml.llama_api import library
from edgeq.quantize.ggml.quantize import in_order, quantize_tensor
from edgeq.quantize.ggml.types import TYPES, nbytes
from tests.support.mix_cases import CASES, PYTHON, ask, interpreter, job
from tests.support.properties import examples

WEIGHTS = [name for name in TYPES if name not in ("Q8_1", "Q8_K") and name[:1] not in "I"]
WEIGHTS = [*WEIGHTS, *(name for name in TYPES if name.startswith("IQ"))]
WEIGHTS.remove("F64")
COARSE = ("IQ1_S", "IQ2_XXS", "IQ2_XS")


def _values(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, columns), np.float32) * np.float32(0.05)


def _importance(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32) + np.float32(1e-3)


def _whole(name: str, values: np.ndarray, importance: np.ndarray | None) -> bytes:
    """The C library in one call on one thread."""
    lib, type = library().lib, TYPES[name]
    out = np.empty(nbytes(type, values.shape), np.uint8)
    arguments = [type.id, values.ctypes.data, out.ctypes.data, 0, *values.shape]
    arguments.append(None if importance is None else importance.ctypes.data)
    kinds = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    call = ctypes.CFUNCTYPE(ctypes.c_size_t, *kinds)(("ggml_quantize_chunk", lib))
    assert call(*arguments) == out.nbytes
    return out.tobytes()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", WEIGHTS)
def test_pieces_are_what_the_library_makes_of_the_whole(name: str, weighted: bool) -> None:
    if name in COARSE and not weighted:
        pytest.skip(f"{name} cannot be rounded without importance")
    values = _values(5, 512)
    importance = _importance((512,)) if weighted else None
    pieces = quantize_tensor(
        lambda start, stop: values[start:stop], (5, 512), TYPES[name], importance, threads=3
    )
    assert b"".join(map(bytes, pieces)) == _whole(name, values, importance)


@given(st.integers(1, 3000), st.integers(1, 9), st.sampled_from(["Q4_0", "Q8_0", "Q4_K", "F16"]))
@examples(30)
def test_many_pieces_come_in_order(rows: int, threads: int, name: str) -> None:
    values = _values(rows, 256)
    pieces = quantize_tensor(
        lambda start, stop: values[start:stop], (rows, 256), TYPES[name], None, threads
    )
    assert b"".join(map(bytes, pieces)) == _whole(name, values, None)


@pytest.mark.parametrize("name", ["Q4_K", "IQ4_NL", "F32"])
def test_each_expert_is_rounded_with_its_own_importance(name: str) -> None:
    values, importance = _values(3 * 4, 256), _importance((3, 256))
    pieces = quantize_tensor(
        lambda start, stop: values[start:stop], (3, 4, 256), TYPES[name], importance
    )
    wanted = [_whole(name, values[at * 4 : at * 4 + 4], importance[at]) for at in range(3)]
    assert b"".join(map(bytes, pieces)) == b"".join(wanted)


def test_a_vector_keeps_its_values() -> None:
    values = _values(1, 700)[0]
    for name, wanted in (("F32", values), ("F16", values.astype(np.float16))):
        pieces = quantize_tensor(lambda start, stop: values[start:stop], (700,), TYPES[name])
        assert b"".join(map(bytes, pieces)) == wanted.tobytes()


def test_every_float16_and_bfloat16_widens_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    half, brain = widen(bits, TYPES["F16"]), widen(bits, TYPES["BF16"])
    assert np.array_equal(half, bits.view(np.float16).astype(np.float32), equal_nan=True)
    finite = np.isfinite(half)
    assert np.array_equal(
        half[finite].view(np.uint32),
        bits.view(np.float16)[finite].astype(np.float32).view(np.uint32),
    )
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(brain[~np.isnan(wide)], wide[~np.isnan(wide)])
    with pytest.raises(ValueError, match="F32"):
        widen(bits, TYPES["F32"])


@given(st.lists(st.floats(-60000, 60000, width=32), min_size=1, max_size=64))
@settings(deadline=None)
def test_half_precision_is_rounded_to_nearest_even(items: list[float]) -> None:
    values = np.array([items], np.float32)
    assert quantize_rows(TYPES["F16"], values).tobytes() == values.astype(np.float16).tobytes()
    bits = values.view(np.uint32)
    nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    assert quantize_rows(TYPES["BF16"], values).tobytes() == nearest.tobytes()


REFUSED: dict[str, tuple[str, Callable[[], object]]] = {
    "rows of half a block": (
        "do not divide into blocks of 256",
        lambda: quantize_rows(TYPES["Q4_K"], _values(1, 288)),
    ),
    "no importance": (
        "without an importance matrix",
        lambda: quantize_rows(TYPES["IQ2_XXS"], _values(1, 256)),
    ),
    "importance of another width": (
        "does not fit",
        lambda: quantize_rows(TYPES["Q4_K"], _values(1, 256), _importance((255,))),
    ),
    "importance that is infinite": (
        "not finite",
        lambda: quantize_rows(TYPES["Q4_K"], _values(1, 256), np.full(256, np.inf, np.float32)),
    ),
    "weights that are NaN": (
        "NaN or infinite",
        lambda: quantize_rows(TYPES["IQ4_NL"], np.full((1, 256), np.nan, np.float32)),
    ),
    "weights beyond half precision": (
        "beyond its range",
        lambda: quantize_rows(TYPES["F16"], np.full((1, 256), 1e6, np.float32)),
    ),
    "a kernel's own type": (
        "not a type for weights",
        lambda: quantize_rows(TYPES["Q8_K"], _values(1, 256)),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_garbage_or_a_crash_is_refused(case: str) -> None:
    told, call = REFUSED[case]
    with pytest.raises(InvalidInput, match=told):
        call()


def test_types_that_need_importance_are_known() -> None:
    assert {name for name in WEIGHTS if requires_importance(TYPES[name])} == set(COARSE)


def test_the_library_loads_once_for_many_threads() -> None:
    code = (
        "import numpy as np, threading\n"
        "from edgeq.quantize.ggml.library import quantize_rows\n"
        "from edgeq.quantize.ggml.types import TYPES\n"
        "def work(): quantize_rows(TYPES['Q8_0'], np.ones((1, 32), np.float32))\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


def test_a_failure_ends_the_work_and_is_raised() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def call(index: int) -> int:
        with lock:
            started.append(index)
        if index == 5:
            raise InvalidInput([])
        return index

    found = in_order((functools.partial(call, index) for index in range(1000)), 2)
    seen = []
    with pytest.raises(InvalidInput):
        for value in found:
            seen.append(value)
    assert seen == [0, 1, 2, 3, 4] and max(started) < 20


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("mix", ["Q4_K_M", "Q5_0", "F16", "BF16", "F32"])
def test_a_file_is_quantized_tensor_by_tensor(kind: str, mix: str, tmp_path: Path) -> None:
    case = CASES["llama-576"]
    source = read_header(case.write(tmp_path / "a.gguf", seed=3, kind=kind))
    weights = case.importance(0)
    importance = Importance(weights, dict.fromkeys(weights, 1), ("text.txt",), 2, 64)
    quantize_file(source.path, tmp_path / "b.gguf", mix, importance)
    header = read_header(tmp_path / "b.gguf")
    contents = {file.path: file.path.read_bytes() for file in (source, header)}
    for name, entry in header.tensors.items():
        old = source.tensors[name]
        held = contents[source.path][old.offset : old.offset + old.nbytes]
        if entry.type is not old.type:
            if old.type.name == "F32":
                rows = np.frombuffer(held, np.float32)
            else:
                rows = widen(np.frombuffer(held, np.uint16), old.type)
            rows = np.ascontiguousarray(rows.reshape(-1, entry.shape[-1]))
            held = _whole(entry.type.name, rows, weights.get(name))
        assert contents[header.path][entry.offset : entry.offset + entry.nbytes] == held
    assert header.get("general.quantization_version") == 2
    assert header.get("quantize.imatrix.dataset") == "text.txt"


def test_whole_files_are_llama_cpp_s_own(tmp_path: Path) -> None:
    python = interpreter()
    if python is None:
        pytest.skip(f"no llama-cpp-python here, and {PYTHON} names no interpreter that has it")
    jobs, ours = [], []
    for name in ("llama-tied-shared", "llama-odd", "bert", "mixtral"):
        case = CASES[name]
        weights = case.importance(0)
        counts = {x: 1 if y.ndim == 1 else np.ones(len(y), np.int64) for x, y in weights.items()}
        importance = Importance(weights, counts, ("text.txt",), 7, 64)
        arrays: dict[str, Any] = dict(weights)
        np.savez(tmp_path / f"{name}.npz", **arrays)
        notes = {key: value.value for key, value in importance.metadata().items()}
        for kind, mix in (("F32", "Q4_K_M"), ("F16", "Q2_K"), ("BF16", "Q5_1"), ("F32", "IQ4_XS")):
            source = case.write(tmp_path / f"{name}-{kind}.gguf", seed=5, kind=kind)
            for way, matrix in (("without", None), ("with", importance)):
                more = {"importance": str(tmp_path / f"{name}.npz"), "overrides": notes}
                theirs = tmp_path / f"{name}-{mix}-{way}.theirs"
                jobs.append(job(source, theirs, mix, **(more if matrix else {})))
                ours.append(theirs.with_suffix(".ours"))
                quantize_file(source, ours[-1], mix, matrix)
    for task, answer, path in zip(jobs, ask(python, jobs), ours, strict=True):
        assert answer["failure"] == ""
        assert filecmp.cmp(task["destination"], path, shallow=False), path.name


def _refusal(tmp_path: Path, change: dict[str, MetaValue], **more: object) -> str:
    case = CASES["llama-tied-shared"]
    shapes = dict(case.tensors)
    specs = [(name, shape, TYPES["F32"]) for name, shape in shapes.items()]
    metadata = {**case.metadata, **change}
    metadata = {key: value for key, value in metadata.items() if value.kind != "absent"}
    source = tmp_path / "a.gguf"
    write_gguf(source, metadata, specs, lambda name: [np.zeros(shapes[name], np.float32)])
    given = {"destination": tmp_path / "b.gguf", "mix": "Q4_K_M", "importance": None, **more}
    with pytest.raises(InvalidInput) as caught:
        quantize_file(source, **given)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf"]
    return str(caught.value)


def test_files_that_cannot_be_quantized_are_refused(tmp_path: Path) -> None:
    absent = MetaValue("absent", None)
    parts = {"split.count": MetaValue("uint16", 3)}
    assert "one of 3 parts" in _refusal(tmp_path, parts)
    assert "llama.block_count" in _refusal(tmp_path, {"llama.block_count": absent})
    heads = {"llama.attention.head_count": MetaValue("string", "eight")}
    assert "head_count is 'eight'" in _refusal(tmp_path, heads)
    assert "without an importance matrix" in _refusal(tmp_path, {}, mix="IQ2_XS")
    assert "Q4_K_XL" in _refusal(tmp_path, {}, mix="Q4_K_XL")
    assert "to be quantized" in _refusal(tmp_path, {}, destination=tmp_path / "a.gguf")
    assert "no does not exist" in _refusal(tmp_path, {}, destination=tmp_path / "no" / "b.gguf")
    name = "blk.0.attn_q.weight"
    narrow = Importance({name: np.ones(7, np.float32)}, {name: 1})
    assert f"{name} has importance (7,)" in _refusal(tmp_path, {}, importance=narrow)


def test_a_bad_weight_is_named(tmp_path: Path) -> None:
    values = np.ones((256, 256), np.float32)
    values[200, 3] = np.inf
    metadata = {
        "general.architecture": MetaValue("string", "llama"),
        "llama.block_count": MetaValue("uint32", 1),
    }
    spec = ("blk.0.ffn_up.weight", values.shape, TYPES["F32"])
    write_gguf(tmp_path / "a.gguf", metadata, [spec], lambda name: [values])
    with pytest.raises(InvalidInput, match=r"blk\.0\.ffn_up\.weight.*infinite"):
        quantize_file(tmp_path / "a.gguf", tmp_path / "b.gguf", "Q4_K_M")
    quantize_file(tmp_path / "a.gguf", tmp_path / "c.gguf", "F32")
    with pytest.raises(InvalidInput, match="rounding twice"):
        values[200, 3] = 0
        write_gguf(tmp_path / "a.gguf", metadata, [spec], lambda name: [values])
        quantize_file(tmp_path / "a.gguf", tmp_path / "b.gguf", "Q8_0")
        quantize_file(tmp_path / "b.gguf", tmp_path / "c.gguf", "Q4_0")


@pytest.mark.parametrize("name", CASES)
def test_facts_are_read_from_metadata(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert facts_of(read_header(case.write(tmp_path / "a.gguf"))) == case.facts


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is read")
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    code = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from edgeq.formats.gguf.requantize import quantize_file\n"
        "from edgeq.quantize.ggml.library import requires_importance\n"
        "from edgeq.quantize.ggml.types import TYPES\n"
        "requires_importance(TYPES['Q8_0'])\n"
        "def anonymous():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(x.split()[1]) for x in lines if x.startswith('RssAnon'))\n"
        "before, highest, done = anonymous(), 0, threading.Event()\n"
        "def watch():\n"
        "    global highest\n"
        "    while not done.wait(0.002): highest = max(highest, anonymous())\n"
        "watcher = threading.Thread(target=watch)\n"
        "watcher.start()\n"
        "quantize_file(Path(sys.argv[1]), Path(sys.argv[2]), 'Q8_0', threads=2)\n"
        "done.set()\n"
        "watcher.join()\n"
        "print(max(highest, anonymous()) - before)\n"
    )
    rows = 96 * 1024  # of 512 values: 96 MiB in F16, in one tensor
    metadata = {
        "general.architecture": MetaValue("string", "llama"),
        "llama.block_count": MetaValue("uint32", 1),
    }
    piece = np.ones((1024, 512), np.float16)
    spec = ("blk.0.ffn_up.weight", (rows, 512), TYPES["F16"])
    write_gguf(tmp_path / "a.gguf", metadata, [spec], lambda name: [piece] * (rows // 1024))
    command = [sys.executable, "-c", code, str(tmp_path / "a.gguf"), str(tmp_path / "b.gguf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32 * 1024  # KiB
