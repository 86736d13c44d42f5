"""Every command in a terminal of 80 columns and in a pipe: what people see, what programs read."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="the extra [gguf] is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("vl_convert", reason="the extra [report] is not installed")
pytest.importorskip("scipy", reason="the extra [fit] is not installed")

from edgeq.cli.main import app
from edgeq.core.artifact import read_artifact
from edgeq.devices.catalogue import Device, list_devices
from edgeq.estimate.devices import Estimates
from edgeq.formats.bundle import read_bundle
from edgeq.models.model import describe
from edgeq.pipeline.allocate.sensitivity import Cost, Sensitivity
from edgeq.pipeline.audit.records import Audit
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.compare.compare import Comparison
from edgeq.pipeline.compare.side_by_side import SideBySide
from edgeq.pipeline.plan.records import Plan
from edgeq.pipeline.recommend.recommend import Answer
from edgeq.recipe.json_schema import recipe_schema
from edgeq.recipe.load import load_recipe
from edgeq.report.console import make_console
from edgeq.report.explain.piece import Piece
from edgeq.report.page.record import Report, read_report
from tests.support import report_samples
from tests.support.gguf_artifacts import WREN, write_file
from tests.support.terminal import edgeq_in_terminal

DATA = WREN.parent / "data"
RECIPE = """
edgeq: 1
name: wren
model: {source: ./wren, task: text-generation, licence: apache-2.0}
data:
  calibration: {path: calibration.txt}
  evaluation: {path: evaluation.txt}
  sensitivity: {path: sensitivity.json}
