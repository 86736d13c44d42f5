"""Core ML packages, loaded and run: by the executor here, by a stand-in where Core ML would be."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("coremltools", reason="coremltools is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import edgeq
from edgeq.core.artifact import COREML_PACKAGE, read_record, record_files, write_artifact
from edgeq.core.errors import InvalidInput, NotComputed
from edgeq.formats.coreml import backend, executor, open_backend
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.decoder import CoremlDecoder
from edgeq.formats.language import LanguageModel
from edgeq.formats.package import open_package
from edgeq.measure.bench import Bench
from edgeq.measure.inputs import Evaluation
from edgeq.places.place import Here
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.recipe.budgets import Workload
from tests.support import tiny_bert
from tests.support.bundles import unchecked_bundle
from tests.support.commands import run_edgeq
from tests.support.coreml_artifacts import coreml_decoder_artifact
from tests.support.decoder_artifacts import WREN, decoder_artifact, float_graph, nearest_codes
from tests.support.terminal import edgeq_in_terminal

CONTEXT = 128
RECIPE = """\
edgeq: 1
name: tiny
model: {source: tiny, task: sentence-embedding}
quantize: {default: {weights: int4-b32, method: nearest}}
coreml: {compute: float32, lengths: [16, 48]}
targets:
  - {format: onnx, devices: [here]}
  - {format: coreml, devices: [macbook-air-m2]}
