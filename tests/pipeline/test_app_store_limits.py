"""Sizes and memory against stores and devices: which limits there are, and what is said of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.artifact import Artifact, FileRecord, ModelRecord
from edgeq.core.units import format_bytes
from edgeq.devices.catalogue import load_device
from edgeq.pipeline.bundle.app_store_limits import STORE_LIMITS, memory_lines, sized, store_lines
from tests.support import verdicts

MIB = 1 << 20
PHONE, ANDROID = load_device("iphone-14"), load_device("pixel-8")


def artifact(size: int, weights: int) -> Artifact:
    return Artifact(
        name="coreml-int8",
        format="coreml",
        variant="int8",
        task="text-generation",
        model=ModelRecord(source="model", sha256="0" * 64),
        inputs=(),
        outputs=(),
        weight_bytes=weights,
        tensors={},
        files={"model.mlpackage/Manifest.json": FileRecord(bytes=size, sha256="0" * 64)},
        tools={},
    )


BOUNDS = [limit.bytes + by for limit in STORE_LIMITS for by in (-1, 0, 1)]


@given(st.integers(0, 6 * 10**9) | st.sampled_from(BOUNDS))
def test_a_size_is_within_what_it_is_below(size: int) -> None:
    for device, system in ((PHONE, "ios"), (ANDROID, "android")):
        lines = store_lines(size, device)
        known = {limit.id: limit for limit in STORE_LIMITS if limit.system == system}
        assert {line.limit for line in lines} == set(known)
        for line in lines:
            assert line.within == (size < known[line.limit].bytes)
            assert ("not below" in line.text) == (not line.within)
            assert format_bytes(size) in line.text
            assert known[line.limit].written in line.text
            assert line.url and line.url.startswith("https://")


def test_there_are_no_stores_for_a_board() -> None:
    assert store_lines(10**12, load_device("pi5-8gb")) == ()


def test_what_the_app_store_asks_about_is_said() -> None:
    lines = {line.limit: line for line in store_lines(int(12.7 * MIB), load_device("iphone-14"))}
    assert lines["app-store.cellular"].text.startswith("adds 12.7 MiB: below the 200 MB (190.7 MiB")
    assert "cellular network" in lines["app-store.cellular"].text
    assert "178.0 MiB are left" in lines["app-store.cellular"].text


def test_memory_is_held_against_both_limits() -> None:
    phone = load_device("iphone-15-pro")
    between = (phone.app_limit().bytes + phone.app_limit("increased-memory-limit").bytes) // 2
    none, granted = memory_lines(between, "measured", phone)
    assert (none.limit, granted.limit) == ("app-memory.none", "app-memory.increased-memory-limit")
    assert (none.within, granted.within) == (False, True)
    assert "with the entitlement increased-memory-limit" in granted.text
    assert none.limit_bytes == phone.app_limit().bytes
    assert none.text.startswith(f"needs {format_bytes(between)} (measured): not below")


def test_memory_that_was_not_seen_is_called_estimated() -> None:
    lines = sized(artifact(20 * MIB, 12 * MIB), load_device("iphone-15-pro"), cache_bytes=3 * MIB)
    stores, memory = lines[:2], lines[2:]
    assert {(line.bytes, line.how) for line in stores} == {(20 * MIB, "measured")}
    assert {(line.bytes, line.how) for line in memory} == {(15 * MIB, "estimated")}
    assert all("estimated" in line.text for line in memory)


@pytest.mark.parametrize("name", ["here", "iphone-14"])
def test_memory_of_a_verdict_counts_on_its_own_device(name: str) -> None:
    verdict = verdicts.verdict({})
    line = verdicts.line(verdict, "device.memory")
    assert (line.how, verdict.device) == ("measured", "here")
    found = sized(artifact(1, 7), load_device(name), verdict)[-1]
    seen = (line.value, line.how) if name == "here" else (7, "estimated")
    assert (found.bytes, found.how) == seen


def test_memory_that_no_pass_saw_is_estimated() -> None:
    board = load_device("pi5-8gb")
    verdict = verdicts.verdict({}, device=board)
    assert verdicts.line(verdict, "device.memory").value is None
    assert sized(artifact(1, 7), board, verdict)[-1].how == "estimated"
