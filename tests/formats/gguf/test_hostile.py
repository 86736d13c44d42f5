"""`edgeq audit` on files that mean harm: an error or a finding, little memory, never a crash."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

from edgeq.formats.gguf.header import MetaValue
from edgeq.pipeline.audit.run import audit
from tests.formats.gguf.test_header import DAMAGED
from tests.support.audited import changed
from tests.support.commands import refused, run_edgeq
from tests.support.gguf_artifacts import WREN, write_file
from tests.support.gguf_files import array, gguf, pair, string, tensor, valid, write

MIB = 1 << 20
SLACK = 12 * MIB  # what the command itself needs, whatever the file
F32 = 0
MORE = {
    **{f"cut off at byte {at}": valid()[:at] for at in range(3, len(valid()) - 600, 37)},
    "nothing but zeros": bytes(4096),
    "not a model": b"%PDF-1.7\n" * 100,
    "a pickle": b"\x80\x04\x95" + bytes(500),
    "nested arrays": gguf([pair("a", 9, struct.pack("<IQ", 9, 1) * 100_000)]),
    "many empty strings": gguf([pair("a", 9, array(8, 1 << 22, b""))], data=bytes(1 << 20)),
    "a long array that ends early": gguf([pair("a", 9, array(4, 1 << 20, bytes(1 << 20)))]),
    "a large file of claims": gguf(
        [pair("a", 8, struct.pack("<Q", 2**63 - 1))], data=bytes(8 * MIB)
    ),
    "many tensors in one place": gguf(
        tensors=[tensor(f"t{n}", (8,), F32, 0) for n in range(1000)], data=bytes(64)
    ),
    "a name of control characters": gguf(
        [pair("a\x1b]0;x\x07[bold red]", 99, b"")],
    ),
}
REFUSED = {**{name: content for name, (content, _) in DAMAGED.items()}, **MORE}

# One process imports the command once; each file is then audited in a fork of it, whose memory may
# grow by the size of the file and no more.
HARNESS = f"""
import json, os, resource, sys
import edgeq.cli.main, edgeq.pipeline.audit.run, edgeq.report.audit

def grown():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmData")).split()[1]) * 1024

def run(path):
    limit = grown() + os.path.getsize(path) + {SLACK}
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{{path}}.{{kind}}", os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["edgeq", "audit", path]
    edgeq.cli.main.main()

answers = {{}}
for path in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            run(path)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:
            print("Traceback", repr(error), file=sys.stderr)
            code = 99
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)
    answers[path] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(answers))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux only")
def test_malformed_files_are_refused_within_their_size(tmp_path: Path) -> None:
    paths = {
        name: write(tmp_path / f"{index}.gguf", content)
        for index, (name, content) in enumerate(REFUSED.items())
    }
    command = [sys.executable, "-c", HARNESS, *map(str, paths.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    assert len(REFUSED) > 60
    for name, path in paths.items():
        said = Path(f"{path}.err").read_text(encoding="utf-8")
        assert answers[str(path)] == 2, (name, said)
        assert said.startswith(f"error: {path}: "), (name, said)
        assert "Traceback" not in said
        assert Path(f"{path}.out").read_text() == ""


def test_the_real_command_refuses_them_too(tmp_path: Path) -> None:
    for name in ("huge number of tensors", "overlapping", "cut off"):
        path = write(tmp_path / "x.gguf", REFUSED[name])
        said = refused(run_edgeq("audit", path, store=tmp_path, cwd=tmp_path), 2)
        assert "x.gguf: byte" in said
        done = run_edgeq("audit", path, "--json", store=tmp_path, cwd=tmp_path)
        assert done.returncode == json.loads(done.stdout)["exit_status"] == 2


@pytest.fixture(scope="module")
def wren(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(WREN, tmp_path_factory.mktemp("hostile") / "wren-Q8_0.gguf", "Q8_0")


def number(value: int) -> MetaValue:
    return MetaValue("uint32", value)


NONSENSE: dict[str, dict[str, MetaValue | None]] = {
    "architecture of nobody": {"general.architecture": MetaValue("string", "nonsense")},
    "a billion layers": {"llama.block_count": number(10**9)},
    "no layers": {"llama.block_count": number(0)},
    "no heads": {"llama.attention.head_count": number(0)},
    "more heads than width": {"llama.attention.head_count": number(2**31)},
    "another width": {"llama.embedding_length": number(2**31 - 256)},
    "no context": {"llama.context_length": number(0)},
    "heads as text": {"llama.attention.head_count": MetaValue("string", "four")},
    "endless rope": {"llama.rope.dimension_count": number(2**31)},
    "vocabulary of another size": {
        "tokenizer.ggml.tokens": MetaValue("array", ["a"] * 3, "string"),
        "tokenizer.ggml.token_type": MetaValue("array", np.ones(3, "<i4"), "int32"),
    },
    "merges of nothing": {"tokenizer.ggml.merges": MetaValue("array", ["", "a"], "string")},
    "token types of nobody": {
        "tokenizer.ggml.token_type": MetaValue("array", np.full(4096, 77, "<i4"), "int32")
    },
    "a first token out of range": {
        "tokenizer.ggml.bos_token_id": number(2**31),
        "tokenizer.ggml.add_bos_token": MetaValue("bool", True),
    },
    "experts that are not there": {
        "llama.expert_count": number(64),
        "llama.expert_used_count": number(8),
    },
}


@pytest.mark.parametrize("case", NONSENSE)
def test_what_the_library_cannot_open_is_a_finding(wren: Path, tmp_path: Path, case: str) -> None:
    """Whole files whose metadata lie: this process survives whatever the library makes of them."""
    found = audit(changed(wren, tmp_path / "x-Q8_0.gguf", NONSENSE[case]))
    assert found.loading.how == "measured"
    if found.loading.passed:
        assert "llama.cpp" in found.loading.detail
    else:
        assert not found.sound
        assert any(finding.subject == "loading" for finding in found.findings)
        assert found.loading.detail and "Traceback" not in found.loading.detail


def test_tensors_that_are_not_there_are_a_finding(wren: Path, tmp_path: Path) -> None:
    path = changed(wren, tmp_path / "x-Q8_0.gguf", without=("blk.3.ffn_up.weight",))
    found = audit(path)
    assert found.loading.passed is False
    assert "blk.3.ffn_up.weight" in found.loading.detail
    assert not found.sound


def test_a_great_many_small_tensors_take_bounded_memory(tmp_path: Path) -> None:
    count = 1 << 13
    entries = [tensor(f"{n:x}", (1,), F32, n * 32) for n in range(count)]
    keys = [pair("general.architecture", 8, string("nonsense"))]
    path = write(tmp_path / "many.gguf", gguf(keys, entries, bytes(32 * count)))
    found = audit(path)
    assert len(found.tensors) == count
    zeros = [finding for finding in found.findings if finding.subject == "weights"]
    assert len(zeros) == 1 and f"and {count - 1} other tensors of zeros" in zeros[0].what
    dumped: dict[str, Any] = found.model_dump(mode="json")
    assert sum(line["problem"] is not None for line in dumped["tensors"]) == count


def test_the_process_of_the_library_leaves_no_core(wren: Path, tmp_path: Path) -> None:
    path = changed(wren, tmp_path / "x.gguf", NONSENSE["a billion layers"])
    before = set(tmp_path.iterdir())
    audit(path)
    assert set(tmp_path.iterdir()) == before