"""
TEXTS = ["ba", tiny_bert.sentence(1, 12), tiny_bert.sentence(2, 30), tiny_bert.sentence(3, 200)]


@dataclass(frozen=True)
class Pair:
    """One model on two runtimes, from the same codes."""

    coreml: Path
    onnx: Path


@pytest.fixture(scope="module")
def encoders(tiny: Path, tiny_store: Path) -> Pair:
    (tiny.parent / "coreml.yaml").write_text(RECIPE)
    store = tiny_store
    done = run_edgeq("build", "coreml.yaml", "--json", store=store, cwd=tiny.parent)
    assert done.returncode == 0, done.stderr
    paths = [Path(item["path"]) for item in json.loads(done.stdout)["artifacts"]]
    made = {read_record(path).format: path for path in paths}
    return Pair(made["coreml"], made["onnx"])


@dataclass(frozen=True)
class Wren:
    """The small real language model on int4-b32 codes; graph is its ONNX artifact."""

    half: Path
    single: Path
    graph: Path
    codes: dict[str, QuantizedTensor]


@pytest.fixture(scope="module")
def wren(tmp_path_factory: pytest.TempPathFactory) -> Wren:
    folder = tmp_path_factory.mktemp("wren")
    graph = float_graph(WREN, folder / "float")
    codes = nearest_codes(graph, "int4-b32")
    half, single = (
        coreml_decoder_artifact(WREN, folder / compute, codes, compute=compute, context=CONTEXT)
        for compute in ("float16", "float32")
    )
    return Wren(half, single, decoder_artifact(WREN, graph, folder / "onnx", codes), codes)


def with_float_inputs(artifact: Path) -> Path:
    """The ONNX artifact with products that take floats as they are: no rounding to 8 bits."""
    model = onnx.load(artifact / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 0
    onnx.save(model, artifact / "model.onnx")
    record = read_record(artifact)
    files = record_files(artifact, list(record.files))
    write_artifact(artifact, record.model_copy(update={"files": files}))
    return artifact


def opened(path: Path, **options: Any) -> LanguageModel:
    model = edgeq.load(path, **options)
    assert isinstance(model, LanguageModel)
    return model


def test_embeddings_are_those_of_the_onnx_artifact(encoders: Pair) -> None:
    model, other = edgeq.load(encoders.coreml), edgeq.load(encoders.onnx)
    found, expected = model.embed(TEXTS), other.embed(TEXTS)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert (np.sum(found * expected, axis=1) > 0.9999).all()
    assert model.tokens(TEXTS[3]) == other.tokens(TEXTS[3])  # both are cut at 48
    assert len(model.tokens(TEXTS[3])) == 48
    assert model.is_reference and "executor" in model.runtime and model.threads == 1


def test_a_text_is_filled_up_to_the_next_length_and_no_longer(encoders: Pair) -> None:
    model = edgeq.load(encoders.coreml)
    feeds = model.tokenize(TEXTS[1])
    short = model.run(feeds)["sentence_embedding"]
    by_hand = {
        name: np.pad(array, [(0, 0), (0, 48 - array.shape[1])]) for name, array in feeds.items()
    }
    assert np.allclose(short, model.run(by_hand)["sentence_embedding"], atol=1e-6)
    long = {name: np.resize(array, (1, 49)) for name, array in feeds.items()}
    with pytest.raises(InvalidInput, match=r"has shape \(1, 49\)\n.*\(1, 16\) or \(1, 48\)"):
        model.run(long)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda feeds: feeds.pop("input_ids"), "input 'input_ids': is missing"),
        (lambda feeds: feeds.update(other=feeds["input_ids"]), "input 'other': is not an input"),
        (lambda feeds: feeds.update(input_ids=np.ones((1, 16))), "has dtype float64"),
        (lambda feeds: feeds.update(input_ids=feeds["input_ids"] + 2**40), "has dtype int64"),
        (lambda feeds: feeds.update(input_ids=np.ones(16, np.int32)), r"has shape \(16,\)"),
    ],
)
def test_what_the_package_does_not_take_is_named(encoders: Pair, change: Any, said: str) -> None:
    model = edgeq.load(encoders.coreml)
    feeds = model.tokenize("ba be")
    change(feeds)
    with pytest.raises(InvalidInput, match=said):
        model.run(feeds)


def test_arguments_that_do_not_fit_are_refused(encoders: Pair, wren: Wren) -> None:
    with pytest.raises(InvalidInput, match="no context to set"):
        edgeq.load(encoders.coreml, context=16)
    with pytest.raises(InvalidInput, match=r"'gpu' are not compute units"):
        edgeq.load(encoders.coreml, compute_units="gpu")
    with pytest.raises(InvalidInput, match="only Core ML has selectable compute units"):
        edgeq.load(encoders.onnx, compute_units="all")
    with pytest.raises(InvalidInput, match=r"129 positions are requested.*made for 128"):
        edgeq.load(wren.half, context=129)


def test_a_bundle_is_loaded_zipped_and_unzipped(encoders: Pair, tmp_path: Path) -> None:
    bundle = unchecked_bundle(encoders.coreml, tmp_path / "tiny.zip")
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "open")
    expected = edgeq.load(encoders.coreml).embed(TEXTS[:2])
    for path in (bundle, tmp_path / "open", bundle):  # the last one finds what was unpacked
        assert np.array_equal(edgeq.load(path).embed(TEXTS[:2]), expected)


def test_a_changed_file_of_the_package_is_refused_by_name(encoders: Pair, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(encoders.coreml, changed)
    (changed / COREML_PACKAGE / "Manifest.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"model\.mlpackage/Manifest\.json"):
        edgeq.load(changed)


@pytest.mark.parametrize("text", ["Once upon a time", "The bird", "A", "In the morning the sea"])
def test_64_tokens_are_those_of_the_onnx_artifact(wren: Wren, text: str, tmp_path: Path) -> None:
    shutil.copytree(wren.graph, tmp_path / "graph")
    other = opened(with_float_inputs(tmp_path / "graph"))
    model = opened(wren.single)
    ids = other.prompt_tokens(text)
    assert list(model.draw(ids, 64)) == list(other.draw(ids, 64))


def test_fp16_stays_as_near_as_fp16_is(wren: Wren) -> None:
    half, single = opened(wren.half), opened(wren.single)
    ids = np.arange(3, 99, dtype=np.int32)
    difference = np.abs(half.logits(ids) - single.logits(ids))
    assert 0 < difference.max() < 0.02 * np.abs(single.logits(ids)).max()


def test_pieces_of_any_size_give_the_same(wren: Wren, monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding in float32; the cache's float16 adds what another order of sums tips over."""
    ids = np.random.default_rng(0).integers(3, 600, CONTEXT - 5)
    exact = functools.partial(executor.load, precision="float32")
    for load, most in ((executor.load, 4e-3), (exact, 1e-4)):
        monkeypatch.setattr(backend, "load", load)
        model = opened(wren.single)
        whole = model.logits(ids)
        for piece in (1, 7, 33):
            assert np.abs(model.last_logits(ids, len(ids), piece) - whole).max() < most
        assert np.allclose(model.prefill(ids), whole[-1], atol=1e-4)
        assert model.cache_bytes(1) == model.cache_bytes(CONTEXT) == 2 * 12 * 2 * CONTEXT * 64


