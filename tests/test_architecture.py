"""The house keeps its walls: imports run downward, and nowhere in a circle.

Read from the syntax trees, so that lazy and type-only imports count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx
import pytest

from edgeq.core.store import DECISIVE_ROOMS
from edgeq.core.tasks import TASKS
from edgeq.formats.openers import OPENERS
from edgeq.formats.registry import FILE_FORMATS as FORMATS
from edgeq.quantize.storage import STORAGES

PACKAGE = Path(__file__).parents[1] / "edgeq"
LEVELS = {
    "core": 0,
    "quantize": 1,
    "models": 2,
    "recipe": 3,
    "devices": 3,
    "formats": 4,
    "places": 5,
    "measure": 6,
    "estimate": 6,
    "pipeline": 7,
    "report": 8,
    "cli": 9,
}
FILE_FORMATS = ("onnx", "coreml", "gguf")


def modules() -> dict[str, Path]:
    """Every module below a room, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("edgeq", "edgeq.__main__"):
            found[name] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """The modules of edgeq that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports() -> networkx.DiGraph[str]:
    """Which module imports which."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    for name, path in MODULES.items():
        graph.add_node(name)
        graph.add_edges_from((name, other) for other in imported(path) if other in MODULES)
    return graph


GRAPH = imports()


def room(module: str) -> str:
    return module.split(".")[1]


def file_format(module: str) -> str | None:
    """The folder of a file format that a module lies in."""
    parts = module.split(".")
    return parts[2] if parts[1] == "formats" and parts[2:3] and parts[2] in FILE_FORMATS else None


def test_only_twelve_rooms_lie_in_the_package() -> None:
    names = {p.name for p in PACKAGE.iterdir() if not p.name.startswith(("__pycache__", "."))}
    assert names == {*LEVELS, "__init__.py", "__main__.py", "py.typed"}


def test_imports_run_downward() -> None:
    upward = [
        (name, other)
        for name, other in GRAPH.edges
        if room(name) != room(other) and LEVELS[room(name)] <= LEVELS[room(other)]
    ]
    assert upward == []


def test_file_formats_do_not_know_each_other() -> None:
    """And of what they share, the registries alone know them."""
    crossing = [
        (name, other)
        for name, other in GRAPH.edges
        if room(name) == "formats"
        and file_format(other) not in (None, file_format(name))
        and name not in ("edgeq.formats.registry", "edgeq.formats.openers")
    ]
    assert crossing == []


# Where the names of tasks and file formats are given: their own files and the recipe's schema.
NAMED_IN = ("core/tasks/", "quantize/storage/", *(f"formats/{name}/" for name in FILE_FORMATS))


def compared(path: Path) -> Iterator[str]:
    """The constants that a file compares with, matches, or dispatches on by a table of them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            parts: list[ast.AST] = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Dict) and len(node.keys) > 1:
            keys = [key for key in node.keys if key is not None]
            names = {key.value for key in keys if isinstance(key, ast.Constant)}
            parts = list(keys) if len(names & {*FILE_FORMATS, *TASKS}) > 1 else []
        else:
            continue
        constants = (each for part in parts for each in ast.walk(part))
        yield from (c.value for c in constants if isinstance(c, ast.Constant))  # type: ignore[misc]


def test_tasks_and_file_formats_are_asked_and_not_compared() -> None:
    """Whatever depends on one is a fact of the object, so that another package can add one."""
    found = [
        (place, name)
        for path in MODULES.values()
        for place in [path.relative_to(PACKAGE).as_posix()]
        for name in compared(path)
        if name in {*FILE_FORMATS, *TASKS} and not place.startswith(NAMED_IN)
    ]
    assert found == []


def test_nothing_imports_itself_by_way_of_others() -> None:
    circles = [sorted(c) for c in networkx.strongly_connected_components(GRAPH) if len(c) > 1]
    assert circles == []


def test_the_stores_key_covers_all_that_a_build_reaches() -> None:
    steps = ("build", "allocate", "recover", "plan")
    start = [n for n in GRAPH if n.startswith(tuple(f"edgeq.pipeline.{step}." for step in steps))]
    reached = set(start).union(*(networkx.descendants(GRAPH, name) for name in start))
    rooms = tuple(f"edgeq.{name.replace('/', '.')}." for name in DECISIVE_ROOMS)
    assert {name for name in reached if not f"{name}.".startswith(rooms)} == set()


def test_what_runs_as_a_program_has_all_its_names_by_then() -> None:
    """A module's `__main__` block comes last: what is defined below it does not exist yet."""
    early = [
        name
        for name, path in MODULES.items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body[:-1]
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
    ]
    assert early == []


@pytest.mark.parametrize("heavy", ["onnx", "torch", "transformers", "coremltools", "onnxruntime"])
def test_importing_edgeq_imports_no_runtime(heavy: str) -> None:
    program = f"import sys, edgeq, edgeq.cli.main; print({heavy!r} in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


def test_a_plan_imports_no_writer_of_a_file_format() -> None:
    program = (
        "import sys; sys.argv = ['edgeq', 'plan', 'recipes/minilm.yaml', '--json']\n"
        "from edgeq.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert "edgeq.pipeline.plan.plan" in loaded
    assert not {"onnx", "onnx_ir", "torch", "transformers", "coremltools", "gguf"} & loaded
    assert not [name for name in loaded if ".write" in name and name.startswith("edgeq.formats")]


def test_what_runs_a_model_imports_nothing_that_plans_one() -> None:
    """A worker on a device, whose memory is measured, has no reader of configurations."""
    program = "import sys, edgeq.measure.worker; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert "edgeq.formats.openers" in loaded
    assert not {"edgeq.models.model", "edgeq.models.huggingface", "edgeq.quantize.decide"} & loaded


def test_loading_a_model_imports_nothing_that_rounds_or_writes_one() -> None:
    """An app waits for every import; what opens a format's files stands apart from the rest."""
    program = "import sys, edgeq.formats.loaded; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert "edgeq.formats.openers" in loaded
    assert not [name for name in loaded if name.startswith("edgeq.quantize")]
    assert not [name for name in loaded if name.endswith(".file_format")]


def test_every_file_format_has_one_name_in_all_its_parts() -> None:
    assert set(FORMATS) == set(OPENERS) == set(STORAGES)
    for name, whole in FORMATS.items():
        assert {whole.name, OPENERS[name].name, STORAGES[name].name} == {name}
        assert isinstance(whole, type(OPENERS[name]))
        assert isinstance(whole, type(STORAGES[name]))
