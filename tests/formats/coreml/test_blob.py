"""Blob storage: bits unpacked, and files of coremltools' own writer read back."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.formats.coreml.executor.blob import BlobFile, unpacked
from edgeq.formats.coreml.executor.types import BY_NAME
from tests.support.coreml_models import coremltools

NARROW = ["int4", "uint1", "uint2", "uint3", "uint4", "uint6"]


@given(st.sampled_from(NARROW), st.data())
def test_every_value_is_found_again_in_a_stream_of_bits(name: str, data: st.DataObject) -> None:
    element = BY_NAME[name]
    low = -8 if name == "int4" else 0
    high = low + (1 << element.bits) - 1
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=40))
    # One long number whose lowest bits are the first value, cut into bytes from its lowest end.
    stream = sum((v % (1 << element.bits)) << (i * element.bits) for i, v in enumerate(values))
    length = -(-len(values) * element.bits // 8)
    packed = np.frombuffer(stream.to_bytes(length, "little"), np.uint8)
    assert unpacked(packed, element, len(values)).tolist() == values


def written(path: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """A weight file with one blob of each kind, by coremltools: offsets and values by type."""
    coremltools()
    from coremltools.libmilstoragepython import _BlobStorageWriter

    writer = _BlobStorageWriter(str(path))
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {"int4": rng.integers(-8, 8, 37).astype(np.int8)}
    for bits in (1, 2, 3, 4, 6):
        values[f"uint{bits}"] = rng.integers(0, 1 << bits, 37).astype(np.uint8)
    for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32"):
        values[name] = rng.integers(0, 100, 37).astype(name)
    values["fp32"] = rng.normal(size=37).astype(np.float32)
    offsets = {
        name: getattr(writer, f"write_{'float' if name == 'fp32' else name}_data")(array)
        for name, array in values.items()
    }
    values["fp16"] = rng.normal(size=37).astype(np.float16)
    offsets["fp16"] = writer.write_fp16_data(values["fp16"].view(np.uint16))
    del writer
    return offsets, values


def test_a_file_of_coremltools_reads_back_value_for_value(tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    offsets, values = written(path)
    blobs = BlobFile(path)
    assert blobs.count == len(values)
    for name, array in values.items():
        np.testing.assert_array_equal(blobs.read(offsets[name], BY_NAME[name], 37), array, name)


def test_what_the_program_claims_must_be_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    offsets, _ = written(path)
    blobs = BlobFile(path)
    with pytest.raises(InvalidInput, match="is int4, the program says uint4"):
        blobs.read(offsets["int4"], BY_NAME["uint4"], 37)
    with pytest.raises(InvalidInput, match="has 19 bytes, 39 values of int4 take 20"):
        blobs.read(offsets["int4"], BY_NAME["int4"], 39)
    with pytest.raises(InvalidInput, match="no metadata record can start at byte 65"):
        blobs.find(65)
    with pytest.raises(InvalidInput, match="no metadata record can start"):
        blobs.find(1 << 40)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, 0, "sentinel is missing"),
        (4, 99, "unknown type 99"),
        (8, 1 << 40, "outside of the file"),
        (16, 1 << 40, "outside of the file"),
        (16, 65, "outside of the file"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, at: int, value: int, said: str) -> None:
    path = tmp_path / "weight.bin"
    offsets, _ = written(path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I" if at < 8 else "<Q", data, offsets["int8"] + at, value)
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=said):
        BlobFile(path).read(offsets["int8"], BY_NAME["int8"], 37)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    with pytest.raises(InvalidInput, match="cannot be read"):
        BlobFile(path)
    path.write_bytes(b"short")
    with pytest.raises(InvalidInput, match="too short"):
        BlobFile(path)
    path.write_bytes(bytes([1, 0, 0, 0, 1, 0, 0, 0]) + bytes(56))
    with pytest.raises(InvalidInput, match="version 1; only version 2"):
        BlobFile(path)
