"""`edgeq new` writes recipes that edgeq takes, with budgets that the plan explains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx

from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import IMAGE_CLASSIFICATION, TASKS, Task
from edgeq.core.yamlfile import read_yaml
from edgeq.measure.intervals import share_bounds
from edgeq.models.locate import Located
from edgeq.pipeline.check.expected import expected_everywhere
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.first_task import stated_by_files
from edgeq.pipeline.plan.plan import make_plan
from tests.support import onnx_models, tiny_decoders

RECIPES = Path(__file__).parents[2] / "recipes"
WREN = str(RECIPES / "wren")
IMAGES = IMAGE_CLASSIFICATION.name
TEXTS: dict[str, Any] = {
    "calibration": RECIPES / "data" / "wren-calibration.txt",
    "evaluation": RECIPES / "data" / "wren-evaluation.txt",
}


def test_a_language_models_recipe_is_planned_within_its_own_budgets(tmp_path: Path) -> None:
    written = write_first_recipe(WREN, ["pi5-8gb", "iphone-14"], tmp_path / "a.yaml", **TEXTS)
    assert (written.task, written.missing) == ("text-generation", ())
    planned = make_plan(written.path)
    eight, _four = planned.plan.artifacts
    budgets = planned.recipe.budgets
    download, peak = budgets.size.download, budgets.memory.peak
    assert download is not None and peak is not None
    assert eight.download_bytes < download < 1.5 * eight.download_bytes
    for device in expected_everywhere(planned)[eight.name].values():
        assert device.memory.peak.high < peak
    assert {target.format for target in planned.recipe.targets} == {"gguf"}


def test_a_setting_of_a_family_of_text_and_images_is_refused_by_name(
    tmp_path: Path,
) -> None:
    model = tmp_path / "gemma"
    shutil.copytree(WREN, model, copy_function=shutil.copyfile)
    names = {"model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"]}
    (model / "config.json").write_text(
        json.dumps({**names, "text_config": {"enable_moe_block": True}})
    )
    with pytest.raises(InvalidInput, match=r"gemma: config\.json: enable_moe_block: a mixture"):
        write_first_recipe(str(model), ["here"], tmp_path / "a.yaml", **TEXTS)
    assert not (tmp_path / "a.yaml").exists()


@pytest.mark.parametrize(
    ("task", "words", "samples"),
    [
        ("text-classification", "two hundred or more", 200),
        ("image-classification", "two hundred or more", 200),
        ("speech-recognition", "forty or more", 40),
    ],
)
def test_as_many_samples_as_are_asked_for_can_prove_the_first_budget(
    task: str, words: str, samples: int
) -> None:
    first = TASKS[task].first_recipe
    assert first is not None
    assert words in first.evaluation[1]
    (budget,) = (line for line in first.budgets if "agreement" in line)
    limit = float(budget.partition("agreement: ")[2].strip(" }"))
    assert share_bounds(1.0, samples).low > limit


def test_data_that_is_missing_is_named(tmp_path: Path) -> None:
    written = write_first_recipe(WREN, ["here"], tmp_path / "a.yaml")
    assert [need.path.name for need in written.missing] == ["calibration.txt", "evaluation.txt"]
    with pytest.raises(InvalidInput, match=r"calibration\.txt"):
        make_plan(written.path)
    for need, text in zip(written.missing, TEXTS.values(), strict=True):
        shutil.copy(text, need.path)
    make_plan(written.path)


def test_an_onnx_file_is_found_from_the_recipes_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my models").mkdir()
    Path("recipes").mkdir()
    onnx_models.convolutional(Path("my models", "net: 1.onnx"))
    written = write_first_recipe("my models/net: 1.onnx", ["here"], Path("recipes", "net.yaml"))
    document = read_yaml(written.path)
    assert document.data["model"] == {"source": "../my models/net: 1.onnx", "task": "tensor"}
    assert document.data["name"] == "net-1"
    # What int8 leaves in float, convolutions, is most of it.
    assert document.data["quantize"] == {"default": ["int8-static"]}
    with pytest.raises(InvalidInput, match=r"calibration\.npz"):
        make_plan(written.path)


def test_the_directory_of_an_exported_model_stands_for_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-net").mkdir()
    onnx_models.product(Path("my-net", "model.onnx"), 0, 256, 192)
    written = write_first_recipe("my-net", ["here"])
    document = read_yaml(written.path)
    assert written.path.name == "my-net.yaml"
    assert document.data["model"] == {"source": "./my-net/model.onnx", "task": "tensor"}


def test_a_net_of_convolutions_alone_gets_the_variant_that_quantizes_it(tmp_path: Path) -> None:
    net = onnx_models.only_convolutions(tmp_path / "net.onnx")
    written = write_first_recipe(str(net), ["here"], tmp_path / "net.yaml")
    assert read_yaml(written.path).data["quantize"] == {"default": ["int8-static"]}


def test_labels_in_a_file_are_taken_and_a_guess_is_called_one(tmp_path: Path) -> None:
    labels = [f"kind {index}" for index in range(10)]
    file = onnx_models.convolutional(tmp_path / "net.onnx")
    model = onnx.load(file)
    model.metadata_props.add(key="character", value="\n".join(labels))
    onnx.save(model, file)
    written = write_first_recipe(str(file), ["here"], tmp_path / "net.yaml", task=IMAGES)
    assert "or every answer is a guess" in written.hint
    found = read_yaml(written.path).data["model"]
    assert found["labels"] == labels
    assert found["image"]["size"] == [32, 32]
    assert not {"fill", "align"} & {*found["image"]}
    model.metadata_props[0].value = "kind 0"
    onnx.save(model, file)
    written = write_first_recipe(str(file), ["here"], tmp_path / "other.yaml", task=IMAGES)
    assert next(need.path.name for need in written.missing) == "labels.txt"


def test_a_package_of_an_onnx_file_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = onnx_models.product(tmp_path / "net.onnx", 0, 64, 48)
    about = tmp_path / "some_net-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-net\nVersion: 1.0\n")
    (about / "RECORD").write_text("net.onnx,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidInput, match=rf"edgeq new {file}$"):
        write_first_recipe("package:some-net", ["here"], tmp_path / "a.yaml")


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path) -> None:
    out = tmp_path / "a.yaml"
    out.write_text("mine")
    with pytest.raises(InvalidInput, match="is there already"):
        write_first_recipe(WREN, ["here"], out)
    with pytest.raises(InvalidInput, match="pixel"):
        write_first_recipe(WREN, ["pixel-9999"], tmp_path / "b.yaml")
    with pytest.raises(InvalidInput, match="no such model"):
        write_first_recipe(str(tmp_path / "none"), ["here"], tmp_path / "b.yaml")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["BertForDreaming"]}')
    with pytest.raises(InvalidInput, match=r"a BertForDreaming\n    export it: .* --task"):
        write_first_recipe(str(tmp_path / "model"), ["here"], tmp_path / "b.yaml")
    (tmp_path / "model" / "config.json").write_text('{"architectures": []}')
    with pytest.raises(InvalidInput, match=r"names no architecture\n    add --task"):
        write_first_recipe(str(tmp_path / "model"), ["here"], tmp_path / "b.yaml")
    # The name of a text model, and the files of one for images.
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["Dinov2Model"]}')
    (tmp_path / "model" / "preprocessor_config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="no task of a Dinov2Model"):
        write_first_recipe(str(tmp_path / "model"), ["here"], tmp_path / "b.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "model"]
    assert out.read_text() == "mine"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_task_has_a_first_recipe(task: Task) -> None:
    assert task.first_recipe is not None
    assert task.first_recipe.calibration[0] != task.first_recipe.evaluation[0]


def _leave_open(graph: onnx.GraphProto) -> None:
    """Name and shape of the input as transformers' exporter writes them: no size is stated."""
    name = graph.input[0].name
    open_sizes = ["batch_size", "num_channels", "height", "width"]
    value = onnx.helper.make_tensor_value_info("pixel_values", onnx.TensorProto.FLOAT, open_sizes)
    graph.input[0].CopyFrom(value)
    for node in graph.node:
        node.input[:] = ["pixel_values" if each == name else each for each in node.input]


