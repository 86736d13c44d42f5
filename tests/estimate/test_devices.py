"""Estimates for device profiles: what their facts allow, and what they do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeq.core.store import Store
from edgeq.devices.catalogue import list_devices, load_device
from edgeq.devices.profile import Device
from edgeq.estimate.bandwidth import bandwidth_here, memory_bandwidth
from edgeq.estimate.calibrate import Measured
from edgeq.estimate.contents import Contents
from edgeq.estimate.devices import best_backend, estimate_for, runner_backend
from edgeq.estimate.interval import Interval
from edgeq.estimate.sizes import sizes_of_config
from edgeq.estimate.variants import variants
from tests.estimate.test_memory import WREN

BERT = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "vocab_size": 30522,
}


def decoder(label: str) -> Contents:
    config = json.loads((WREN / "config.json").read_text())
    sizes = sizes_of_config(config, "config.json")
    made = variants(sizes, config, ("gguf", "onnx"), 250_000, "text-generation")
    return next(contents for contents in made if contents.label == label)


def encoder(label: str) -> Contents:
    made = variants(
        sizes_of_config(BERT, "config.json"), BERT, ("onnx",), 450_000, "sentence-embedding"
    )
    return next(contents for contents in made if contents.label == label)


def decode_speed_on(
    contents: Contents, device: Device, measured: Sequence[Measured] = ()
) -> Interval:
    found = estimate_for(contents, device, context=512, measured=measured).decode
    assert found is not None
    return found


def test_every_profile_gets_what_its_facts_allow() -> None:
    for device in list_devices():
        told = estimate_for(decoder("Q4_K_M"), device, context=512)
        assert told.memory.peak.value > 0
        speeds = (told.decode, told.prompt, told.first_token)
        if device.memory_bandwidth is None:
            assert speeds == (None, None, None)
            assert "bandwidth" in told.unknown
        else:
            assert all(speed and speed.low < speed.value < speed.high for speed in speeds)
            assert told.unknown == ""
        latency = estimate_for(encoder("int8-dynamic"), device, context=2).latency
        assert latency is not None
        assert 1e-4 < latency.low < latency.value < latency.high < 10


def test_a_core_without_dot_products_is_known_to_be_slow() -> None:
    pi4, pi5 = load_device("pi4-4gb"), load_device("pi5-8gb")
    assert runner_backend(pi4) == "CPU (no dotprod)"
    slow, fast = (decode_speed_on(decoder("Q4_K_M"), d) for d in (pi4, pi5))
    assert slow.value < fast.value / 2
    for label in ("float32", "int8-dynamic"):
        old, new = (estimate_for(encoder(label), d, context=2).latency for d in (pi4, pi5))
        assert old is not None and new is not None
        assert old.value > 1.5 * new.value


def test_an_app_uses_the_gpu_of_apples_chips_where_its_format_can() -> None:
    mac, laptop = load_device("macbook-air-m2"), load_device("x86-laptop-8gb")
    assert (best_backend(mac, "gguf"), best_backend(mac, "onnx")) == ("Metal", "CPU")
    assert best_backend(laptop, "gguf") == runner_backend(laptop) == "CPU"


def test_figures_of_the_device_itself_count() -> None:
    device = load_device("x86-laptop-8gb")
    model = decoder("Q8_0")
    plain = decode_speed_on(model, device)
    size = model.bytes_per_token
    seen = [
        Measured(size, "Q8_0", plain.value / 2),
        Measured(size / 2, "Q4_K_M", plain.value * 0.7),
    ]
    told = decode_speed_on(model, device, seen)
    assert told.value == pytest.approx(plain.value / 2, rel=0.15)
    assert told.high / told.low < plain.high / plain.low
    assert "measured on this device" in told.basis


def test_another_runtime_than_the_figures_were_of_is_less_certain() -> None:
    device = load_device("pi5-8gb")
    gguf, onnx = (decode_speed_on(decoder(label), device) for label in ("Q8_0", "int8-b32"))
    assert onnx.high / onnx.low > gguf.high / gguf.low


def test_the_bandwidth_here_is_one_that_memories_have() -> None:
    assert 5e8 < memory_bandwidth() < 5e12


def test_a_store_remembers_the_bandwidth(tmp_path: Path) -> None:
    first, again = (bandwidth_here(Store(tmp_path)) for _ in range(2))
    assert first == again
