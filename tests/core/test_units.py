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
    TokensPerSecond,
    exact_bytes,
    format_bytes,
    format_seconds,
    format_speed,
)


class Sample(Frozen):
    size: Bytes = 1
    rate: BytesPerSecond = 1
    time: Seconds = 1.0
    speed: TokensPerSecond = 1.0
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


def test_times_rates_and_speeds() -> None:
    sample = read(time="40 ms", rate="17.1 GB/s", speed="20 tok/s")
    assert (sample.time, sample.rate, sample.speed) == (0.04, 17_100_000_000, 20)
    assert [read(time=f"3 {unit}").time for unit in ("us", "µs", "s", "min")] == [
        3e-6,
        3e-6,
        3,
        180,
    ]
    assert read(speed="2.5 tokens/s").speed == 2.5


@pytest.mark.parametrize(
    ("value", "share"),
    [("99 %", 0.99), ("0.99", 0.99), (0.25, 0.25), (0, 0), (1, 1), ("100 %", 1), ("1", 1)],
)
def test_shares(value: object, share: float) -> None:
    assert read(share=value).share == share


@pytest.mark.parametrize("number", [40, 40.5, "40"])
def test_a_number_without_unit_is_refused_with_the_unit_it_may_have_meant(number: object) -> None:
    assert error_of(time=number) == (f"'{number}' has no unit", f"write e.g. '{number} ms'")
    assert error_of(size=number)[1] == f"write e.g. '{number} MiB'"
    assert error_of(rate=number)[1] == f"write e.g. '{number} GB/s'"
    assert error_of(speed=number)[1] == f"write e.g. '{number} tok/s'"


def test_a_wrong_unit_names_the_nearest() -> None:
    assert error_of(size="30 mib") == ("'mib' is not a known unit", "did you mean 'MiB'?")
    assert "valid here: us" in error_of(time="3 weeks")[1]


@pytest.mark.parametrize("value", ["0 MiB", "-3 MiB", "MiB", "", "nan MiB", True, None, [], {}])
def test_what_is_no_size_is_refused(value: object) -> None:
    what, remedy = error_of(size=value)
    reason = "must be more than zero" if value == "0 MiB" else "is not a quantity with a unit"
    assert what == (f"{value!r} {reason}" if isinstance(value, str) else reason)
    assert remedy == "write e.g. '200 MiB'"


def test_less_than_a_byte_is_refused() -> None:
    assert error_of(size="0.9 B") == ("'0.9 B' must be at least one byte", "write e.g. '200 MiB'")
    assert read(size="1.9 B").size == 1


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
def test_numbers_from_code_are_finite_and_more_than_zero(value: float) -> None:
    for name, example in (("size", "200 MiB"), ("time", "40 ms")):
        with pytest.raises(ValidationError) as caught:
            Sample.model_validate({name: value})
        (error,) = caught.value.errors()
        said = (error["ctx"]["what"], error["ctx"]["remedy"])
        assert said == (f"{value} must be more than zero", f"write e.g. '{example}'")
    assert Sample.model_validate({"time": 0.25}).time == 0.25


@pytest.mark.parametrize("value", [1.01, -0.1, "101 %", "half", True, None])
def test_what_is_no_share_is_refused(value: object) -> None:
    what, remedy = error_of(share=value)
    assert what == f"{str(value)!r} is not a share from 0 to 1"
    assert remedy == "write e.g. '0.99' or '99 %'"


@given(
    size=st.integers(1, 1 << 60),
    rate=st.integers(1, 1 << 50),
    time=st.floats(1e-9, 1e9),
    speed=st.floats(1e-3, 1e6),
    share=st.floats(0, 1),
)
def test_json_keeps_every_quantity(
    size: int, rate: int, time: float, speed: float, share: float
) -> None:
    sample = Sample(size=size, rate=rate, time=time, speed=speed, share=share)
    assert Sample.model_validate_json(sample.model_dump_json(), strict=True) == sample


@given(size=st.integers(1, 1 << 60), time=st.floats(1e-9, 1e9))
def test_the_schema_allows_what_is_written(size: int, time: float) -> None:
    properties = Sample.model_json_schema()["properties"]
    written = json.loads(Sample(size=size, rate=size, time=time, speed=time).model_dump_json())
    for name in ("size", "rate", "time", "speed"):
        pattern, examples = properties[name]["pattern"], properties[name]["examples"]
        assert examples and all(re.search(pattern, text) for text in [written[name], *examples])
        assert not any(re.search(pattern, text) for text in ("40", "40 weeks", f"{examples[0]}x"))


@pytest.mark.parametrize(
    ("size", "text"),
    [(GIB, "1 GiB"), (3 * GIB // 2, "1536 MiB"), (200 * MIB, "200 MiB"), (1536, "1536 B")],
)
def test_a_size_is_written_in_the_largest_unit_that_divides_it(size: int, text: str) -> None:
    assert exact_bytes(size) == text


def test_readers_see_mib_and_ms() -> None:
    assert format_bytes(200 * MIB) == "200.0 MiB"
    assert format_bytes(-MIB // 2) == "-0.5 MiB"
    assert format_bytes(0) == "0.0 MiB"
    assert format_bytes(MIB) == "1.0 MiB"
    assert format_seconds(1.5) == "1500.0 ms"
    assert format_seconds(0.0000251) == "0.025 ms"
    speeds = {51.64: "51.6 tok/s", 20: "20 tok/s", 99.96: "100 tok/s", 100.4: "100 tok/s"}
    assert {speed: format_speed(speed) for speed in speeds} == speeds


@given(st.floats(1e-9, 1e6))
def test_a_printed_quantity_is_within_a_twentieth_and_never_nothing(seconds: float) -> None:
    shown = float(format_seconds(seconds).split()[0]) / 1000
    assert abs(shown - seconds) <= seconds / 20
