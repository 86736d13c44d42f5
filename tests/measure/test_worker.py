"""Real worker processes on real models: what they reply, and how their end is told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import edgeq
from edgeq.core.artifact import DATA_FILE, MODEL_FILE
from edgeq.core.errors import InvalidInput, Missing
from edgeq.measure.arrays import read_arrays, write_arrays
from edgeq.places.process import PassFailed, Request, run_worker
from tests.support import samples


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(cache))


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.sentence_artifact(tmp_path_factory.mktemp("sentence") / "artifact", width=512)


@pytest.fixture(scope="module")
def tensor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.tensor_artifact(tmp_path_factory.mktemp("tensor") / "artifact")


def test_latency_keeps_raw_samples(sentence: Path) -> None:
    reply = run_worker(Request(work="latency", artifact=sentence, text="a cat sat", threads=1))
    assert reply["runs"] == len(reply["seconds"]) == 128
    assert min(reply["seconds"]) > 0
    assert reply["load_seconds"] > 0
    # The sample artifact takes 16 tokens at most; the text is repeated to fill them.
    assert reply["inputs"] == f"sequence length {samples.MAX_TOKENS}, batch 1"
    assert (reply["threads"], reply["prepared"], reply["warnings"]) == (1, True, [])
    assert reply["runtime"].startswith("onnxruntime ")


@pytest.mark.skipif(sys.platform != "linux", reason="tells anonymous from mapped pages")
def test_memory_counts_the_weights_as_mapped(tmp_path: Path) -> None:
    big = samples.tensor_artifact(tmp_path / "big", width=2048)
    weights = (big / DATA_FILE).stat().st_size
    reply = run_worker(Request(work="memory", artifact=big))
    baseline, ran = reply["baseline"], reply["ran"]
    assert reply["prepared"]
    assert ran["file_mapped_bytes"] - baseline["file_mapped_bytes"] > 0.9 * weights
    assert ran["anonymous_bytes"] - baseline["anonymous_bytes"] < 0.5 * weights
    assert reply["high_water_bytes"] >= max(ran["resident_bytes"], reply["anonymous_peak_bytes"])
    assert reply["anonymous_peak_bytes"] >= ran["anonymous_bytes"]


def test_quality_gives_what_the_app_would_get(sentence: Path, tmp_path: Path) -> None:
    texts = ("a cat sat", "the dog sat on the red mat", "birds")
    outputs = tmp_path / "outputs"
    reply = run_worker(Request(work="quality", artifact=sentence, texts=texts, outputs=outputs))
    assert reply["inputs"] == "3 texts, one at a time"
    embedded = edgeq.load(sentence).embed(list(texts))
    np.testing.assert_array_equal(np.concatenate(list(read_arrays(outputs))), embedded)


def test_quality_of_arrays(tensor: Path, tmp_path: Path) -> None:
    feeds = samples.tensor_feeds(batch=4)
    np.savez(tmp_path / "data.npz", **feeds)
    outputs = tmp_path / "outputs"
    arrays = tmp_path / "data.npz"
    reply = run_worker(Request(work="quality", artifact=tensor, arrays=arrays, outputs=outputs))
    assert reply["inputs"] == "4 evaluation samples"
    logits = edgeq.load(tensor).run(feeds)["logits"]
    found = np.concatenate(list(read_arrays(outputs)))
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)


def test_arrays_are_given_or_made_up(tensor: Path, tmp_path: Path) -> None:
    feeds = samples.tensor_feeds(batch=2)
    write_arrays(tmp_path / "feed", [feeds["features"], feeds["kind"]])
    given = run_worker(Request(work="memory", artifact=tensor, feed=tmp_path / "feed"))
    assert given["inputs"] == "first sample of the data: features 2×512, kind 2"
    made_up = run_worker(Request(work="memory", artifact=tensor))
    assert made_up["inputs"].startswith("no evaluation data")
    assert "features 1×512, kind 1" in made_up["inputs"]


def test_a_changed_artifact_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    model = artifact / MODEL_FILE
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(InvalidInput, match=r"model\.onnx: was changed") as raised:
        run_worker(Request(work="latency", artifact=artifact))
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].remedy
    assert capfd.readouterr().err == ""  # whoever started the command is told once


@pytest.mark.parametrize(
    ("raised", "fault"),
    [
        ("InvalidInput(Problem('a', 'b', 'c'))", InvalidInput),
        ("Missing([Problem('a', 'b'), Problem('d', 'e')])", Missing),
        ("NotComputed(Problem('a', 'b'))", PassFailed),
        ("RuntimeError('a')", PassFailed),
        ("SystemExit(2)", PassFailed),
    ],
)
def test_only_what_was_asked_wrongly_is_no_failed_pass(
    raised: str, fault: type[Exception], tensor: Path, tmp_path: Path
) -> None:
    # Becomes the worker, whose pass is replaced.
    program = (
        "import sys\n"
        "from edgeq.core.errors import InvalidInput, Missing, NotComputed, Problem\n"
        "from edgeq.measure import sample_passes\n"
        "def watch_sample(request):\n"
        f"    raise {raised}\n"
        "sample_passes.watch_sample = watch_sample\n"
        "start, sys.argv = sys.argv[-2], sys.argv[-2:]\n"
        "exec(start)\n"
    )
    (tmp_path / "becomes.py").write_text(program)
    prefix = [sys.executable, str(tmp_path / "becomes.py")]
    with pytest.raises(fault) as found:
        run_worker(Request(work="memory", artifact=tensor), prefix=prefix)
    assert type(found.value) is fault


def kill_next_child(before: set[int]) -> None:
    """SIGKILL the first child process that appears, as the system does when memory runs out."""
    for _ in range(2000):
        for child in psutil.Process().children():
            if child.pid not in before:
                child.kill()
                return
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="has no signals")
def test_a_killed_worker_is_a_failed_pass(sentence: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    killer = threading.Thread(target=kill_next_child, args=(before,))
    killer.start()
    with pytest.raises(PassFailed, match=r"the memory pass was killed by SIGKILL.*memory runs out"):
        run_worker(Request(work="memory", artifact=sentence))
    killer.join()


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_worker_out_of_memory_is_a_failed_pass(tensor: Path, tmp_path: Path) -> None:
    program = (
        "import resource\n"
        "from pathlib import Path\n"
        "from edgeq.places.process import PassFailed, Request, run_worker\n"
        # Enough for what this process is now; the worker needs a runtime and the model besides.
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "limit = pages * resource.getpagesize() + (16 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n"
        f"    run_worker(Request(work='memory', artifact=Path({str(tensor)!r})))\n"
        "except PassFailed as error:\n"
        "    print('failed:', error)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "EDGEQ_CACHE": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert found.stdout.startswith("failed: the memory pass "), found.stderr


def test_a_worker_that_takes_too_long_is_stopped(sentence: Path) -> None:
    with pytest.raises(PassFailed, match=r"did not finish within 0\.01 s and was stopped"):
        run_worker(Request(work="latency", artifact=sentence), timeout_seconds=0.01)
    assert not [c for c in psutil.Process().children() if "edgeq.measure.worker" in c.cmdline()]


@pytest.mark.skipif(sys.platform == "win32", reason="has no sh")
def test_a_prefix_becomes_the_worker_and_sees_its_environment(tensor: Path, tmp_path: Path) -> None:
    prefix = ["/bin/sh", "-c", 'echo "$EDGEQ_TEST $$" > "$0" && exec "$@"', str(tmp_path / "said")]
    reply = run_worker(
        Request(work="memory", artifact=tensor), prefix=prefix, environment={"EDGEQ_TEST": "a b"}
    )
    assert reply["runs"] > 0
    assert (tmp_path / "said").read_text().startswith("a b ")


def test_only_the_reply_is_on_standard_output(tensor: Path) -> None:
    # What any library of the worker prints must not end up in the reply.
    program = (
        "import os, sys\n"
        "from edgeq.measure import worker\n"
        "perform = worker.perform\n"
        "def noisy(request):\n"
        "    print('from Python')\n"
        "    os.write(1, b'from C')\n"
        "    return perform(request)\n"
        "worker.perform = noisy\n"
        "sys.exit(worker.main())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        input=Request(work="memory", artifact=tensor).model_dump_json(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout)["runs"] > 0
    assert "from C" in found.stderr
    assert "from Python" in found.stderr
