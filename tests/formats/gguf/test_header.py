"""Reading headers: what is right is read as it is, and nothing else does any harm."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import Header, read_header
from edgeq.formats.gguf.values import Strings
from tests.support.gguf_files import array, gguf, pair, string, tensor, valid, write
from tests.support.properties import examples

F32, Q8_0, MIB = 0, 8, 1 << 20


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "a.gguf", valid()))
    plain = {key: header.get(key) for key in header.metadata}
    assert plain["general.architecture"] == "llama"
    assert [plain[f"k.{kind}"] for kind in range(6)] == [1, 1, 257, 257, 0x01010101, 0x01010101]
    assert plain["k.bool"] is True and plain["k.10"] == 0x0101010101010101
    assert plain["k.6"] == struct.unpack("<f", b"\1" * 4)[0]
    assert plain["k.12"] == struct.unpack("<d", b"\1" * 8)[0]
    assert list(plain["a.string"]) == ["a", "", "\udcffé"]
    assert (plain["a.int32"], plain["a.bool"], plain["a.empty"]) == (
        [-1, 0, 1, 2],
        [False, True],
        [],
    )
    assert header.get("missing") is None and header.get("missing", 3) == 3


def test_tensors_are_where_the_file_has_them(tmp_path: Path) -> None:
    content = valid()
    header = read_header(write(tmp_path / "a.gguf", content))
    start = content.index(bytes(range(256)))
    found = [(x.name, x.shape, x.type.name, x.offset, x.nbytes) for x in header.tensors.values()]
    assert found == [
        ("token_embd.weight", (4, 8), "F32", start, 128),
        ("blk.0.ffn_up.weight", (2, 64), "Q8_0", start + 128, 136),
        ("output_norm.weight", (8,), "F16", start + 288, 16),
    ]
    assert (header.version, header.alignment, header.data_start) == (3, 32, start)
    assert header.file_bytes == len(content)


@given(st.lists(st.binary(max_size=12), max_size=700), st.integers(0, 1 << 30))
def test_strings_are_read_in_any_order(items: list[bytes], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        content = gguf([pair("a", 9, array(8, len(items), b"".join(map(string, items))))])
        found = read_header(write(Path(folder, "a.gguf"), content)).get("a")
    wanted = [item.decode("utf-8", "surrogateescape") for item in items]
    assert isinstance(found, Strings) and list(found) == wanted and len(found) == len(items)
    assert found[seed % 7 : seed % 900] == wanted[seed % 7 : seed % 900]
    if items:
        at = seed % len(items)
        assert (found[at], found[at - len(items)]) == (wanted[at], wanted[at])
    with pytest.raises(IndexError):
        found[len(items)]


def test_strings_longer_than_the_reading_window(tmp_path: Path) -> None:
    items = ["x" * 5, "y" * (3 * MIB), "z", "é" * MIB]
    content = gguf([pair("a", 9, array(8, 4, b"".join(map(string, items))))])
    assert list(read_header(write(tmp_path / "a.gguf", content)).get("a")) == items


def test_agrees_with_the_gguf_package(tmp_path: Path) -> None:
    package = pytest.importorskip("gguf", reason="the gguf package is not installed")
    writer = package.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_block_count(3)
    writer.add_float32("x.float", 0.1)
    writer.add_bool("x.bool", False)
    writer.add_token_list(["a", "▁b", b"\xe2\x96"])
    writer.add_token_scores([0.5, -1.5, 2.0])
    values = np.arange(96, dtype=np.float32).reshape(3, 32)
    writer.add_tensor("blk.0.attn_q.weight", values)
    kind = package.GGMLQuantizationType.Q8_0
    codes = package.quants.quantize(values, kind)
    writer.add_tensor("blk.0.attn_k.weight", codes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    header = read_header(tmp_path / "a.gguf")
    reader = package.GGUFReader(tmp_path / "a.gguf")
    assert header.get("tokenizer.ggml.scores") == [0.5, -1.5, 2.0]
    assert list(header.get("tokenizer.ggml.tokens")) == ["a", "▁b", "\udce2\udc96"]
    assert header.get("llama.block_count") == 3 and header.get("x.bool") is False
    for theirs in reader.tensors:
        ours = header.tensors[theirs.name]
        assert (ours.offset, ours.nbytes) == (theirs.data_offset, theirs.n_bytes)
        assert ours.type.id == theirs.tensor_type
        assert ours.shape == tuple(theirs.shape[::-1].tolist())


ONE = [tensor("a", (8,), F32, 0)]
HUGE = 1 << 60
DAMAGED = {
    "empty": (b"", "ends within the first word"),
    "no magic": (gguf(magic=b"GGML"), "not a GGUF file"),
    "old version": (gguf(version=1), "version 1"),
    "future version": (gguf(version=4), "version 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "cut off": (valid()[:-220], "would end at byte"),
    "cut off in the header": (valid()[:-540], "ends within"),
    "huge number of keys": (gguf(keys=HUGE), "metadata keys"),
    "huge number of tensors": (gguf(count=HUGE), "tensors"),
    "too many keys": (gguf(keys=1 << 17, data=bytes(4 * MIB)), "metadata keys, more than"),
    "too many tensors": (gguf(count=1 << 17, data=bytes(8 * MIB)), "tensors, more than"),
    "key twice": (gguf([pair("a", 0, b"\1")] * 2), "the key 'a' twice"),
    "key not UTF-8": (gguf([pair(b"\xff", 0, b"\1")]), "not UTF-8"),
    "string not UTF-8": (gguf([pair("a", 8, string(b"\xff"))]), "'a' is not UTF-8"),
    "string of absurd length": (gguf([pair("a", 8, struct.pack("<Q", HUGE))]), "claims 11529"),
    "very long string": (gguf([pair("a", 8, string(b"x" * (17 * MIB)))]), "names and texts"),
    "unknown kind": (gguf([pair("a", 13, bytes(8))]), "unknown kind 13"),
    "unknown kind of item": (gguf([pair("a", 9, array(99, 1, b"\0"))]), "unknown kind 99"),
    "array of arrays": (gguf([pair("a", 9, array(9, 1, b"\0" * 12) * 900)]), "array of arrays"),
    "array of absurd length": (gguf([pair("a", 9, array(0, HUGE, b""))]), "items in 'a'"),
    "array of absurd strings": (gguf([pair("a", 9, array(8, HUGE, b""))]), "items in 'a'"),
    "item of absurd length": (
        gguf([pair("a", 9, array(8, 1, struct.pack("<Q", HUGE)))]),
        "item 0 of 'a' claims",
    ),
    "neither true nor false": (gguf([pair("a", 7, b"\2")]), "neither 0 nor 1"),
    "item neither true nor false": (gguf([pair("a", 9, array(7, 2, b"\1\2"))]), "neither 0 nor 1"),
    "alignment 0": (gguf([pair("general.alignment", 4, bytes(4))]), "general.alignment"),
    "alignment 24": (
        gguf([pair("general.alignment", 4, struct.pack("<I", 24))]),
        "must be a power of two",
    ),
    "alignment of another kind": (
        gguf([pair("general.alignment", 8, string("32"))]),
        "must be a power of two",
    ),
    "tensor twice": (
        gguf(tensors=[*ONE, tensor("a", (8,), F32, 32)], data=bytes(64)),
        "tensor 'a' twice",
    ),
    "no axes": (gguf(tensors=[tensor("a", (), F32, 0)], data=bytes(64)), "0 axes"),
    "many axes": (gguf(tensors=[tensor("a", (1,) * 5, F32, 0)], data=bytes(64)), "5 axes"),
    "absurd axes": (gguf(tensors=[tensor("a", (1,), F32, 0, axes=2**32 - 1)]), "axes"),
    "empty axis": (gguf(tensors=[tensor("a", (0, 4), F32, 0)], data=bytes(64)), "impossible"),
    "product beyond 64 bits": (
        gguf(tensors=[tensor("a", (1 << 32, 1 << 32, 1 << 32), F32, 0)], data=bytes(64)),
        "impossible shape",
    ),
    "unknown type": (gguf(tensors=[tensor("a", (8,), 77, 0)], data=bytes(64)), "type 77"),
    "withdrawn type": (gguf(tensors=[tensor("a", (32,), 4, 0)], data=bytes(64)), "type 4"),
    "rows of half a block": (
        gguf(tensors=[tensor("a", (48,), Q8_0, 0)], data=bytes(64)),
        "not whole blocks of Q8_0",
    ),
    "misaligned": (gguf(tensors=[tensor("a", (8,), F32, 8)], data=bytes(64)), "not aligned to 32"),
    "out of the file": (gguf(tensors=[tensor("a", (8,), F32, 64)], data=bytes(64)), "would end"),
    "offset beyond 64 bits": (
        gguf(tensors=[tensor("a", (8,), F32, 2**64 - 32)], data=bytes(64)),
        "would end at byte",
    ),
    "overlapping": (
        gguf(tensors=[tensor("a", (16,), F32, 0), tensor("b", (8,), F32, 32)], data=bytes(64)),
        "'b' overlaps 'a'",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_with_file_and_byte(case: str, tmp_path: Path) -> None:
    content, told = DAMAGED[case]
    path = write(tmp_path / "a.gguf", content)
    with pytest.raises(InvalidInput) as caught:
        read_header(path)
    (problem,) = caught.value.problems
    assert told in problem.what and problem.where.startswith(f"{path}: byte ")
    assert int(problem.where.rpartition(" ")[2]) <= len(content) and problem.remedy


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing.gguf", tmp_path / "pipe"):
        with pytest.raises(InvalidInput, match=r"is not a file|does not exist"):
            read_header(path)


@given(data=st.data())
@examples(300)
def test_mutations_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(valid())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        width = data.draw(st.sampled_from([1, 4, 8]))
        value = data.draw(st.one_of(st.sampled_from([0, 1, 255, 2**31, 2**63]), st.integers(0)))
        content[at : at + width] = (value % (1 << (8 * width))).to_bytes(width, "little")
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "a.gguf"), bytes(content))
        try:
            header = read_header(path)
        except InvalidInput:
            return
    _require_consistent(header)


def _require_consistent(header: Header) -> None:
    end = header.data_start
    for entry in sorted(header.tensors.values(), key=lambda item: item.offset):
        assert end <= entry.offset
        assert (entry.offset - header.data_start) % header.alignment == 0
        end = entry.offset + entry.nbytes
        assert end <= header.file_bytes
    for key in header.metadata:
        value = header.get(key)
        if isinstance(value, Strings):
            assert len(list(value)) == len(value)


def _many(kind: str) -> bytes:
    count = 1 << 16
    if kind == "keys":
        return gguf([pair(f"key {n}", 0, b"\1") for n in range(count)])
    if kind == "tensors":
        entries = [tensor(f"{n:x}", (1,), F32, n * 32) for n in range(count)]
        return gguf(tensors=entries, data=bytes(32 * count))
    if kind == "strings":
        return gguf([pair("a", 9, array(8, 1 << 17, bytes(8 << 17)))])
    return gguf([pair("a", 9, array(0, 32 * MIB, bytes(32 * MIB)))])


@pytest.mark.parametrize("kind", ["keys", "tensors", "strings", "numbers"])
def test_memory_is_bounded_by_the_file(kind: str, tmp_path: Path) -> None:
    content = _many(kind)
    path = write(tmp_path / "a.gguf", content)
    tracemalloc.start()
    try:
        header = read_header(path)
        value = header.get("a", ())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # What is held as objects is limited in number: 2^16 of about half a KiB.
    assert peak < len(content) + (48 * MIB if kind in ("keys", "tensors") else 3 * MIB)
    assert len(header.metadata) + len(header.tensors) + len(value) >= 1 << 16


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_hostile_claims_are_refused_in_little_memory(tmp_path: Path) -> None:
    names = ["huge number of keys", "array of absurd length", "array of absurd strings"]
    names += ["item of absurd length", "string of absurd length", "product beyond 64 bits"]
    paths = [write(tmp_path / f"{n}.gguf", DAMAGED[name][0]) for n, name in enumerate(names)]
    code = (
        "import pathlib, resource, sys\n"
        "from edgeq.core.errors import InvalidInput\n"
        "from edgeq.formats.gguf.header import read_header\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        read_header(pathlib.Path(path))\n"
        "    except InvalidInput:\n"
        "        print('refused')\n"
    )
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * len(paths), done.stderr
