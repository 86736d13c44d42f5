"""A bundle in an app without edgeq, used as the documentation says, gives the checked answers."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import edgeq
from edgeq.core.known_settings import SESSION_BY_CPU
from tests.conftest import Project
from tests.support.bundles import unchecked_bundle
from tests.support.tiny_bert import LONGEST, sentence

_APP = """\
import json, platform, sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
record = json.load(open(folder + "/bundle.json"))["artifact"]
cpu = open("/proc/cpuinfo").read()
has_vnni = "avx512_vnni" in cpu or "avx_vnni" in cpu
kind = "x86_64" if has_vnni else "x86_64-without-vnni"
kind = kind if platform.machine() == "x86_64" else platform.machine()
options = onnxruntime.SessionOptions()
for name, value in record["settings"]["session_by_cpu"].get(kind, {}).items():
    options.add_session_config_entry(name, value)
session = onnxruntime.InferenceSession(folder + "/model.onnx", options)
vectors = []
for text in texts:
    ids = np.array([tokenizer.encode(text).ids], np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feeds["token_type_ids"] = np.zeros_like(ids)
    names = [value.name for value in session.get_inputs()]
    (vector,) = session.run(None, {name: feeds[name] for name in names})
    vectors.append(vector[0].tolist())
assert "edgeq" not in sys.modules
print(json.dumps({"vectors": vectors, "cpu": record["settings"]["session_by_cpu"]}))
"""


@pytest.fixture(scope="module")
def bundle(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact as an unpacked bundle."""
    out = tmp_path_factory.mktemp("bundle") / "app.zip"
    unchecked_bundle(Path(project.artifacts["onnx-int4-b32"]["path"]), out)
    with zipfile.ZipFile(out) as archive:
        archive.extractall(out.with_suffix(""))
    return out.with_suffix("")


@pytest.mark.skipif(sys.platform != "linux", reason="the app reads /proc/cpuinfo")
def test_tokenizers_and_onnxruntime_alone_give_the_vectors_that_were_checked(
    bundle: Path, tmp_path: Path
) -> None:
    texts = [sentence(1, 2), sentence(2, 17), sentence(3, 3 * LONGEST)]
    command = [sys.executable, "-I", "-c", _APP, str(bundle), json.dumps(texts)]
    answer = json.loads(subprocess.check_output(command, cwd=tmp_path))
    wanted = edgeq.load(bundle).embed(texts)
    np.testing.assert_allclose(np.array(answer["vectors"], np.float32), wanted, atol=1e-6)
    assert answer["cpu"] == SESSION_BY_CPU
