"""`nox` runs lint, types and tests; `nox -s device` checks the recipe on every device profile.

nox                                     lint, types, tests: what continuous integration runs
nox -s light                            the device side alone, in an environment without torch
nox -s "device(pi5-8gb)"                one device; `nox -s device -- pi5-8gb` does the same
nox -t phone                            every device of a kind: laptop, board, phone
nox -s device -- here recipes/my.yaml   another recipe
"""

import re
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

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
    """Style and formatting."""
    session.install("ruff>=0.9,<1")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over the package; torch is not needed for that."""
    session.install("-e", ".[ssh]", "mypy>=1.11", "onnx==1.23.2", "onnx-ir==1.1.0")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, with the build side and the real model."""
    session.install("-e", ".[dev]")
    session.run("pytest", *session.posargs)


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


@nox.session(venv_backend="none", tags=["device"])
@nox.parametrize("profile", _profiles())
def device(session: nox.Session, profile: str) -> None:
    """Check a recipe on a device, in the environment edgeq is installed in.

    A session is skipped, not passed, where something could not be run for that device.
    """
    names = [argument for argument in session.posargs if not argument.endswith(".yaml")]
    recipes = [argument for argument in session.posargs if argument.endswith(".yaml")]
    if names and profile not in names:
        session.skip("not asked for")
    recipe = recipes[0] if recipes else _RECIPE
    Path("build").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "edgeq", "check", recipe, "--device", profile]
    status = subprocess.run([*command, "--junit", f"build/junit-{profile}.xml"]).returncode
    if status == _NOT_RUN:
        session.skip(f"not run: parts need the device {profile} itself; the table says which")
    if status:
        session.error(f"{recipe} did not pass on {profile}: exit status {status}")