quantize: {default: int8, fit: {size: 3 MiB}}
targets: [{format: gguf, devices: [here, iphone-14]}]
workload: {context: 32, prompt: 8, generate: 2}
budgets: {size: {download: 7 MiB}, quality: {kl: 0.05}}
"""
USES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
# Commands whose tables other tests hold to 80 columns: they build or measure for long.
ELSEWHERE = {
    *("bom", "check", "compare-cpus", "frontier", "matrix", "min-memory"),
    *("new", "starter", "verify"),
}


@dataclass(frozen=True)
class Shop:
    """A folder with recipes of the small language model, and GGUF files of it."""

    folder: Path

    def run(self, *arguments: str, status: int = 0, columns: int = 80) -> tuple[str, str]:
        """Standard output and standard error of a command that is not in a terminal."""
        environment = {"EDGEQ_STORE": str(self.folder / "store"), "COLUMNS": str(columns)}
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
        finally:
            os.chdir(before)
        assert done.exit_code == status, done.output
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    from edgeq.report.page.write import write_page

    folder = tmp_path_factory.mktemp("shop")
    (folder / "wren").symlink_to(WREN)
    for name in ("calibration", "evaluation"):
        text = (DATA / f"wren-{name}.txt").read_text(encoding="utf-8")
        (folder / f"{name}.txt").write_text(text[:3000], encoding="utf-8")
    (folder / "fit.yaml").write_text(RECIPE, encoding="utf-8")
    plain = re.sub(r", fit: .*}}|\n  sensitivity: .*}", "}", RECIPE).replace(
        "}\nquantize", "\nquantize"
    )
    (folder / "plain.yaml").write_text(plain, encoding="utf-8")
    (folder / "sensitivity.json").write_text(sensitivity(folder).model_dump_json())
    write_file(WREN, folder / "wren-F32.gguf")
    write_page(report_samples.allocated_report(), folder / "report.html")
    return Shop(folder)


def sensitivity(folder: Path) -> Sensitivity:
    """A record of the right form with made-up losses, as if it had been measured."""
    recipe, document, _ = load_recipe(folder / "plain.yaml")
    assert recipe is not None
    place = document.place(("model", "source"))
    model = describe(recipe.model.source, recipe.model.task, folder, place, weights=True)
    names = [name for name, shape in model.tensors.items() if len(shape) == 2]
    costs = {
        name: {
            use: Cost(loss=0.01 / 4**step / (i + 1), error=None, local=1.0, how="interpolated")
            for step, use in enumerate(USES)
        }
        for i, name in enumerate(names)
    }
    return Sensitivity(
        format="gguf",
        measure="kl",
        model_sha256=model.sha256(),
        data_sha256="0" * 64,
        samples=8,
        whole_samples=24,
        tensors=costs,
        wholes=(),
    )


def both_files(shop: Shop) -> None:
    """The file that `edgeq quantize` makes."""
    if not (shop.folder / "wren-Q4_K_M.gguf").exists():
        shop.run("quantize", "wren-F32.gguf", "wren-Q4_K_M.gguf")


COMMANDS: dict[str, list[str]] = {
    "plan": ["plan", "fit.yaml"],
    "build": ["build", "plain.yaml"],
    "bundle": ["bundle", "plain.yaml", "--allow-unchecked", "--out", "wren.zip"],
    "run": ["run", "wren-Q4_K_M.gguf", "--prompt", "The whale", "--max-tokens", "4"],
    "compare": [
        "compare", "wren-F32.gguf", "wren-Q4_K_M.gguf", "--text", "evaluation.txt",
        "--window", "8", "--windows", "2",
    ],
    "compare --prompt": [
        "compare", "wren-F32.gguf", "wren-Q4_K_M.gguf", "--prompt", "The", "--max-tokens", "6",
    ],
    "audit": ["audit", "wren-Q4_K_M.gguf"],
    "quantize": ["quantize", "wren-F32.gguf", "again.gguf", "--mix", "Q6_K"],
    "imatrix": ["imatrix", "plain.yaml", "--out", "imatrix.gguf"],
    "devices": ["devices"],
    "devices ID": ["devices", "iphone-15-pro"],
    "recommend": ["recommend", "plain.yaml", "--device", "pi5-8gb"],
    "emulate": ["emulate"],
    "sensitivity": ["sensitivity", "fit.yaml", "--out", "again.json"],
    "explain": ["explain", "report.html"],
    "explain --plan": ["explain", "fit.yaml", "--plan"],
    "schema": ["schema"],
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "schema"])
def test_what_a_pipe_gets_fits_80_columns(shop: Shop, name: str) -> None:
    both_files(shop)
    out, progress = shop.run(*COMMANDS[name])
    assert out.strip()
    assert "\x1b" not in out + progress
    if name != "run":  # what a model writes is its own
        assert not [line for line in out.splitlines() if line != line.rstrip()]
        long = [line for line in out.splitlines() if len(line) > 80]
        assert not [line for line in long if "/" not in line]  # a path must not be broken
    assert not [line for line in progress.splitlines() if not re.match(r" +\d+ s  ", line)]


# Of these, what is shown is the same each time; of others it is measured anew.
STEADY = ("plan", "devices", "recommend", "explain")


@pytest.mark.parametrize("columns", [60, 40])
@pytest.mark.parametrize("name", STEADY)
def test_a_narrow_terminal_cuts_no_figure(shop: Shop, name: str, columns: int) -> None:
    """Every word with a digit that 80 columns show is there, whole, in fewer."""
    wide, _ = shop.run(*COMMANDS[name])
    narrow, _ = shop.run(*COMMANDS[name], columns=columns)
    figure = re.compile(r"(?<!\S)[~±(<>=−+-]*\d[\d.,]*(?:e-\d+)?(?![\w./*-])")
    seen = Counter(figure.findall(narrow))
    wanted = Counter(figure.findall(wide))
    assert wanted
    assert not wanted - seen
    long = [line for line in narrow.splitlines() if len(line) > columns]
    # Text to be copied is left as it is, and an address is one word.
    assert all(line in wide.splitlines() or len(line.split()) <= 2 for line in long)


def same(model: Any) -> Callable[[Shop, Any], None]:
    """Whether an answer is of a record's schema, and nothing of it is lost in reading it."""

    def check(shop: Shop, answer: Any) -> None:
        text = json.dumps(answer)
        assert json.loads(model.model_validate_json(text).model_dump_json()) == answer

    return check


def of_plan(shop: Shop, answer: Any) -> None:
    estimates = answer.pop("estimates")
    same(Plan)(shop, answer)
    assert set(estimates) == {"gguf-int8-b32", "gguf-fit-3mib"}
    for own in estimates.values():
        for each in own.values():
            same(Estimates)(shop, each)


