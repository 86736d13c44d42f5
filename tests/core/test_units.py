"""Quantities: exact, with a unit, refused without one, and unchanged by a trip through JSON."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeq.core.artifact import Frozen
from edgeq.core.units import (
    GIB,
    MIB,
    Bytes,
    BytesPerSecond,
    Fraction,
    Seconds,
    format_bytes,
    format_seconds,
)


class Sample(Frozen):
    size: Bytes = 1
    rate: BytesPerSecond = 1
    time: Seconds = 1.0
    share: Fraction = 0.5


def read(**values: object) -> Sample:
    return Sample.model_validate_json(json.dumps(values), strict=True)


def error_of(**values: object) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        read(**values)
    (error,) = caught.value.errors()
    return error["ctx"]["what"], error["ctx"]["remedy"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200 MiB", 200 * MIB),
        ("1.5GiB", 3 * GIB // 2),
        ("40 MB", 40_000_000),
        (" 512 B ", 512),
        ("2e3 kB", 2_000_000),
    ],
)
def test_sizes_are_exact(text: str, size: int) -> None:
    assert read(size=text).size == size


def test_times_rates_and_shares() -> None:
    sample = read(time="40 ms", rate="17.1 GB/s", share="99 %")
    assert (sample.time, sample.rate, sample.share) == (0.04, 17_100_000_000, 0.99)
    assert read(time="1 min").time == 60
    assert read(share=0.25).share == 0.25


@pytest.mark.parametrize("number", [40, 40.5, "40"])
def test_a_number_without_unit_is_refused_with_the_unit_it_may_have_meant(number: object) -> None:
    assert error_of(time=number) == (f"'{number}' has no unit", f"write e.g. '{number} ms'")
    assert error_of(size=number)[1] == f"write e.g. '{number} MiB'"


def test_a_wrong_unit_names_the_nearest() -> None:
    assert error_of(size="30 mib") == ("'mib' is not a known unit", "did you mean 'MiB'?")
    assert "valid here: us" in error_of(time="3 weeks")[1]


@pytest.mark.parametrize("value", ["0 MiB", "-3 MiB", "MiB", "", "nan MiB", True, None, [], {}])
def test_what_is_no_size_is_refused(value: object) -> None:
    what, remedy = error_of(size=value)
    assert what
    assert "MiB" in remedy


@pytest.mark.parametrize("value", [1.01, -0.1, "101 %", "half", True, None])
def test_what_is_no_share_is_refused(value: object) -> None:
    assert "0 to 1" in error_of(share=value)[0]


@given(
    size=st.integers(1, 1 << 60),
    rate=st.integers(1, 1 << 50),
    time=st.floats(1e-9, 1e9),
    share=st.floats(0, 1),
)
def test_json_keeps_every_quantity(size: int, rate: int, time: float, share: float) -> None:
    sample = Sample(size=size, rate=rate, time=time, share=share)
    assert Sample.model_validate_json(sample.model_dump_json(), strict=True) == sample


@given(size=st.integers(1, 1 << 60), time=st.floats(1e-9, 1e9))
def test_the_schema_allows_what_is_written(size: int, time: float) -> None:
    properties = Sample.model_json_schema()["properties"]
    written = json.loads(Sample(size=size, time=time).model_dump_json())
    for name in ("size", "time"):
        assert re.search(properties[name]["pattern"], written[name])
        assert all(
            re.search(properties[name]["pattern"], text) for text in properties[name]["examples"]
        )


def test_readers_see_mib_and_ms() -> None:
    assert format_bytes(200 * MIB) == "200.0 MiB"
    assert format_bytes(-MIB // 2) == "-0.5 MiB"
    assert format_bytes(0) == "0.0 MiB"
    assert format_seconds(1.5) == "1500.0 ms"


@given(st.floats(1e-9, 1e6))
def test_a_printed_quantity_is_within_a_twentieth_and_never_nothing(seconds: float) -> None:
    shown = float(format_seconds(seconds).split()[0]) / 1000
    assert abs(shown - seconds) <= seconds / 20