def test_every_position_can_be_used_and_no_more(wren: Wren) -> None:
    """Near the end a piece that is filled up would not fit: shorter calls take its place."""
    model = opened(wren.single)
    ids = np.random.default_rng(1).integers(3, 600, CONTEXT)
    model.prefill(ids[:100])
    assert np.allclose(model.last_logits(ids, len(ids), 100)[-1], model.prefill(ids), atol=1e-3)
    with pytest.raises(InvalidInput, match="0 of 128 positions are left"):
        model.step(5)
    with pytest.raises(InvalidInput, match="exceed the 128 positions"):
        model.draw(ids[:100], 40)
    narrow = opened(wren.single, context=40)
    with pytest.raises(InvalidInput, match="load the model with a larger context, 128 at most"):
        narrow.prefill(ids[:41])


def test_its_own_end_token_ends_a_text(wren: Wren) -> None:
    model = opened(wren.half)
    assert model.end_tokens == opened(wren.graph).end_tokens
    assert "".join(model.generate("Once upon", 8)) == model.text(
        list(model.draw(model.prompt_tokens("Once upon"), 8))
    )


def test_quality_is_a_divergence_from_another_package(wren: Wren, tmp_path: Path) -> None:
    bench = Bench(
        wren.single,
        Evaluation(WREN.parent / "data" / "wren-evaluation.txt", 2),
        place=Here(),
        effort="quick",
        progress=lambda step: None,
        folder=tmp_path,
        workload=Workload(context=40, prompt=8, generate=4),
    )
    measured, beside = bench.measure(wren.half)
    assert set(measured.absent) == {"memory", "latency"} and beside.language is None
    assert measured.language is not None
    found = measured.language
    assert 0 < found.divergence.kl.mean < 1e-3 and found.divergence.noise_floor < 1e-6
    assert found.conditions.inputs == "2 windows of 40 tokens, context 40 in f16"
    assert found.conditions.reference and found.conditions.warnings == ()


