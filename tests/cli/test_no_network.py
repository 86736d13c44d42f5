"""No command touches the network unless its input names a place there."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In a network namespace of its own, where every attempt at a connection is counted as one without
# a route, whoever makes it: Python, a native library or a child process.
APART = ["unshare", "--map-root-user", "--net"]
COUNTERS = ("OutRequests", "OutNoRoutes", "ActiveOpens", "Ip6OutRequests", "Ip6OutNoRoutes")


def _can_be_apart() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.call([*APART, "true"], stderr=-3)


# Where that is not allowed, Python's audit events of the process and of the children that edgeq
# starts are counted; a native library could then get by unseen.
AUDIT = """\
import os, sys
def _seen(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family.name == "AF_UNIX":
            return
    elif event not in ("socket.getaddrinfo", "socket.gethostbyname"):
        return
    with open(os.environ["EDGEQ_TEST_ATTEMPTS"], "a") as file:
        file.write(event + "\\n")
sys.addaudithook(_seen)
"""
AUDIT_CHILDREN = f"from edgeq.core import child\nchild._START = {AUDIT!r} + child._START\n"
NAMESPACE = pytest.param(
    "namespace",
    marks=pytest.mark.skipif(not _can_be_apart(), reason="network namespaces are not allowed"),
)


def attempts(code: str, *arguments: str, cwd: Path, how: str) -> int:
    """Packets and connections that a Python process and its children tried."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))
    }
    environment |= {"PYTHONPATH": str(ROOT), "EDGEQ_STORE": str(cwd / "store")}
    environment["EDGEQ_COMPARE_CPUS"] = "sse4"  # a check starts one stand-in, too
    if how == "namespace":
        return _attempts_apart(code, *arguments, cwd=cwd, environment=environment)
    seen = cwd / "attempts"
    seen.touch()
    environment["EDGEQ_TEST_ATTEMPTS"] = str(seen)
    command = [sys.executable, "-c", AUDIT + AUDIT_CHILDREN + code, *arguments]
    _run(command, cwd, environment)
    return len(seen.read_text().splitlines())


def _attempts_apart(code: str, *arguments: str, cwd: Path, environment: dict[str, str]) -> int:
    seen = (
        "cat /proc/net/snmp /proc/net/snmp6 > before; "
        '"$@" || exit 1; cat /proc/net/snmp /proc/net/snmp6 > after'
    )
    command = [*APART, "sh", "-c", seen, "sh", sys.executable, "-c", code, *arguments]
    _run(command, cwd, environment)
    return _count(cwd / "after") - _count(cwd / "before")


def _run(command: list[str], cwd: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def _count(path: Path) -> int:
    """The sum of `COUNTERS`; /proc/net/snmp has pairs of lines, snmp6 one counter a line."""
    lines = [line.split() for line in path.read_text().splitlines()]
    found = {line[0]: line[1] for line in lines if len(line) == 2}
    for names, values in itertools.pairwise(lines):
        if names[0] == values[0]:
            found.update(zip(names[1:], values[1:], strict=True))
    return sum(int(found[name]) for name in COUNTERS if name in found)


@pytest.mark.parametrize("how", [NAMESPACE, "audit"])
@pytest.mark.parametrize(
    "code",
    [
        "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError: pass",
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "try: s.sendto(b'x', ('192.0.2.1', 53))\nexcept OSError: pass",
    ],
)
def test_an_attempt_is_seen(tmp_path: Path, code: str, how: str) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "talks.py").write_text(code)
    child = (
        f"import sys; sys.path.append({str(tmp_path / 'more')!r})\n"
        "import subprocess; from edgeq.core import child\n"
        "subprocess.run(child.command('talks'), check=True)"
    )
    assert attempts(child, cwd=tmp_path, how=how) > 0


def test_a_recipe_is_taken_to_a_report_without_the_network(tiny: Path, tmp_path: Path) -> None:
    from tests.support import tiny_bert

    shutil.copytree(tiny.parent, tmp_path, dirs_exist_ok=True)
    recipe = tiny_bert.GOOD.replace("[int8-dynamic, int8-static, int4-b32]", "int8-dynamic")
    recipe = recipe[: recipe.index("  rules:")] + recipe[recipe.index("targets:") :]
    tiny_bert.write_recipe(tmp_path / "recipe.yaml", recipe)
    commands = [
        ["plan", "recipe.yaml"],
        ["build", "recipe.yaml"],
        ["check", "recipe.yaml"],
        ["bundle", "recipe.yaml", "--out", "out.zip"],
        ["run", "out.zip", "ba be", "bi bo"],
        ["report", "recipe.yaml", "-o", "out.html"],
    ]
    code = (
        "import json, sys\nfrom edgeq.cli.main import app\nfrom edgeq.cli.exit import run\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    status = run(app, command)\n"
        "    assert status == 0, (command, status)\n"
    )
    how = "namespace" if _can_be_apart() else "audit"
    assert attempts(code, json.dumps(commands), cwd=tmp_path, how=how) == 0
