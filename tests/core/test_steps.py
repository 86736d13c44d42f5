"""Finished steps of a stage: found as they were written, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.core.steps import Steps


def write(steps: Steps, name: str, content: bytes) -> Path:
    with steps.writing(name) as partial:
        partial.write_bytes(content)
    found = steps.find(name)
    assert found is not None
    return found


def test_a_step_is_found_under_its_own_name_alone(tmp_path: Path) -> None:
    steps = Steps(tmp_path / "codes.steps")
    assert steps.find("0.npz") is None
    write(steps, "table-0.npz", b"table")
    assert steps.find("0.npz") is None
    assert write(steps, "0.npz", b"layer").read_bytes() == b"layer"
    assert steps.below("whole-0").find("0.npz") is None
    assert write(steps.below("whole-0"), "0.npz", b"other").read_bytes() == b"other"
    assert write(steps, "0.npz", b"layer").read_bytes() == b"layer"


def test_a_later_one_takes_the_place_of_an_earlier(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    write(steps, "checkpoint.pt", b"step 1")
    assert write(steps, "checkpoint.pt", b"step 2").read_bytes() == b"step 2"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("left", [b"", b"lay", bytes(5), b"layer."])
def test_what_a_power_cut_left_is_removed(tmp_path: Path, left: bytes) -> None:
    steps = Steps(tmp_path)
    write(steps, "0.npz", b"layer").write_bytes(left)
    assert steps.find("0.npz") is None
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    write(steps, "0.npz", b"layer")
    with pytest.raises(ZeroDivisionError), steps.writing("0.npz") as partial:
        partial.write_bytes(b"half")
        raise ZeroDivisionError
    found = steps.find("0.npz")
    assert found is not None and found.read_bytes() == b"layer"