def in_a_process(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_nothing_heavy_is_imported_and_nothing_said(wren: Wren) -> None:
    heavy = ("coremltools", "onnxruntime", "torch", "transformers")
    code = (
        "import sys, edgeq; model = edgeq.load(sys.argv[1]); print(*model.generate('A', 2));"
        f"assert not set(sys.modules) & {set(heavy)}"
    )
    done = in_a_process(code, wren.half)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip()


def in_a_terminal(*arguments: str | Path) -> str:
    """What `edgeq run` shows a person: times are not written into a pipe."""
    return " ".join(edgeq_in_terminal("run", *arguments, cwd=Path.cwd(), TERM="dumb").split())


def test_times_of_the_reference_are_called_so(wren: Wren, encoders: Pair) -> None:
    for arguments in ((wren.half, "--prompt", "A", "--max-tokens", "2"), (encoders.coreml, "ba")):
        assert "measured here, by edgeq's executor" in in_a_terminal(*arguments)


def test_without_coremltools_the_extra_is_named(wren: Wren) -> None:
    code = "import sys; sys.modules['coremltools'] = None; from edgeq.cli.main import main; main()"
    done = in_a_process(code, "run", wren.half, "--prompt", "A")
    assert done.returncode == 3 and 'pip install ".[coreml]"' in done.stderr


class StandIn:
    """In place of coremltools' `MLModel`, which only macOS can load: the executor under its API."""

    def __init__(self, path: str, compute_units: Any) -> None:
        self.path, self.units = path, compute_units
        self._program = executor.load(path)

    def predict(self, data: dict[str, Any], state: Any = None) -> dict[str, Any]:
        return self._program.predict(data, state)

    def make_state(self) -> Any:
        return self._program.make_state()

    def get_compiled_model_path(self) -> str:
        return self.path


class Operation:
    def __init__(self, unit: str | None, cost: float, *blocks: Any) -> None:
        self.unit, self.cost, self.blocks = unit, cost, blocks


class Block:
    def __init__(self, *operations: Operation) -> None:
        self.operations = operations
        self.block = self


class Plan:
    """In place of `MLComputePlan`: six operators that run, one constant, one of them nested."""

    def __init__(self) -> None:
        neural, graphics, plain = (
            "MLNeuralEngineComputeDevice",
            "MLGPUComputeDevice",
            "MLCPUComputeDevice",
        )
        inner = Block(Operation(plain, 0.05))
        self.model_structure = self.program = self
        self.functions = {
            "main": Block(
                Operation(None, 0.0),
                *(Operation(neural, 0.2) for _ in range(3)),
                Operation(graphics, 0.3, inner),
                Operation(plain, 0.05),
            )
        }

    @classmethod
    def load_from_path(cls, path: str, compute_units: Any) -> Plan:
        return cls()

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Operation) -> Any:
        if operation.unit is None:
            return None
        device = type(operation.unit, (), {})()
        return type("Usage", (), {"preferred_compute_device": device})()

    def get_estimated_cost_for_mlprogram_operation(self, operation: Operation) -> Any:
        return type("Cost", (), {"weight": operation.cost})()


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Any:
    tools = load_coremltools()
    from coremltools.models import compute_plan

    monkeypatch.setattr(tools.models, "MLModel", StandIn)
    monkeypatch.setattr(tools.models, "CompiledMLModel", StandIn)
    monkeypatch.setattr(compute_plan, "MLComputePlan", Plan)
    monkeypatch.setattr(open_backend, "runs_here", lambda: True)
    return tools


def test_on_macos_core_ml_itself_is_asked(apple: Any, wren: Wren, encoders: Pair) -> None:
    model = edgeq.load(encoders.coreml, compute_units="cpu_and_ne")
    assert "Core ML" in model.runtime and "cpu_and_ne" in model.runtime and not model.is_reference
    assert model.embed(["ba"]).shape == (1, tiny_bert.HIDDEN)
    language = opened(wren.half)
    assert "compute units all" in language.runtime and "".join(language.generate("A", 3))
    facts = model.facts()
    assert facts["compiled_load_seconds"] > 0
    placement = facts["placement"]
    assert (placement["compute_units"], placement["operators"]) == ("cpu_and_ne", 6)
    assert placement["share"] == {"cpu": 2 / 6, "gpu": 1 / 6, "npu": 3 / 6}
    assert placement["cost"] == pytest.approx({"cpu": 0.1, "gpu": 0.3, "npu": 0.6})


def test_what_core_ml_refuses_is_said_in_its_words(
    apple: Any, wren: Wren, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(StandIn):
        def __init__(self, path: str, compute_units: Any) -> None:
            warnings.warn("predict() is not possible: compiler error", RuntimeWarning, stacklevel=1)

        def get_compiled_model_path(self) -> str:
            raise Exception("This model was not loaded")

    monkeypatch.setattr(apple.models, "MLModel", Refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotComputed, match="compiler error"):
            edgeq.load(wren.half)


def test_a_run_that_core_ml_stops_names_the_package(
    apple: Any, wren: Wren, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(StandIn, "predict", stop)
    with pytest.raises(NotComputed, match=r"model\.mlpackage: Core ML stopped: out of memory"):
        opened(wren.half).prefill([3])


def test_a_package_of_others_is_no_language_model(wren: Wren) -> None:
    package = open_package(wren.half)
    backend = Unmarked(package.path / COREML_PACKAGE, 1)
    with pytest.raises(InvalidInput, match="not a language model with a cache written by edgeq"):
        CoremlDecoder(package, backend, None)


class Unmarked(backend.ReferenceBackend):
    """A package whose author wrote nothing into it."""

    def __init__(self, path: Path, threads: int) -> None:
        super().__init__(path, threads)
        self.interface = replace(self.interface, metadata={})
