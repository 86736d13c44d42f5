"""The real command: what it prints, writes and returns, for people and for programs."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import edgeq
from edgeq.devices.catalogue import load_device
from edgeq.pipeline.compare.encoders import EncoderComparison
from tests.conftest import Project
from tests.support import tiny_bert
from tests.support.commands import Done, answered, for_a_person, refused, run_edgeq

FOREIGN = "pi5-8gb" if load_device("here").arch == "x86_64" else "x86-laptop-8gb"


def variant(project: Project, folder: Path, *changes: tuple[str, str]) -> Path:
    """A copy of the project in `folder` with a changed recipe; its artifacts are built already."""
    shutil.copytree(project.folder, folder)
    text = tiny_bert.GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    tiny_bert.write_recipe(folder / "recipe.yaml", text)
    return folder


def ask(project: Project, *arguments: str | Path, cwd: Path | None = None) -> Done:
    return run_edgeq(*arguments, store=project.store, cwd=cwd or project.folder)


@pytest.fixture(scope="module")
def checked(project: Project) -> Any:
    """`edgeq check --json` of the project, which all verdicts of it are remembered from."""
    return answered(ask(project, "check", "recipe.yaml", "--json"))


# -- plan and build


def test_plan(project: Project, tmp_path: Path) -> None:
    planned = answered(ask(project, "plan", "recipe.yaml", "--json"))
    assert [artifact["name"] for artifact in planned["artifacts"]] == list(project.artifacts)
    store = tmp_path / "store"
    shown = for_a_person(run_edgeq("plan", "recipe.yaml", store=store, cwd=project.folder))
    assert "onnx-int4-b32" in shown
    assert "(estimated)" in shown
    assert "rule 1" in shown
    assert not store.exists()


def test_a_rule_is_shown_as_it_was_written(project: Project, tmp_path: Path) -> None:
    rule = ("*.attention.self.value.weight", "*.[v]alue.weight")
    folder = variant(project, tmp_path / "p", rule)
    plan = answered(ask(project, "plan", "recipe.yaml", "--json", cwd=folder))
    reasons = {tensor["reason"] for item in plan["artifacts"] for tensor in item["tensors"]}
    assert "rule 1: *.[v]alue.weight" in reasons
    assert "rule 1" in for_a_person(ask(project, "plan", "recipe.yaml", cwd=folder))


def test_build(project: Project) -> None:
    built = answered(ask(project, "build", "recipe.yaml", "--target", "onnx", "--json"))
    assert list(built) == ["artifacts"]
    assert {item["name"]: item for item in built["artifacts"]} == project.artifacts
    for item in built["artifacts"]:
        assert item["format"] == "onnx"
        assert item["name"] == f"onnx-{item['variant']}"
        assert item["bytes"] > item["weight_bytes"] > 0
        assert sum(item["number_formats"].values()) == item["weight_bytes"]
        vectors = edgeq.load(item["path"]).embed(["ba be", "ba be bi"])
        assert vectors.shape == (2, tiny_bert.HIDDEN)
    shown = for_a_person(ask(project, "build", "recipe.yaml"))
    assert all(item["path"] in shown for item in built["artifacts"])


def test_a_folder_with_an_odd_name(project: Project, tmp_path: Path) -> None:
    """Brackets are markup to rich; a path must come out as it is."""
    folder = tmp_path / "a [bold] b[" / "] c"
    folder.parent.mkdir()
    shutil.copytree(project.folder, folder)
    store = folder / "store [x]"
    shutil.copytree(project.store, store)
    done = run_edgeq("build", "recipe.yaml", store=store, cwd=folder)
    assert str(store / "artifact") in for_a_person(done)
    arguments = ["bundle", "recipe.yaml", "--out", "b[x].zip", "--allow-unchecked"]
    done = run_edgeq(*arguments, store=store, cwd=folder)
    assert "b[x].zip" in for_a_person(done)


# -- check


def test_check(checked: Any, project: Project) -> None:
    assert checked["exit_status"] == 0
    names = [verdict["artifact"] for verdict in checked["verdicts"]]
    assert names == list(project.artifacts)
    for verdict in checked["verdicts"]:
        budgets = [line["budget"] for line in verdict["lines"]]
        assert budgets == ["device.memory", "device.answers", "size.download", "quality.cosine"]
        assert {line["status"] for line in verdict["lines"]} == {"pass"}
        assert {line["how"] for line in verdict["lines"]} == {"measured"}
        assert verdict["float_measurement"]["artifact"] == "onnx-float32"
        (size,) = (line for line in verdict["lines"] if line["budget"] == "size.download")
        assert size["value"] == project.artifacts[verdict["artifact"]]["bytes"]


def test_a_budget_that_fails_says_what_would_fit(project: Project, tmp_path: Path) -> None:
    sizes = {name: item["bytes"] for name, item in project.artifacts.items()}
    limit = (sizes["onnx-int4-b32"] + sizes["onnx-int8-dynamic"]) // 2
    folder = variant(project, tmp_path / "p", ("2 MiB", f"{limit} B"))
    other = folder / "other.zip"
    arguments = ["bundle", "recipe.yaml", "--artifact", "onnx-int8-static", "--out"]
    done = ask(project, *arguments, other, cwd=folder)
    shown = " ".join(for_a_person(done, 1).split())
    assert "next: int4-b32 would be" in shown  # though only one artifact was asked about
    assert "nothing passed on here" in done.stderr
    assert not other.exists()

    done = ask(project, "check", "recipe.yaml", "--junit", tmp_path / "v.xml", cwd=folder)
    shown = " ".join(for_a_person(done, 1).split())
    assert "next: int4-b32 would be" in shown
    assert '<testsuite name="onnx-int8-dynamic on here"' in (tmp_path / "v.xml").read_text()

    out = folder / "out.zip"
    done = ask(project, "bundle", "recipe.yaml", "--out", out, "--json", cwd=folder)
    assert answered(done)["artifact"] == "onnx-int4-b32"  # the one that passes


def test_a_budget_that_nothing_keeps(project: Project, tmp_path: Path) -> None:
    folder = variant(
        project,
        tmp_path / "p",
        ("2 MiB", "1 KiB"),
        ("[int8-dynamic, int8-static, int4-b32]", "int4"),
        ("int8, variants: [int4-b32]", "int8"),
    )
    done = ask(project, "check", "recipe.yaml", "--json", cwd=folder)
    checked = answered(done, 1)
    assert checked["exit_status"] == 1
    (line,) = (x for x in checked["verdicts"][0]["lines"] if x["budget"] == "size.download")
    assert line["status"] == "fail"
    assert "no known variant would fit" in line["remedy"]
    out = folder / "out.zip"
    done = ask(project, "bundle", "recipe.yaml", "--out", out, cwd=folder)
    shown = for_a_person(done, 1)
    assert "size.download" in shown
    assert "fail" in shown
    assert "--allow-unchecked" in done.stderr
    assert not out.exists()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in project.folder.iterdir()
    )
    done = ask(project, "bundle", "recipe.yaml", "--out", out, "--json", cwd=folder)
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdicts"][0]["status"] == "fail"


def test_another_architecture_is_not_run(project: Project, checked: Any) -> None:
    elsewhere = ["--device", FOREIGN, "--artifact", "onnx-int4-b32"]
    done = ask(project, "check", "recipe.yaml", *elsewhere, "--json")
    verdicts = answered(done, 3)["verdicts"]
    assert [verdict["artifact"] for verdict in verdicts] == ["onnx-int4-b32"]
    for verdict in verdicts:
        hows = {line["budget"]: line["how"] for line in verdict["lines"]}
        assert hows == {
            "device.memory": "estimated",
            "size.download": "measured",
            "quality.cosine": "emulated",
        }
        statuses = {line["budget"]: line["status"] for line in verdict["lines"]}
        assert statuses["device.memory"] == "not run"  # an estimate passes nothing
    done = ask(project, "bundle", "recipe.yaml", *elsewhere, "--out", "foreign.zip")
    assert "not run" in for_a_person(done, 3)
    assert not (project.folder / "foreign.zip").exists()


def test_a_device_may_be_a_file(project: Project, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "devices" / f"{FOREIGN}.yaml").read_text()
    device = tmp_path / "mine.yaml"
    device.write_text(text.replace(f"id: {FOREIGN}", "id: mine"))
    folder = variant(project, tmp_path / "p", ("[here]", f"[{device}]"))
    arguments = ["check", "recipe.yaml", "--artifact", "onnx-int4-b32", "--json"]
    verdicts = answered(ask(project, *arguments, cwd=folder), 3)["verdicts"]
    assert [verdict["device"] for verdict in verdicts] == ["mine"]


# -- bundle and run


@pytest.fixture(scope="module")
def bundle(project: Project, checked: Any) -> Path:
    path = project.folder / "tiny.zip"
    done = ask(project, "bundle", "recipe.yaml", "--device", "here", "--out", path, "--json")
    found = answered(done)
    cosines = {
        verdict["artifact"]: verdict["measurement"]["quality"]["outputs"]["sentence_embedding"][
            "cosine_mean"
        ]
        for verdict in checked["verdicts"]
    }
    limits = found.pop("limits")
    assert [(line["limit"], line["how"]) for line in limits] == [("app-memory.none", "measured")]
    assert found == {
        "path": str(path),
        "artifact": (best := max(cosines, key=lambda name: cosines[name])),
        "model_bytes": project.artifacts[best]["bytes"],
        "bytes": path.stat().st_size,
        "checked": True,
        "chosen_by": "passed, nearest to full precision",
        "signature": None,
    }
    return path


def test_a_bundle_holds_its_verdict_and_licence(bundle: Path, checked: Any) -> None:
    with zipfile.ZipFile(bundle) as archive:
        record = json.loads(archive.read("bundle.json"))
        (verdict,) = json.loads(archive.read("verdicts.json"))["verdicts"]
    assert record["checked"] is True
    assert record["licence"] == "mit"
    assert verdict in checked["verdicts"]  # what was checked is remembered, not measured again
    assert record["recipe"] == (bundle.parent / "recipe.yaml").read_text()


def test_the_same_bundle_has_the_same_bytes(project: Project, bundle: Path) -> None:
    again = bundle.with_name("again.zip")
    shown = for_a_person(ask(project, "bundle", "recipe.yaml", "--out", again))
    assert "passed" in shown
    assert again.read_bytes() == bundle.read_bytes()


def test_an_unchecked_bundle_is_marked(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "unchecked.zip"
    arguments: list[str | Path] = ["bundle", "recipe.yaml", "--allow-unchecked", "--out", out]
    assert "NOT CHECKED" in for_a_person(ask(project, *arguments))
    with zipfile.ZipFile(out) as archive:
        record = json.loads(archive.read("bundle.json"))
        assert "verdicts.json" not in archive.namelist()
    assert record["checked"] is False
    assert answered(ask(project, *arguments, "--json"))["checked"] is False


def test_run(project: Project, bundle: Path) -> None:
    texts = ["ba be bi", "ba be bo", "zu zo"]
    found = answered(ask(project, "run", bundle, *texts, "--json"))
    assert found["texts"] == texts
    vectors = np.array(found["embeddings"], np.float32)
    np.testing.assert_array_equal(vectors, edgeq.load(bundle).embed(texts))
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors.T / np.outer(lengths, lengths)
    np.testing.assert_allclose(found["similarity"], cosines, atol=1e-6)
    shown = for_a_person(ask(project, "run", bundle, *texts))
    assert "(measured here)" in shown
    ranked = sorted(texts[1:], key=lambda text: -found["similarity"][0][texts.index(text)])
    rows = [
        line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith(("0.", "1."))
    ]
    assert rows == ranked
    assert shown.startswith(texts[0])
    assert "cosine" not in for_a_person(ask(project, "run", bundle, "ba"))
    shown = for_a_person(ask(project, "run", bundle, "[red]ba[/red]", "[/x] be"))
    assert "[red]ba[/red]" in shown
    assert "[/x] be" in shown


def test_compare_shows_the_neighbours_that_change(project: Project, tmp_path: Path) -> None:
    """The recipe itself stands for full precision of its model."""
    small = project.artifacts["onnx-int4-b32"]["path"]
    arguments = ["compare", "recipe.yaml", small, "--text", "evaluation.tsv"]
    found = EncoderComparison.model_validate(answered(ask(project, *arguments, "--json")))
    assert (found.a.path, found.b.path) == ("recipe.yaml", small)
    assert found.texts == 24
    assert 0.5 < found.cosine_min <= found.cosine_mean < 1
    near = found.neighbours
    assert near is not None
    assert near.texts == 24
    shown = for_a_person(ask(project, *arguments))
    assert f"{near.changed} of 24" in shown
    for change in near.changes:
        assert all(text in " ".join(shown.split()) for text in (change.text, change.now.text))
    itself = ["compare", small, small, "--text", "evaluation.tsv", "--json"]
    same = EncoderComparison.model_validate(answered(ask(project, *itself)))
    assert same.neighbours is not None
    assert (same.cosine_min, same.neighbours.changed) == pytest.approx((1, 0))
    for wrong in (["--prompt", "ba"], ["--text", "evaluation.tsv", "--window", "8"], []):
        assert "--" in refused(ask(project, "compare", small, small, *wrong), 2)


def test_a_changed_bundle_is_refused_by_name(
    project: Project, bundle: Path, tmp_path: Path
) -> None:
    content = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as archive:
        info = archive.getinfo("model.onnx.data")
    content[info.header_offset + 8192] ^= 1
    changed = tmp_path / "changed.zip"
    changed.write_bytes(content)
    assert "changed.zip/model.onnx.data" in refused(ask(project, "run", changed, "ba"), 2)


# -- what is wrong


@pytest.mark.parametrize("command", ["plan", "build", "check", "bundle"])
def test_a_mistake_in_the_recipe_is_exit_2(project: Project, tmp_path: Path, command: str) -> None:
    folder = variant(project, tmp_path / "p", ("quantize:", "quantise:"))
    store = tmp_path / "store"
    more = ["--out", "out.zip"] if command == "bundle" else []
    done = run_edgeq(command, "recipe.yaml", *more, store=store, cwd=folder)
    said = refused(done, 2)
    assert "recipe.yaml:7:1: unknown key 'quantise'" in said
    assert "'quantize'" in said
    assert not store.exists()
    assert not (folder / "out.zip").exists()


def test_a_missing_recipe_is_exit_2(tmp_path: Path) -> None:
    said = refused(run_edgeq("plan", "nothing.yaml", store=tmp_path, cwd=tmp_path), 2)
    assert "nothing.yaml" in said


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("check", "recipe.yaml", "--device", "pi5-8bg"), "'pi5-8gb'"),
        (("bundle", "recipe.yaml", "--device", "pi5-8bg", "--out", "o.zip"), "'pi5-8gb'"),
        (("devices", "pi5-8bg"), "'pi5-8gb'"),
        (("build", "recipe.yaml", "--target", "onx"), "'onnx'"),
        (("bundle", "recipe.yaml", "--artifact", "onnx-int8", "--out", "o.zip"), "'onnx-int"),
        (("bundle", "recipe.yaml", "--out", "nowhere/o.zip"), "nowhere"),
        (("check", "recipe.yaml", "--junit", "nowhere/v.xml"), "nowhere"),
        (("run", "nothing.zip", "ba"), "nothing.zip"),
        (("run", "tiny"), "holds no artifact"),
        (("run", "tiny", "ba"), "holds no artifact"),
    ],
    ids=str,
)
def test_a_wrong_word_is_exit_2(project: Project, arguments: tuple[str, ...], word: str) -> None:
    before = sorted(project.folder.iterdir())
    assert word in refused(ask(project, *arguments), 2)
    assert sorted(project.folder.iterdir()) == before


def test_an_unknown_option_is_exit_2(tmp_path: Path) -> None:
    done = run_edgeq("plan", "recipe.yaml", "--no-such", store=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "--no-such" in done.stderr


def test_options_that_go_unused_are_refused(project: Project, bundle: Path) -> None:
    np.savez(project.folder / "feeds.npz", input_ids=np.ones((1, 1, 3), np.int64))
    refused(ask(project, "run", bundle, "ba", "--inputs", "feeds.npz"), 2)
    refused(ask(project, "run", bundle, "ba", "--out", "out.npz"), 2)


def test_a_missing_package_is_exit_3(project: Project, tmp_path: Path) -> None:
    folder = variant(project, tmp_path / "p", ("source: tiny", "source: package:no-such-model"))
    for command in ("plan", "build"):
        said = refused(ask(project, command, "recipe.yaml", cwd=folder), 3)
        assert "pip install no-such-model" in said