def of_build(shop: Shop, answer: Any) -> None:
    for item in answer["artifacts"]:
        record = read_artifact(Path(item["path"]))
        assert (item["name"], item["bytes"]) == (record.name, record.bytes)
        assert item["number_formats"] == record.bytes_by_number_format()


def of_bundle(shop: Shop, answer: Any) -> None:
    bundle = read_bundle(Path(answer["path"]))
    assert (answer["artifact"], answer["checked"]) == (bundle.artifact.name, bundle.checked)


def of_devices(shop: Shop, answer: Any) -> None:
    assert [Device.model_validate(each) for each in answer["devices"]] == list_devices()


def of_sensitivity(shop: Shop, answer: Any) -> None:
    same(Sensitivity)(shop, answer)
    assert answer == json.loads((shop.folder / "again.json").read_text())
    given = json.loads((shop.folder / "sensitivity.json").read_text())
    assert answer == given


ANSWERS: dict[str, Callable[[Shop, Any], None]] = {
    "plan": of_plan,
    "build": of_build,
    "bundle": of_bundle,
    "compare": same(Comparison),
    "compare --prompt": same(SideBySide),
    "audit": same(Audit),
    "devices": of_devices,
    "recommend": same(Answer),
    "sensitivity": of_sensitivity,
    "explain": same(Piece),
    "explain --plan": same(Piece),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_json_has_the_schema_of_the_record(shop: Shop, name: str) -> None:
    both_files(shop)
    out, _ = shop.run(*COMMANDS[name], "--json")
    ANSWERS[name](shop, json.loads(out))


@pytest.mark.parametrize("name", ["run", "quantize", "imatrix", "emulate"])
def test_json_is_all_of_standard_output(shop: Shop, name: str) -> None:
    """Of what is in no file there is one object."""
    both_files(shop)
    out, _ = shop.run(*COMMANDS[name], "--json")
    assert isinstance(json.loads(out), dict)


def test_the_page_carries_what_json_says(shop: Shop) -> None:
    """Verdicts, too, have one schema: of a check, of a file of `edgeq matrix`, and of a report."""
    report = read_report(shop.folder / "report.html")
    same(Report)(shop, json.loads(report.model_dump_json()))
    for verdict in report.verdicts:
        same(Verdict)(shop, json.loads(verdict.model_dump_json()))
    assert json.loads(shop.run("schema")[0]) == recipe_schema()


def commands() -> list[str]:
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_command_is_looked_at() -> None:
    covered = {name.split()[0] for name in COMMANDS} | ELSEWHERE | {"report"}
    assert covered == set(commands())


@pytest.mark.parametrize("command", commands())
def test_help_shows_examples_one_a_line(shop: Shop, command: str) -> None:
    out, _ = shop.run(command, "--help")
    assert max(map(len, out.splitlines())) <= 80
    found = re.search(r"Examples?:\s+(.*)", out, re.DOTALL)
    assert found is not None
    shown = [line.strip() for line in found[1].splitlines() if line.strip()]
    assert shown
    assert all(line.startswith(f"edgeq {command}") for line in shown)
    assert "(needs .)" not in out  # brackets are markup
    has_json = "--json" in out
    assert has_json or command == "schema"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal on Windows")
@pytest.mark.parametrize(("more", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=str)
def test_colour_is_for_a_terminal_that_wants_it(
    shop: Shop, more: dict[str, str], colour: bool
) -> None:
    """A sound file is told in green; bold and dim are no colours."""
    both_files(shop)
    size = {"COLUMNS": "80", "TERM": "xterm-256color"}
    text = edgeq_in_terminal(*COMMANDS["audit"], cwd=shop.folder, **size, **more)
    assert "Sound: every tensor" in text
    assert bool(re.search(r"\x1b\[[\d;]*3\dm", text)) == colour


def test_a_console_is_no_wider_than_80_columns(tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("w+") as file:
        console = make_console(file)
        console.print("a  ")
        console.print("b " * 100)
        file.seek(0)
        lines = file.read().splitlines()
    assert lines[0] == "a"
    assert max(map(len, lines)) <= 80
