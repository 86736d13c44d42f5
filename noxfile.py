"""`nox` runs lint, types and tests; `nox -s device` checks the recipe on every device profile.

nox                                     lint, types, tests: what continuous integration runs
nox -s fast                             unit and property tests, while editing; no real models
nox -s slow                             every property 10,000 times, then the tests fast leaves out
nox -s coverage                         lines and branches that the fast tests reach
nox -s mutants                          changes of the code that judges, for hours
nox -s faults                           kills, power cuts, full disks, mutated files: for hours
nox -s zoo                              real models of packages, and onnxruntime's own tools
nox -s light                            the device side alone, in an environment without torch
nox -s docs                             the documentation, as a site in site/
nox -s "device(pi5-8gb)"                one device; `nox -s device -- pi5-8gb` does the same
nox -t phone                            every device of a kind: laptop, board, phone
nox -s device -- here recipes/my.yaml   another recipe

EDGEQ_REQUIRE=arm64,x86-mask,cgroup nox     what must not be missing: without it, nothing passes
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True
# Tests start hundreds of Pythons: modules are compiled once, not in each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_RECIPE = "recipes/minilm.yaml"
_NOT_RUN = 3


def _profiles() -> list:
    profiles = [nox.param("here", id="here", tags=["here"])]
    for path in sorted(Path("devices").glob("*.yaml")):
        kind = re.search(r"^kind: (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        tags = [kind.group(1)] if kind else []
        profiles.append(nox.param(path.stem, id=path.stem, tags=tags))
    return profiles


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and who may import whom (the contracts in pyproject.toml)."""
    session.install("ruff>=0.9,<1", "import-linter>=2,<3")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over package, tests and benchmarks; what has no types is not installed."""
    session.install("-e", ".[ssh,images]", "jinja2>=3", "onnx==1.23.2", "onnx-ir==1.1.0")
    session.install("mypy>=1.11", "types-networkx>=3", "pytest>=8", "hypothesis>=6.100")
    session.run("mypy")


# One process more than cores, since tests wait for others and for disks; what takes longest begins
# first (tests/conftest.py), so that no core waits at the end.
_PROCESSES = min((os.cpu_count() or 1) + 1, 5)
_SIDE_BY_SIDE = ["-n", str(_PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]
# Every core has a process of its own: products of several threads each would wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@nox.session
def tests(session: nox.Session) -> None:
    """All but rare tests, with the build side and the real model; a file's share what they build.

    64-bit Arm is set up in the user's cache first, where that can be.
    """
    session.install("-e", ".[dev]")
    done = str(session.run("edgeq", "emulate", "arm64", success_codes=range(256), silent=True))
    session.log(done.strip())
    wanted = {*_required(), "arm64"} if "ready" in done else _required()
    environment = {"EDGEQ_REQUIRE": ",".join(wanted)} if wanted else {}
    chosen = session.posargs or ["-m", "not rare", "--durations=60", *_SIDE_BY_SIDE]
    session.run("pytest", *chosen, env=environment)


@nox.session
def fast(session: nox.Session) -> None:
    """Unit and property tests: what is not marked slow, under 3 minutes on 2 cores."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", "not slow", *_SIDE_BY_SIDE, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """What takes hours: fast properties with 10,000 examples each, then the tests marked slow."""
    session.install("-e", ".[dev]")
    often = {"EDGEQ_EXAMPLES": os.environ.get("EDGEQ_EXAMPLES", "10000")}
    session.run("pytest", "-m", "not slow", *_SIDE_BY_SIDE, *session.posargs, env=often)
    session.run("pytest", "-m", "slow", *_SIDE_BY_SIDE, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Lines and branches that fast tests reach, in the processes they start, too.

    Of all tests: nox -s coverage -- -m "slow or not slow"
    """
    session.install("-e", ".[dev]")
    Path("build/coverage").mkdir(parents=True, exist_ok=True)
    report = ["--cov", "--cov-report=term", "--cov-report=html"]
    session.run("pytest", "-m", "not slow", *_SIDE_BY_SIDE, *report, *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Change the code that judges, place by place, and list the changes that no test notices.

    Hours; goes on where it stopped. Only some: nox -s mutants -- "edgeq.core.units*"
    """
    session.install("-e", ".[dev]", "mutmut>=3.8,<4")
    few = {"EDGEQ_EXAMPLES": os.environ.get("EDGEQ_EXAMPLES", "25")}
    session.run("mutmut", "run", "--max-children", "2", *session.posargs, env=few)
    session.run("mutmut", "results")


@nox.session
def faults(session: nox.Session) -> None:
    """Attack edgeq, and write what was seen into docs/measured/faults.md; goes on where it stopped.

    Only some, and for a time: nox -s faults -- kills power --seconds 600
    """
    session.install("-e", ".[dev]")
    session.run("python", "-m", "tests.faults", *session.posargs)


@nox.session
def zoo(session: nox.Session) -> None:
    """Real models of packages through edgeq and onnxruntime's own tools: docs/measured/zoo.md.

    Downloads them, into build/zoo, and goes on where it stopped. Only some: nox -s zoo -- magika
    """
    session.install("-e", ".[language,images]")
    page = [] if session.posargs else ["--page", "docs/measured/zoo.md"]
    session.run("python", "-m", "benchmarks.zoo", "build/zoo", *session.posargs, *page)


@nox.session
def light(session: nox.Session) -> None:
    """What a device needs: open a bundle and run it, with nothing of the build side installed.

    Give the bundle, and for a language model a prompt: nox -s light -- wren.zip "It was"
    """
    bundle = session.posargs[0] if session.posargs else "minilm.zip"
    if not Path(bundle).is_file():
        session.error(f"{bundle} is not there: edgeq bundle {_RECIPE} --out {bundle}")
    session.install(".")
    prompt = session.posargs[1:2]
    texts = ["--prompt", *prompt] if prompt else ["a sentence", "another"]
    session.run("edgeq", "run", bundle, *texts)
    absent = "import importlib.util as u; assert not any(map(u.find_spec, ['torch', 'onnx']))"
    session.run("python", "-c", absent)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site in site/; a dead link or a field that is gone ends it."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session(venv_backend="none", tags=["device"])
@nox.parametrize("profile", _profiles())
def device(session: nox.Session, profile: str) -> None:
    """Check a recipe for a device, in the environment edgeq is installed in.

    On the device where its profile says how to reach it, else on its stand-in, else here; the
    column 'how' of each line says which. A session is skipped, not passed, where something could
    not be run for that device, and fails where EDGEQ_REQUIRE names a stand-in that is not here.
    """
    names = [argument for argument in session.posargs if not argument.endswith(".yaml")]
    recipes = [argument for argument in session.posargs if argument.endswith(".yaml")]
    if names and profile not in names:
        session.skip("not asked for")
    edgeq = [sys.executable, "-m", "edgeq"]
    if subprocess.run([*edgeq, "emulate"]).returncode:
        session.error("a stand-in that EDGEQ_REQUIRE names is not here: status 3")
    Path("build").mkdir(exist_ok=True)
    command = [*edgeq, "matrix", *(recipes or [_RECIPE]), "--device", profile, "--lines"]
    status = subprocess.run([*command, "--junit", f"build/junit-{profile}.xml"]).returncode
    if status == _NOT_RUN:
        session.skip(f"not run: parts need the device {profile} itself; the table says which")
    if status:
        session.error(f"it did not pass on {profile}: exit status {status}")


def _required() -> set:
    return set(filter(None, os.environ.get("EDGEQ_REQUIRE", "").split(",")))
