"""What one reading of a config.json misses, another finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the build side is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.models.architectures import decoder_of
from edgeq.models.rope import Rope
from edgeq.models.second_reading import require_second_reading
from tests.support import tiny_decoders


@pytest.mark.parametrize("family", tiny_decoders.FAMILIES)
def test_both_readings_of_every_family_agree(family: str) -> None:
    config = json.loads(tiny_decoders.configuration(family).to_json_string(use_diff=False))
    require_second_reading(config, decoder_of(config, "config.json"), "config.json")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rope": Rope("default", 5e5, 64)}, "rope_type is llama3"),
        ({"rope": Rope("llama3", 1e4, 64)}, "rope_theta is 500000.0"),
        ({"norm_eps": 1e-5}, "rms_norm_eps"),
        ({"kv_heads": 4}, "num_key_value_heads is 2"),
        ({"head_dim": 32}, "head_dim is 64"),
    ],
)
def test_a_value_that_was_read_otherwise_is_refused(wrong: dict[str, Any], said: str) -> None:
    config = json.loads(tiny_decoders.configuration("llama3").to_json_string(use_diff=False))
    decoder = replace(decoder_of(config, "config.json"), **wrong)
    with pytest.raises(InvalidInput, match=said):
        require_second_reading(config, decoder, "config.json")
    nested = {name: config[name] for name in config if name not in ("rope_theta", "rope_scaling")}
    nested["rope_parameters"] = {"rope_theta": config["rope_theta"], **config["rope_scaling"]}
    with pytest.raises(InvalidInput, match=said):
        require_second_reading(nested, decoder, str(Path("config.json")))