def test_an_image_classifiers_recipe_says_what_its_files_say(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="the extra images is not installed")
    from tests.support.shapes import LABELS, save_classifier

    exported = onnx.load(save_classifier(tmp_path / "shapes.onnx"))
    _leave_open(exported.graph)
    onnx.save(exported, tmp_path / "shapes.onnx")
    config = {
        "architectures": ["ResNetForImageClassification"],
        "id2label": {str(index): label for index, label in enumerate(LABELS)},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.8, "resample": 3}
    processor |= {"size": {"shortest_edge": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    written = write_first_recipe(str(tmp_path / "shapes.onnx"), ["here"], tmp_path / "a.yaml")
    assert (written.task, len(written.missing)) == ("image-classification", 2)
    model = read_yaml(written.path).data["model"]
    assert model["labels"] == list(LABELS)
    assert (model["image"]["resize"], model["image"]["resample"]) == (40, "bicubic")
    assert (model["image"]["deviation"], model["image"]["layout"]) == ([0.25] * 3, "NCHW")


def test_what_no_file_says_of_an_image_classifier_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="the extra images is not installed")
    from tests.support.shapes import save_classifier, save_shapes

    model = str(save_classifier(tmp_path / "shapes.onnx", layout="NHWC"))
    written = write_first_recipe(model, ["here"], tmp_path / "a.yaml", task="image-classification")
    assert [need.path.name for need in written.missing] == [
        *("labels.txt", "calibration", "evaluation"),
    ]
    assert "6 classes" in written.missing[0].content
    assert "or every label is a guess" in written.path.read_text()
    (tmp_path / "labels.txt").write_text("\n".join("abcdef"))
    save_shapes(tmp_path / "calibration", range(3), by_label=False)
    save_shapes(tmp_path / "evaluation", range(3, 6), by_label=False)
    planned = make_plan(written.path)
    assert planned.recipe.model.image is not None
    assert planned.recipe.model.image.shape == (1, 32, 32, 3)


def test_a_model_of_arrays_says_which_it_takes(tmp_path: Path) -> None:
    model = str(onnx_models.product(tmp_path / "net.onnx", 0, 64, 128))
    written = write_first_recipe(model, ["here"], tmp_path / "a.yaml")
    rows = "row, float32 of the shape (samples, any, 64)"
    assert written.missing[0].content.endswith(rows)
    assert rows in " ".join(written.path.read_text().replace("# ", "").split())
    assert "--task image-classification" in written.hint
    asked = write_first_recipe(model, ["here"], tmp_path / "b.yaml", task="tensor")
    assert asked.hint == ""


@pytest.mark.parametrize(("trained", "workload"), [(96, (96, 48, 24)), (8192, (1024, 128, 64))])
def test_a_conversation_is_no_longer_than_the_model_was_trained_for(
    tmp_path: Path, trained: int, workload: tuple[int, int, int]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(WREN, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": trained}))
    written = write_first_recipe(str(model), ["here"], tmp_path / "a.yaml", **TEXTS)
    own = make_plan(written.path).recipe.workload
    assert (own.context, own.prompt, own.generate) == workload


@pytest.mark.parametrize(
    ("architecture", "task"),
    [("CLIPForImageClassification", "image-classification"), ("Gemma3Model", "text-generation")],
)
def test_a_part_of_text_does_not_make_a_language_model(
    tmp_path: Path, architecture: str, task: str
) -> None:
    config = {"architectures": [architecture], "text_config": {}, "id2label": {"0": "a", "1": "b"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stated_by_files(Located(tmp_path, None), "here").name == task


@pytest.mark.parametrize("named", [{}, {"architectures": None}, {"architectures": []}])
def test_a_language_model_is_told_by_its_type_where_no_architecture_is_named(
    tmp_path: Path, named: dict[str, list[str] | None]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "ministral3", **named}))
    assert stated_by_files(Located(tmp_path, None), "here").name == "text-generation"


def test_a_model_that_the_usual_file_format_cannot_hold_gets_the_next(tmp_path: Path) -> None:
    bounds = {**tiny_decoders.YARN, "truncate": False}
    model = tiny_decoders.make(tmp_path / "model", "gpt_oss", rope_scaling=bounds)
    written = write_first_recipe(str(model), ["here"], tmp_path / "a.yaml", **TEXTS)
    (target,) = make_plan(written.path).recipe.targets
    assert target.format == "onnx"


def test_a_recipe_says_why_its_variants_are_not_the_usual_ones(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 700}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16}
    model = tiny_decoders.make(tmp_path / "m", "smollm2", **sizes, **heads)
    written = write_first_recipe(str(model), ["here"], tmp_path / "a.yaml", **TEXTS)
    text = written.path.read_text(encoding="utf-8")
    assert "default: [float32]" in text
    said = " ".join(text.replace("\n#", "").split())
    assert "The usual are impossible: int8-b32 quantizes no weight" in said
