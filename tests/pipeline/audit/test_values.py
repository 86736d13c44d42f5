"""Values of weights that no model has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

import gguf

from edgeq.formats.gguf.header import TensorEntry
from edgeq.pipeline.audit.run import audit
from edgeq.pipeline.audit.values import _FLOATS, _SCALES, look
from edgeq.quantize.ggml.types import TYPES
from tests.support.audited import changed


def entry_of(path: Path, type: str, blocks: np.ndarray) -> TensorEntry:
    """A file of nothing but blocks, and a tensor that is them."""
    path.write_bytes(blocks.tobytes())
    shape = (len(blocks), TYPES[type].block)
    return TensorEntry("t", shape, TYPES[type], 0, blocks.nbytes, path)


READABLE = (*_SCALES, *_FLOATS, "BF16", "IQ1_M")
SCALED = [kind.name for kind in gguf.GGMLQuantizationType if kind.name in READABLE]


@pytest.mark.parametrize("name", SCALED)
def test_scales_are_where_they_are_looked_for(tmp_path: Path, name: str) -> None:
    """Against the gguf package's dequantizer, on blocks of random bytes and on quantized zeros."""
    type = TYPES[name]
    kind = gguf.GGMLQuantizationType[name]
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (4000, type.block_bytes)).astype(np.uint8)
    with np.errstate(all="ignore"):
        try:
            values = gguf.quants.dequantize(blocks, kind)
        except NotImplementedError:
            pytest.skip(f"the gguf package cannot read {name}")
    seen = look(tmp_path / "t", entry_of(tmp_path / "t", name, blocks))
    broken = ~np.isfinite(values).all(1)
    assert seen.not_finite == broken.sum()
    assert broken.any()  # so there was something to find
    assert (
        seen.problem
        == f"{broken.sum()} {'weights' if type.block == 1 else 'blocks'} are NaN or infinite"
    )
    nothing = np.zeros((8, type.block_bytes), np.uint8)
    seen = look(tmp_path / "t", entry_of(tmp_path / "t", name, nothing))
    assert seen.problem == "all its weights are zero"


def test_scales_that_are_powers_of_two(tmp_path: Path) -> None:
    """MXFP4 has no zero scale, and one that is no number (OCP Microscaling, E8M0)."""
    blocks = np.full((100, 17), 120, np.uint8)
    assert look(tmp_path / "t", entry_of(tmp_path / "t", "MXFP4", blocks)).problem is None
    blocks[7, 0] = 255
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "MXFP4", blocks)).problem
    assert found == "1 block is NaN or infinite"


def test_a_ratio_of_scales_is_told_whole(tmp_path: Path) -> None:
    blocks = np.full((100, 17), 20, np.uint8)  # MXFP4: 2^-107
    blocks[7, 0] = 127
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "MXFP4", blocks)).problem
    assert found == "its largest scale is over 2^107 times the median one"


def test_scales_that_cannot_be(tmp_path: Path) -> None:
    scales = np.full(5000, 0.01, "<f2")
    blocks = np.zeros((5000, 18), np.uint8)
    blocks[:, :2] = scales.view(np.uint8).reshape(-1, 2)
    assert look(tmp_path / "t", entry_of(tmp_path / "t", "Q4_0", blocks)).problem is None
    blocks[7, :2] = np.array([1000.0], "<f2").view(np.uint8)
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "Q4_0", blocks)).problem
    assert found is not None and "times the median" in found
    floats = np.ones((40, 4), np.uint8)
    floats[3] = np.array([1e6], "<f4").view(np.uint8)
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "F32", floats)).problem
    assert found is not None and "beyond the range of float16" in found


def test_broken_weights_matter(good: Path, tmp_path: Path) -> None:
    def nan(own: bytes) -> bytes:
        return own[: 144 * 100] + np.array([np.nan], "<f2").tobytes() + own[144 * 100 + 2 :]

    data = {
        "blk.2.ffn_up.weight": nan,
        "blk.1.attn_k.weight": lambda own: bytes(len(own)),
        "blk.0.attn_norm.weight": lambda own: bytes(len(own)),
    }
    path = changed(good, tmp_path / "m-Q4_K_M.gguf", data=data)
    found = audit(path)
    assert not found.sound
    said = {finding.what: finding.matters for finding in found.findings}
    assert said["blk.2.ffn_up.weight (Q4_K): 1 block is NaN or infinite"]
    assert said["blk.1.attn_k.weight (Q4_K): all its weights are zero"]
    assert not said["blk.0.attn_norm.weight (F32): all its weights are zero"]
    # Rounding activations to 8 bits swallows a NaN: predictions alone would not have shown it.
    assert found.loading.passed
