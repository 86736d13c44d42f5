"""What a plan says of a budget before anything is measured: sizes, and what to expect."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
pytest.importorskip("scipy", reason="the extra [fit] is not installed")

from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.formats.registry import file_format
from edgeq.models.architectures import decoder_of
from edgeq.models.architectures.convolution import Convolution
from edgeq.pipeline.allocate.bounds import Site, sizes_of
from edgeq.pipeline.allocate.options import allowed, find_options, intent_of
from edgeq.pipeline.allocate.prospects import _last, foretold
from edgeq.pipeline.check.expected import expected_everywhere
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.quantize.presets import PRESETS
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format
from edgeq.report.console import Console
from edgeq.report.expectations import print_expected
from edgeq.report.overview import print_plan

ROOT = Path(__file__).parents[2]
RECIPE = """
edgeq: 1
name: wren
model: {{source: {model}, task: text-generation}}
data: {{calibration: {{path: {model}/../data/wren-calibration.txt}}}}
quantize: {{fit: [{fits}]}}
targets:
  - {{format: gguf, devices: [pi5-8gb, iphone-14]}}
  - {{format: onnx, devices: [pi5-8gb]}}
budgets: {{size: {{download: 3 MiB}}}}
"""


def planned(folder: Path, *fits: str) -> Planned:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(model=ROOT / "recipes" / "wren", fits=", ".join(fits)))
    return foretold(make_plan(path))


def shown(made: Planned) -> str:
    file = io.StringIO()
    console = Console(file=file, width=200)
    print_plan(made.plan, list(made.devices.values()), console)
    print_expected(expected_everywhere(made), made.devices, console)
    return file.getvalue()


def test_a_budget_that_waits_lies_between_what_it_can_become(tmp_path: Path) -> None:
    sizes = (4.2, 5.5, 40)
    made = planned(tmp_path, *(f"{{size: {size} MiB}}" for size in sizes))
    text = shown(made)
    formats: tuple[Format, ...] = ("gguf", "onnx")
    for format in formats:
        least, most = sizes_of(made, format)
        own = [a for a in made.plan.artifacts if a.format == format]
        for artifact, size in zip(own, sizes, strict=True):
            assert artifact.pending
            assert artifact.smallest_bytes == least
            bound = min(size * (1 << 20), most)
            # A step that does not fit any more is smaller than the widest of the tensors.
            assert 0.9 * bound < artifact.download_bytes <= bound
            assert (size * (1 << 20) > most) == (
                "more than this model can use" in str(artifact.advice)
            )
            assert f"{artifact.name}: {least / (1 << 20):.1f} MiB to " in text
    assert "over size.download" in text
    rows = [line for line in text.splitlines() if line.startswith(("pi5-8gb", "iphone-14"))]
    assert len(rows) == 2 + 3 * 3  # each device's own limits, then a row for each artifact on it
    assert "number formats not chosen yet" in text and "(estimated" in text


def test_estimates_of_a_quality_span_all_it_can_become(tmp_path: Path) -> None:
    made = planned(tmp_path, "{quality: {kl: 0.02}}", "{size: 40 MiB}")
    estimates = expected_everywhere(made)
    of_quality, of_size = (
        estimates[f"gguf-fit-{name}"]["pi5-8gb"] for name in ("kl-0.02", "40mib")
    )
    assert of_quality.memory.peak.value == of_size.memory.peak.value
    assert of_quality.memory.peak.low < of_size.memory.peak.low
    assert of_quality.decode is not None and of_size.decode is not None
    assert of_quality.decode.high > of_size.decode.high
    assert of_quality.decode.low == of_size.decode.low


def test_memory_and_an_adapter_bound_what_it_can_become(tmp_path: Path) -> None:
    made = planned(tmp_path, "{memory: 95 MiB}", "{size: 3 MiB, recover: {rank: 4}}")
    for artifact in made.plan.artifacts:
        if artifact.format != "gguf":
            continue
        prospect = made.prospects[artifact.name]
        assert artifact.smallest_bytes is not None
        assert artifact.smallest_bytes < artifact.download_bytes < prospect.most
        has_adapter = any(t.reason == "recover" for t in prospect.largest.tensors)
        assert has_adapter == artifact.name.endswith("recover4")
        if has_adapter:
            assert artifact.download_bytes <= 3 << 20
            continue
        (own,) = [fit for fit in made.recipe.quantize.fit if fit.memory]
        chosen = {t.name: t.number_format for t in prospect.largest.tensors if t.reason == "fit"}
        site = Site(made.recipe, made.model, "gguf", made.targets["gguf"], own, {})
        options = allowed(find_options(made.model, made.recipe, "gguf"), made.recipe, "gguf", own)
        uses = {
            n: next(o.use for o in options[n] if o.number_format == g) for n, g in chosen.items()
        }
        assert site.exceeded(uses) == []
        widest = {name: each[-1].use for name, each in options.items()}
        assert site.exceeded(widest)


KV = """\
edgeq: 1
name: wren
model: {{source: {model}, task: text-generation}}
data: {{calibration: {{path: {model}/../data/wren-calibration.txt}}}}
quantize: {{default: [float32, Q8_0], fit: [{{name: own, memory: {memory} MiB}}]}}
targets: [{{format: gguf, devices: [x86-laptop-8gb]}}]
workload: {{context: 1024, kv: auto}}
budgets: {{memory: {{peak: {memory} MiB}}}}
"""


@pytest.mark.parametrize(
    ("memory", "types"),
    [(200, ["f32", "f16", "f16"]), (90, ["q4_0", "q8_0", "q8_0"]), (85, ["q4_0", "q4_0", "q8_0"])],
)
def test_the_cache_is_as_precise_as_memory_allows(
    memory: int, types: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(KV.format(model=ROOT / "recipes" / "wren", memory=memory))
    made = foretold(make_plan(path))
    assert [each.kv for each in made.plan.artifacts] == types
    assert [made.cached(Intent(PRESETS["Q8_0"], "gguf", "text-generation")).kv] == [
        None if types[1] == "f16" else types[1]
    ]


def test_a_choice_of_floats_alone_is_the_model_itself(tmp_path: Path) -> None:
    """A budget above the whole model's size leaves nothing to quantize, and that can be built."""
    made = planned(tmp_path, "{size: 40 MiB}")
    every = dict.fromkeys(find_options(made.model, made.recipe, "onnx"), "float32")
    intent = intent_of(made.recipe, "onnx", "fit-40mib", every)
    assert (intent.variant.weights, intent.variant.method) == ("float32", "nearest")
    (name, *_) = every
    one = intent_of(made.recipe, "onnx", "fit-40mib", {**every, name: "int4-b32"})
    assert one.variant.weights != "float32"
    assert intent_of(made.recipe, "onnx", "fit-40mib", {}).variant.weights != "float32"


