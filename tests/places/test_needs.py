"""What another machine must have: no more than a worker imports, and what pip is told to type."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeq.core.errors import Missing
from edgeq.devices.address import parse_address
from edgeq.places.answers import Greeting
from edgeq.places.file_manifest import Hashes, agent_source, files_below, write_source
from edgeq.places.needs import LLAMAS, PACKAGES, differences, require_packages
from edgeq.places.process import Request
from tests.support import samples

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
BOARD = parse_address("ssh://pi@pi5")


def facts(**more: Any) -> Greeting:
    versions = {"numpy": "2.2.1", "onnxruntime": "1.23.0", "pydantic": "2.10", "tokenizers": "0.21"}
    versions |= {"filelock": "3.16", "platformdirs": "4.3.6", "psutil": "5.9"}
    packages: dict[str, str | None] = {**dict.fromkeys(LLAMAS), **versions}
    told = {"python": "3.11.2", "executable": "/usr/bin/python3", "packages": packages}
    where = {"managed": False, "system": "Linux", "home": "/home/pi", "room": "/home/pi/1"}
    return Greeting(**{**told, **where, **more})


def remedy_of(told: Greeting, gguf: bool = False) -> tuple[str, str]:
    with pytest.raises(Missing) as raised:
        require_packages(BOARD, told, gguf=gguf)
    (problem,) = raised.value.problems
    assert problem.where == "ssh://pi@pi5"
    return problem.what, problem.remedy


def test_versions_are_those_of_the_project() -> None:
    core = PROJECT.split("dependencies = [", 1)[1].split("\n]", 1)[0]
    declared = dict(re.findall(r'"([\w.-]+)((?:>=|==)[^"]*)"', core))
    assert {name: declared[name] for name in PACKAGES} == PACKAGES


def test_a_worker_needs_no_more_than_that(tmp_path: Path) -> None:
    artifact = samples.sentence_artifact(tmp_path / "artifact")
    core = PROJECT.split("dependencies = [", 1)[1].split("\n]", 1)[0]
    others = set(re.findall(r'^  "([\w.-]+)>', core, re.MULTILINE)) - set(PACKAGES)
    assert others
    hide = "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split(','))); "
    names = ",".join(name.split(".")[0] for name in others)
    for work in ("from edgeq.measure.worker import main", "from edgeq.places.facts import main"):
        done = subprocess.run(
            [sys.executable, "-c", f"{hide}{work}; sys.exit(main())", names],
            input=Request(work="memory", artifact=artifact).model_dump_json(),
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr


def test_a_machine_that_has_all_is_let_through() -> None:
    require_packages(BOARD, facts(), gguf=False)


def test_what_is_absent_or_of_another_version_is_named_with_the_command() -> None:
    told = facts()
    told.packages.update({"numpy": "2.4.0", "tokenizers": None})
    what, remedy = remedy_of(told)
    assert what == (
        "its Python 3.11.2 (/usr/bin/python3) lacks numpy>=1.26,<2.4 (has 2.4.0), tokenizers>=0.20"
    )
    assert remedy == (
        "run there: /usr/bin/python3 -m pip install 'numpy>=1.26,<2.4' 'tokenizers>=0.20'; or "
        "measure without Python, by a copy of onnxruntime's library for that machine on this one: "
        "ssh://pi@pi5?library=/path/here"
    )


def test_a_python_of_the_distribution_is_left_alone() -> None:
    told = facts(managed=True)
    told.packages["tokenizers"] = None
    _, remedy = remedy_of(told)
    assert "/usr/bin/python3 -m venv /home/pi/edgeq-python && " in remedy
    assert all(f"'{name}{needed}'" in remedy for name, needed in PACKAGES.items())
    assert "; and reach it as ssh://pi@pi5?python=/home/pi/edgeq-python/bin/python; " in remedy


def test_gguf_files_need_a_known_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEQ_LLAMA", raising=False)
    first, second = LLAMAS
    assert remedy_of(facts(), gguf=True)[1].endswith(f"{first}=={LLAMAS[first]}")
    told = facts()
    told.packages[second] = LLAMAS[second]
    require_packages(BOARD, told, gguf=True)
    told.packages[second] = "0.0.1"
    assert f"{first}=={LLAMAS[first]}" in remedy_of(told, gguf=True)[0]
    monkeypatch.setenv("EDGEQ_LLAMA", "llama_cpp")
    assert remedy_of(told, gguf=True)[1].endswith(f"{second}=={LLAMAS[second]}")


def test_other_versions_are_told_where_both_sides_have_one() -> None:
    import onnxruntime

    told = facts()
    told.packages["onnxruntime"] = "1.2.3"
    expected = f"onnxruntime is 1.2.3 there and {onnxruntime.__version__} here"
    assert differences(told) == (expected,)
    told.packages["onnxruntime"] = onnxruntime.__version__
    assert differences(told) == ()


def test_equal_sources_give_equal_archives(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_source(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 1 << 20


def test_the_agent_imports_nothing_but_the_standard_library() -> None:
    program = (
        "import json, sys, types\n"
        "before = set(sys.modules)\n"
        "for name, text in json.load(sys.stdin):\n"
        "    module = sys.modules[name] = types.ModuleType(name)\n"
        "    exec(compile(text, name, 'exec'), module.__dict__)\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], input=agent_source(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.split() == [b"edgeq"]


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    file = tmp_path / "below" / "file"
    file.write_bytes(b"one")
    hashes = Hashes()
    first = hashes.of(file)
    assert hashes.of(file) == first
    file.write_bytes(b"two, longer")
    assert hashes.of(file) != first
    assert files_below(tmp_path, "x") == {"x/below/file": file}
    assert files_below(file, "x/file") == {"x/file": file}
