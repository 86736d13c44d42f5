"""What a plan says of a device's compute units: from its profile, and only what counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeq.devices.catalogue import Device, load_device
from edgeq.devices.compute_unit_hints import advice_for
from edgeq.devices.compute_units import ALLOWED, UNIT_NAMES
from edgeq.formats.coreml.deployment_targets import TARGETS, needs_os
from edgeq.quantize.presets import portable_formats

SHIPPED = sorted(p.stem for p in (Path(__file__).parents[2] / "devices").glob("*.yaml"))
APPLE = [name for name in SHIPPED if load_device(name).os in ("ios", "macos")]
NUMBER_FORMATS = [each.name for each in portable_formats()]


def changed(name: str, **changes: Any) -> Device:
    return Device.model_validate({**dict(load_device(name)), **changes})


@pytest.mark.parametrize("name", APPLE)
def test_a_suited_format_is_one_that_the_release_runs(name: str) -> None:
    device = load_device(name)
    release = int(device.os_version.split(".")[0])
    assert device.compute_units == "all"
    for unit in ("gpu", "npu"):
        for number_format in set(device.suits[unit]) - {"int8-activations"}:
            target = needs_os(number_format)
            assert release >= (target.macos if device.os == "macos" else target.ios)
    assert "float32" not in device.suits["npu"]


def test_chips_with_fast_int8_activations_are_told_apart() -> None:
    fast = {name for name in APPLE if "int8-activations" in load_device(name).suits["npu"]}
    assert fast == {
        "iphone-15-pro",
        "iphone-15-pro-ios27",
        "macbook-air-m4",
        "macbook-air-m4-macos27",
    }


def test_a_device_before_blocks_and_states_is_there() -> None:
    older = [name for name in APPLE if load_device(name).os_version < "18"]
    assert "iphone-13" in older
    assert int(load_device("iphone-13").os_version) < TARGETS["iOS18"].ios


@pytest.mark.parametrize("name", APPLE)
@pytest.mark.parametrize("number_format", NUMBER_FORMATS)
@pytest.mark.parametrize("units", ALLOWED)
def test_every_unit_named_may_be_used_and_every_number_format_suits_it(
    name: str, number_format: str, units: Any
) -> None:
    device = changed(name, compute_units=units)
    (line,) = advice_for({number_format: 100}, device, "float16")
    assert line.startswith(f"{name}: {number_format} suits ")
    assert device.compute_units is not None
    head, *others = line.split("; ")
    for unit, words in UNIT_NAMES.items():
        suits = unit in ALLOWED[device.compute_units] and number_format in device.suits.get(
            unit, ()
        )
        assert (words in head) == suits
        for other in others:
            if other.startswith(f"on {words}, rather "):
                assert not suits and unit in ALLOWED[device.compute_units]
                better = other.split(", rather ")[1].split(" or ")
                assert better and set(better) <= set(device.suits[unit])


def test_blocks_suit_the_gpu_and_the_neural_engine_gets_another_word() -> None:
    assert advice_for({"int4-b32": 99, "float16": 1}, load_device("iphone-14"), "float16") == [
        "iphone-14: int4-b32 suits the GPU; on the Neural Engine, rather palette4 or int8"
    ]


def test_operators_in_float32_leave_the_neural_engine() -> None:
    phone = load_device("iphone-14")
    assert advice_for({"int8": 1}, phone, "float32")[-1] == (
        "iphone-14: operators in float32 do not run on the Neural Engine"
    )
    kept = advice_for({"int8": 1}, phone, "float16", ["*.softmax"])[-1]
    assert kept == "iphone-14: operators kept in float32 (*.softmax) leave the Neural Engine"
    assert (
        len(advice_for({"int8": 1}, changed("iphone-14", compute_units="cpu_and_gpu"), "float32"))
        == 1
    )


def test_a_device_without_facts_gets_no_advice() -> None:
    assert advice_for({"int8": 1}, load_device("pixel-8"), "float32") == []
