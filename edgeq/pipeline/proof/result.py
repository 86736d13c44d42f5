"""Opens a build's results and runs each on one sample, before the build succeeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE, Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.tasks import task_of
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.pipeline.proof.onnx_request import SAMPLE_FILE
from edgeq.pipeline.proof.request import OpenRequest
from edgeq.pipeline.proof.samples import TEXTS
from edgeq.places.process import PassFailed, Request, run_worker
from edgeq.recipe.budgets import Workload

_WORKLOAD = Workload(context=64, prompt=8, generate=1)
_RECORD = "opened"


def run_once(
    built: Mapping[Path, Artifact], store: Store, proof: Path | None, progress: Progress
) -> None:
    """Open artifacts in one fresh process and run each on a sample; passes are remembered.

    proof: the directory with the sample of an .onnx model; None for models of texts. Raises
    InvalidInput for an artifact that does not open, does not run or gives NaN.
    """
    new = {path: artifact for path, artifact in built.items() if not store.find(*_stage(path))}
    if not new:
        return
    progress("open what was built, and run it once")
    try:
        _run(new, proof)
    except PassFailed:
        # a killed process cannot say which artifact was the cause
        for path, artifact in new.items():
            _run_alone(path, artifact, proof)
    for path in new:
        store.stage(*_stage(path), lambda to: (to / _RECORD).touch())


def _stage(path: Path) -> tuple[str, dict[str, Any]]:
    return "opened", {"artifact": canonical.sha256_of_file(path / ARTIFACT_FILE)}


def _run_alone(path: Path, artifact: Artifact, proof: Path | None) -> None:
    try:
        _run({path: artifact}, proof)
    except PassFailed as error:
        what = f"the built file does not run: {error}"
        remedy = "choose another variant, or report it with this line"
        raise InvalidInput(Problem(artifact.name, what, remedy)) from None


def _run(built: Mapping[Path, Artifact], proof: Path | None) -> None:
    """Raises PassFailed if the process dies, InvalidInput if it reports why."""
    with TemporaryFolder() as folder:
        outputs = Path(folder, "outputs.npy")
        requests = tuple(
            Request(
                work="quality",
                artifact=path.absolute(),
                outputs=outputs,
                texts=() if proof else (TEXTS[1],),
                arrays=(proof / SAMPLE_FILE).absolute() if proof else None,
                workload=_WORKLOAD if task_of(artifact.task).generates else None,
            )
            for path, artifact in built.items()
        )
        run_worker(OpenRequest(requests=requests), module="edgeq.pipeline.proof.open_worker")
