"""Recovery from recipe to files: one training for two formats, and no look at evaluation text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="recovery is not installed")
pytest.importorskip("transformers", reason="recovery is not installed")
pytest.importorskip("onnx_ir", reason="language models are not installed")
pytest.importorskip("gguf", reason="gguf is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

import edgeq
from edgeq.core.artifact import ADAPTER_FILE, GGUF_FILE, Artifact, read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.formats.language import LanguageModel
from edgeq.pipeline.plan.plan import make_plan
from edgeq.quantize.adapter import NUMBER_FORMAT
from tests.support import tiny_decoders
from tests.support.bundles import unchecked_bundle

ROOT = Path(__file__).parents[2]
RECIPE = """\
edgeq: 1
name: recovered
model: {source: ./model, task: text-generation, licence: apache-2.0}
data:
  calibration: {path: calibration.txt, samples: 16}
  evaluation: {path: evaluation.txt, samples: 2}
quantize:
  default:
    - {name: plain, weights: Q4_0, method: nearest}
    - {name: low, weights: Q4_0, method: nearest, recover: {rank: 2, steps: 2}}
    - {name: same, weights: int4-b32, method: nearest, recover: {rank: 3, steps: 1}}
targets:
  - {format: gguf, devices: [here]}
  - {format: onnx, devices: [here]}
workload: {context: 128, prompt: 16, generate: 4}
"""
# A plan reads evaluation text, to refuse passages that are in the calibration text too.
PROGRAM = """
import json, sys
from pathlib import Path
from edgeq.pipeline.build.build import build
from edgeq.pipeline.plan.plan import make_plan
from edgeq.core.store import Store
planned = make_plan(Path("recipe.yaml"), weights=True)
opened = set()
sys.addaudithook(lambda event, given: opened.add(str(given[0])) if event == "open" else None)
built = build(planned, Store(Path("store")), str)
print(json.dumps({
    "paths": {item.artifact.name: str(item.path) for item in built},
    "opened": [name for name in ("calibration", "evaluation")
               if any(name + ".txt" in path for path in opened)],
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recovered")
    tiny_decoders.make(folder / "model", "smollm2")
    for name in ("calibration", "evaluation"):
        text = " ".join(f"{name} word {n} of a {name} text." for n in range(900))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def told(project: Path) -> dict[str, object]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=project, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def built(project: Path, told: dict[str, dict[str, str]]) -> dict[str, tuple[Path, Artifact]]:
    places = {name: project / path for name, path in told["paths"].items()}
    return {name: (path, read_artifact(path)) for name, path in places.items()}


def logits(path: Path, ids: list[int]) -> np.ndarray:
    model = edgeq.load(path, threads=1, context=64)
    assert isinstance(model, LanguageModel)
    return model.logits(ids)


def test_no_gain_from_the_evaluation_text(told: dict[str, object]) -> None:
    assert told["opened"] == ["calibration"]


def test_the_adapter_is_a_file_of_its_own_or_in_the_graph(
    built: dict[str, tuple[Path, Artifact]],
) -> None:
    assert set(built) == {"gguf-plain", "gguf-low", "gguf-same", "onnx-same"}
    (plain, bare), (low, artifact) = built["gguf-plain"], built["gguf-low"]
    assert set(artifact.files) == {GGUF_FILE, ADAPTER_FILE}
    assert (low / GGUF_FILE).read_bytes() == (plain / GGUF_FILE).read_bytes()
    assert artifact.bytes == bare.bytes + (low / ADAPTER_FILE).stat().st_size
    assert "recovery" not in bare.settings and bare.settings["recover"] is None
    record = artifact.settings["recovery"]
    assert (record["rank"], record["steps"], record["seed"]) == (2, 2, 0)
    assert record["kl_after"] < record["kl_before"]
    assert (
        artifact.bytes_by_number_format()[NUMBER_FORMAT]
        == artifact.weight_bytes - bare.weight_bytes
    )


def test_formats_of_one_rounding_share_an_adapter(
    project: Path, built: dict[str, tuple[Path, Artifact]]
) -> None:
    trained = [path for path in (project / "store" / "recover").iterdir() if path.is_dir()]
    assert len(trained) == 2, "one for `low`, and one for both of `same`"
    gguf, onnx = (built[f"{format}-same"][1] for format in ("gguf", "onnx"))
    assert gguf.settings["recovery"] == onnx.settings["recovery"]
    factors = [
        {name: t for name, t in artifact.tensors.items() if name.endswith(".adapter")}
        for artifact in (gguf, onnx)
    ]
    assert factors[0] == factors[1] and len(factors[0]) == 14
    ids = list(range(5, 45))
    here, there = (logits(built[f"{format}-same"][0], ids) for format in ("gguf", "onnx"))
    # Both round inputs to 8 bits in blocks, each in its own way.
    assert np.linalg.norm(here - there) < 0.03 * np.linalg.norm(here)


def test_a_plan_knows_the_sizes(project: Path, built: dict[str, tuple[Path, Artifact]]) -> None:
    for artifact in make_plan(project / "recipe.yaml").plan.artifacts:
        record = built[artifact.name][1]
        planned = {t.name: t.bytes for t in artifact.tensors if t.number_format == NUMBER_FORMAT}
        assert planned == {
            n: t.bytes for n, t in record.tensors.items() if t.number_format == NUMBER_FORMAT
        }
        if artifact.format == "gguf":
            assert artifact.download_bytes == record.bytes


def test_bundles_hold_it_and_a_changed_one_is_refused(
    built: dict[str, tuple[Path, Artifact]], tmp_path: Path
) -> None:
    low, artifact = built["gguf-low"]
    out = tmp_path / "low.zip"
    unchecked_bundle(low, out)
    ids = list(range(5, 45))
    with_adapter = logits(low, ids)
    assert np.array_equal(logits(out, ids), with_adapter)
    assert not np.array_equal(logits(low / GGUF_FILE, ids), with_adapter), "a bare file has none"
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (*artifact.files, "artifact.json"):
        (copy / name).write_bytes((low / name).read_bytes())
    content = bytearray((copy / ADAPTER_FILE).read_bytes())
    content[-1] ^= 1
    (copy / ADAPTER_FILE).write_bytes(content)
    with pytest.raises(InvalidInput, match=ADAPTER_FILE):
        edgeq.load(copy)
