"""Codes come back from a file as they went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.quantize.codes import load_codes, save_codes
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.integers import INTEGERS
from tests.support.properties import examples

NUMBER_FORMATS = {each.name: each for each in INTEGERS}
NAMES = st.sampled_from(sorted(NUMBER_FORMATS))
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 70))


def tensor(name: str, shape: tuple[int, int], seed: int) -> QuantizedTensor:
    """Any codes and scales that the number format can hold."""
    number_format = NUMBER_FORMATS[name]
    rng = np.random.default_rng(seed)
    codes = rng.integers(number_format.lowest, number_format.highest + 1, shape).astype(np.int8)
    scales = number_format.storable(rng.standard_normal((shape[0], number_format.groups(shape[1]))))
    return QuantizedTensor(number_format, codes, scales, "gptq" if seed % 2 else "nearest")


def same(left: QuantizedTensor, right: QuantizedTensor) -> bool:
    arrays = ((left.codes, right.codes), (left.scales, right.scales))
    equal = all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)
    return equal and left.number_format is right.number_format and left.method == right.method


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), NAMES, max_size=4
    ),
    shape=SHAPES,
    seed=st.integers(0, 99),
)
def test_what_was_saved_is_loaded(
    tmp_path: Path, kinds: dict[str, str], shape: tuple[int, int], seed: int
) -> None:
    codes = {
        name: tensor(number_format, shape, seed + n)
        for n, (name, number_format) in enumerate(kinds.items())
    }
    save_codes(tmp_path / "codes.npz", codes)
    found = load_codes(tmp_path / "codes.npz")
    assert list(found) == list(codes)
    assert all(same(found[name], codes[name]) for name in codes)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npz"]


def test_equal_codes_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_codes(tmp_path / name, {"w": tensor("int4-b32", (3, 40), 1)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_damaged_files_are_refused_by_name(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "codes.npz"
    save_codes(path, {"w": tensor("int8-b32", (3, 40), 1)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidInput) as error:
        load_codes(path)
    assert error.value.problems[0].where == str(path)


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "codes.npz"
    np.savez(
        path,
        names=np.array(["w"]),
        number_formats=np.array(["int5"]),
        methods=np.array(["nearest"]),
    )
    with pytest.raises(InvalidInput, match="int5"):
        load_codes(path)
