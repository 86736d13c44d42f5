"""The main commands as functions: plan, build, check and bundle a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.core.errors import EXIT_PASS, EdgeqError, InvalidInput, Problem
from edgeq.core.files import writable
from edgeq.core.store import Store
from edgeq.core.tasks import task_of
from edgeq.core.terms import Progress
from edgeq.core.validation_messages import suggest
from edgeq.devices.catalogue import HERE, Device
from edgeq.formats.bundle import LimitLine
from edgeq.formats.signature import sign, signature_of, signer
from edgeq.pipeline.build.build import Built, Partly, build, build_possible, settled
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.bundle.app_store_limits import sized
from edgeq.pipeline.bundle.readme import README_FILE, readme, readme_of_parts
from edgeq.pipeline.bundle.selftest import Facts, selftest
from edgeq.pipeline.bundle.unchecked import choose_unchecked
from edgeq.pipeline.bundle.write import write_bundle
from edgeq.pipeline.check.verdict import Verdict, exit_status
from edgeq.pipeline.check.workflow import (
    check_recipe,
    chosen_names,
    judged_devices,
    kept_verdicts,
    targets,
)
from edgeq.pipeline.parts import check_parts, kept_parts
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.pipeline.proof.onnx_request import SAMPLE_FILE
from edgeq.recipe.parts import has_parts, recipes_in


class NotPassed(EdgeqError):
    """A bundle was requested and no artifact passed; carries the verdicts that say why."""

    def __init__(self, verdicts: Sequence[Verdict], problem: Problem) -> None:
        super().__init__(problem)
        self.verdicts = tuple(verdicts)
        lines = [line.status for verdict in verdicts for line in verdict.lines]
        self.exit_code = exit_status(lines)


@dataclass(frozen=True)
class Bundled:
    """A written bundle: the artifact in it and its verdict, None if it was not checked.

    chosen_by: the rule that chose this artifact. model_bytes: of the artifact's files, without the
    record of measurements. limits: its size and memory compared with the limits of the device's
    store and the device.
    """

    path: Path
    artifact: str
    chosen_by: str
    model_bytes: int
    verdict: Verdict | None
    limits: tuple[LimitLine, ...]
    signature: Path | None = None

    def summary(self) -> dict[str, Any]:
        """A summary for programs."""
        return {
            "path": str(self.path.absolute()),
            "artifact": self.artifact,
            "chosen_by": self.chosen_by,
            "bytes": self.path.stat().st_size,
            "model_bytes": self.model_bytes,
            "checked": self.verdict is not None,
            "limits": [line.model_dump(mode="json") for line in self.limits],
            "signature": str(self.signature.absolute()) if self.signature else None,
        }


def check(
    recipe: Path,
    devices: Sequence[str],
    full: bool,
    progress: Progress,
    on: str | None = None,
    limit: bool = False,
    names: Sequence[str] = (),
) -> list[Verdict]:
    """The verdicts of `check_recipe`, or of `check_parts` for a recipe of parts."""
    if not has_parts(recipe):
        return check_recipe(recipe, devices, full, progress, on, limit, names)
    for option, is_given in (("--limit", limit), ("--on", on is not None and not devices)):
        if is_given:
            remedy = "add --device" if option == "--on" else "leave it out, or check each part"
            raise InvalidInput(Problem(option, f"{recipe} has parts", remedy))
    return check_parts(recipe, devices, full, progress, on, names)


def build_recipe(
    recipe: Path,
    formats: Sequence[str] | None,
    progress: Progress,
    names: Sequence[str] = (),
) -> list[Built]:
    """Build every artifact of a recipe, or only artifacts in `formats` and `names`."""
    if has_parts(recipe):
        return _build_parts(recipe, formats, progress, names)
    progress("read the recipe")
    planned = make_plan(recipe, weights=True)
    known = {artifact.format for artifact in planned.plan.artifacts}
    for format in formats or ():
        if format not in known:
            what = f"{recipe} has no target of the format {format!r}"
            raise InvalidInput(Problem("--target", what, suggest(format, sorted(known))))
    return build(planned, Store(), progress, formats, chosen_names(planned, names))


def _build_parts(
    recipe: Path, formats: Sequence[str] | None, progress: Progress, names: Sequence[str]
) -> list[Built]:
    built: list[Built] = []
    refused: list[Problem] = []
    for part in recipes_in(recipe):
        try:
            built += build_recipe(part, formats, progress, names)
        except Partly as error:
            built += error.done
            refused += error.problems
    if refused:
        raise Partly(refused, built)
    return built


@dataclass(frozen=True)
class BundleRequest:
    """What to bundle, and where it must pass.

    device: by default this machine, or the one that `on` reaches. on: where everything runs, as
    `check_recipe` takes it. artifact: by default the one that passes and is nearest to full
    precision. full: measure at length. key: the private key to sign with.
    """

    recipe: Path
    out: Path
    device: str | None = None
    on: str | None = None
    artifact: str | None = None
    allow_unchecked: bool = False
    full: bool = False
    key: Path | None = None


def bundle_recipe(request: BundleRequest, progress: Progress) -> Bundled:
    """Bundle the artifact that passes and is nearest to full precision.

    Verdicts of an earlier check of the same artifact, budgets, device and place are used; missing
    or inconclusive ones are measured now. Raises NotPassed, with the verdicts, if nothing passed;
    Partly, once the bundle is written, if some variants are impossible.
    """
    by = signer(request.key) if request.key is not None else None
    if by is not None:
        writable(signature_of(request.out), "--out")
    progress("read the recipe")
    writable(request.out, "--out", ".zip")
    if request.on is not None and request.allow_unchecked:
        what = "is where artifacts are measured, which --allow-unchecked leaves out"
        raise InvalidInput(Problem("--on", what, "leave out one of the two"))
    refused: list[Problem] = []
    if has_parts(request.recipe):
        _refuse_choice(request)
        bundled = _bundle_parts(request, progress)
    else:
        bundled, refused = _bundle_one(request, progress)
    if by is not None:
        bundled = replace(bundled, signature=sign(request.out, by))
    if refused:
        raise Partly(refused, bundled)
    return bundled


def _bundle_one(request: BundleRequest, progress: Progress) -> tuple[Bundled, list[Problem]]:
    """The bundle of a recipe of one model, and the problems of its impossible variants."""
    planned = make_plan(request.recipe, weights=True)
    names = [request.device or HERE] if request.device or request.on is None else []
    chosen = judged_devices(planned, names, request.on, progress)
    (target,) = chosen.values()
    artifact = request.artifact
    named = [a for a in planned.plan.artifacts if targets(planned, a.format, chosen)]
    names = [each.name for each in named]
    if artifact is not None and artifact not in names:
        what = f"{request.recipe} makes no artifact {artifact!r} for {target.id}"
        raise InvalidInput(Problem("--artifact", what, suggest(artifact, names)))
    wanted, chosen_by = ([artifact], "--artifact") if artifact else (names, "")
    refused = [planned.impossible[name] for name in wanted if name in planned.impossible]
    if request.allow_unchecked and artifact is None:
        able = [each for each in named if each.name not in planned.impossible]
        artifact, chosen_by = choose_unchecked(able, planned.plan.size_budget)
        wanted = [artifact]
    built, _ = build_possible(planned, Store(), progress, names=wanted)
    planned, item, verdict = settled(planned, built), built[0], None
    if not request.allow_unchecked:
        verdicts = kept_verdicts(planned, built, chosen, progress, request.full, request.on)
        item, verdict = _best(built, verdicts, request.recipe, target.id)
        chosen_by = chosen_by or "passed, nearest to full precision"
    bundled = _write(planned, item, verdict, target, request.out, chosen_by, progress)
    return bundled, refused


def _refuse_choice(request: BundleRequest) -> None:
    """Raise InvalidInput for an option that a bundle of parts does not have."""
    given = {"--artifact": request.artifact, "--allow-unchecked": request.allow_unchecked}
    for option in (name for name, value in given.items() if value):
        what = "is for a recipe of one model; of parts, the best of each ships if it passes"
        raise InvalidInput(Problem(option, what, "leave it out"))
    if request.on is not None and request.device is None:
        raise InvalidInput(Problem("--on", f"{request.recipe} has parts", "add --device"))


def _best(
    built: Sequence[Built], verdicts: Sequence[Verdict], recipe: Path, device: str
) -> tuple[Built, Verdict]:
    by_name = {item.artifact.name: item for item in built}
    best = max(verdicts, key=lambda verdict: verdict.nearness)
    if best.exit_status != EXIT_PASS:
        other = "; --allow-unchecked bundles without a pass"
        raise _nothing_passed(verdicts, recipe, device, other)
    return by_name[best.artifact], best


def _nothing_passed(
    verdicts: Sequence[Verdict], recipe: Path, device: str, other: str = ""
) -> NotPassed:
    what = f"nothing passed on {device}, so there is nothing to ship"
    return NotPassed(verdicts, Problem(str(recipe), what, f"the table shows the next steps{other}"))


def _write(
    planned: Planned,
    built: Built,
    verdict: Verdict | None,
    device: Device,
    out: Path,
    chosen_by: str,
    progress: Progress,
) -> Bundled:
    plans = {each.name: each for each in planned.plan.artifacts}
    limits = sized(built.artifact, device, verdict, plans[built.artifact.name].cache_bytes)
    facts, documents = _documents(planned, built, verdict, progress)
    write_bundle(
        built.path,
        out,
        recipe_text=planned.path.read_text(encoding="utf-8"),
        verdicts=[verdict.model_dump(mode="json")] if verdict else [],
        licence=planned.plan.licence,
        licence_text=_licence_text(planned),
        unchecked=verdict is None,
        limits=limits,
        documents=documents,
        end_tokens=facts.end_tokens,
    )
    return Bundled(out, built.artifact.name, chosen_by, built.artifact.bytes, verdict, limits)


def _licence_text(planned: Planned) -> str | None:
    file = next(iter(sorted(planned.model.located.path.glob("LICENSE*"))), None)
    return file.read_text(encoding="utf-8", errors="replace") if file is not None else None


def _bundle_parts(request: BundleRequest, progress: Progress) -> Bundled:
    """Bundle the parts' best artifacts. Raises NotPassed, with the verdict, if they failed."""
    recipe, device = request.recipe, request.device or HERE
    wholes = kept_parts(recipe, [device], request.full, progress, request.on)
    whole = max(wholes, key=lambda each: each.verdict.nearness)
    artifact, verdict = whole.built.artifact, whole.verdict
    if verdict.exit_status != EXIT_PASS:
        raise _nothing_passed([each.verdict for each in wholes], recipe, device)
    documents = {README_FILE: readme_of_parts(artifact, verdict)}
    texts = []
    for name, (planned, built, own) in whole.parts.items():
        _, about = _documents(planned, built, own, progress)
        for file, content in about.items():
            documents[f"about/{name}/{file}"] = content
        documents[f"about/{name}/recipe.yaml"] = planned.path.read_bytes()
        if text := _licence_text(planned):
            texts.append(f"{name}:\n{text}")
    limits = sized(artifact, whole.device, verdict, None)
    write_bundle(
        whole.built.path,
        request.out,
        recipe_text=recipe.read_text(encoding="utf-8"),
        verdicts=[verdict.model_dump(mode="json")],
        licence=artifact.model.licence,
        licence_text="\n\n".join(texts) or None,
        unchecked=False,
        limits=limits,
        documents=documents,
    )
    chosen = "; ".join(
        f"{name}: {built.artifact.name}" for name, (_, built, _) in whole.parts.items()
    )
    return Bundled(request.out, artifact.name, f"passed, {chosen}", artifact.bytes, verdict, limits)


def _documents(
    planned: Planned, built: Built, verdict: Verdict | None, progress: Progress
) -> tuple[Facts, dict[str, bytes]]:
    """Facts of the loaded model, and the README and the self-test of a bundle."""
    sample = None
    if task_of(built.artifact.task).takes_arrays:
        sample = Stages(planned, Store(), progress).onnx_proof() / SAMPLE_FILE
    progress(f"{built.artifact.name}: answers for the bundle's self-test")
    facts, test, files = selftest(built.path, sample)
    text = readme(built.artifact, facts, test, verdict, planned.plan.licence)
    return facts, {README_FILE: text, **files}