@given(st.integers(1, 300), st.integers(0, 300))
def test_the_last_that_holds_is_found(count: int, end: int) -> None:
    assert _last(count, lambda number: number <= end) == min(end, count - 1)


def test_what_cannot_hold_a_mixture_refuses_it() -> None:
    config = {
        **{"model_type": "qwen3_moe", "vocab_size": 300, "hidden_size": 64, "head_dim": 16},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2},
        **{"intermediate_size": 96, "max_position_embeddings": 128, "rms_norm_eps": 1e-6},
        **{"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
        **{"norm_topk_prob": True, "hidden_act": "silu"},
    }
    mixture: Any = SimpleNamespace(decoder=decoder_of(config, "config.json"))
    kind = Convolution(taps=3, bias=False, layers=frozenset({0}))
    convolved = replace(mixture.decoder, experts=None, convolution=kind)
    for format in ("coreml", "coreai"):
        with pytest.raises(InvalidInput, match="mixtures of experts cannot be written"):
            file_format(format).notes(mixture)
        other: Any = SimpleNamespace(decoder=convolved)
        with pytest.raises(InvalidInput, match="layers with a convolution cannot be written"):
            file_format(format).notes(other)
    with pytest.raises(InvalidInput, match="one tensor") as refused:
        find_options(mixture, mixture, "gguf")
    assert "edgeq quantize IN.gguf" in refused.value.problems[0].remedy
