"""Check a recipe: choose artifacts, devices and places, and remember verdicts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.core.validation_messages import suggest
from edgeq.devices.catalogue import HERE, Device, load_device
from edgeq.measure.inputs import Evaluation
from edgeq.pipeline.build.build import Built, Partly, build_float, build_possible, settled
from edgeq.pipeline.check import kept
from edgeq.pipeline.check.cross_cpu import Comparison
from edgeq.pipeline.check.expected import expected, remember_speed
from edgeq.pipeline.check.reference import evaluation_of, reference_answers
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.places.place import Here, Place
from edgeq.places.transports import place_for
from edgeq.quantize.storage import Format


def check_recipe(
    recipe: Path,
    devices: Sequence[str],
    full: bool,
    progress: Progress,
    on: str | None = None,
    limit: bool = False,
    names: Sequence[str] = (),
) -> list[Verdict]:
    """Measure every artifact and judge it for `devices`, by default the recipe's own.

    names: artifacts to measure, by default all. on: where everything runs, as `place_for` of
    `edgeq.places.transports` takes it; by default, as each device's profile says. With it and
    without `devices`, the machine that it reaches is judged. limit: also run under the memory
    limits of devices and of the budget, possible only on this machine (see
    `edgeq.pipeline.check.under_limit`). Raises Partly, with the verdicts of the others, if some
    variants are impossible.
    """
    progress("read the recipe")
    planned = make_plan(recipe, weights=True)
    chosen = judged_devices(planned, devices, on, progress)
    built, refused = build_possible(planned, Store(), progress, names=chosen_names(planned, names))
    planned = settled(planned, built)
    verdicts = verdicts_of(planned, built, chosen, full, progress, on, limit)
    if refused:
        raise Partly(refused, verdicts)
    return verdicts


def verdicts_of(
    planned: Planned,
    built: Sequence[Built],
    devices: dict[str, Device],
    full: bool,
    progress: Progress,
    on: str | None = None,
    limit: bool = False,
) -> list[Verdict]:
    """Return verdicts of artifacts on devices, in the order of artifacts, and remember each."""
    found: list[Verdict] = []
    for address, own in by_place(devices, on).items():
        with opened(address, own, progress) as place:
            found += _check(planned, built, own, full, place, progress, limit)
    return _in_order(found, built, devices)


def kept_verdicts(
    planned: Planned,
    built: Sequence[Built],
    devices: dict[str, Device],
    progress: Progress,
    full: bool = False,
    on: str | None = None,
) -> list[Verdict]:
    """Return remembered verdicts if there are any, new ones otherwise; ordered as in `verdicts_of`.

    Inconclusive ones are measured again, and with `full` those that were not measured at length.
    """
    found: list[Verdict] = []
    for address, own in by_place(devices, on).items():
        with opened(address, own, progress) as place:
            missing = []
            for item in built:
                judged = targets(planned, item.artifact.format, own)
                paths = [_verdict_path(planned, item.path, device, place) for device in judged]
                known = [kept.recall(path, full) for path in paths]
                if all(known):
                    found += [verdict for verdict in known if verdict is not None]
                else:
                    missing.append(item)
            found += _check(planned, missing, own, full, place, progress)
    return _in_order(found, built, devices)


def chosen_names(planned: Planned, names: Sequence[str]) -> list[str] | None:
    """The artifacts of these names, None for all. Raises InvalidInput for an unknown name."""
    known = [artifact.name for artifact in planned.plan.artifacts]
    for name in names:
        if name not in known:
            what = f"{planned.path} makes no artifact {name!r}"
            raise InvalidInput(Problem("--artifact", what, suggest(name, known)))
    return list(names) or None


def chosen_devices(planned: Planned, names: Sequence[str]) -> dict[str, Device]:
    """The devices of these names by id; by default the recipe's own.

    Raises InvalidInput for a device that runs none of the recipe's formats.
    """
    if not names:
        return planned.devices
    devices = {}
    for name in names:
        device = planned.devices.get(name) or load_device(name)
        _require_format(planned, device, name)
        devices[device.id] = device
    return devices


def judged_devices(
    planned: Planned, names: Sequence[str], on: str | None, progress: Progress
) -> dict[str, Device]:
    """`chosen_devices`, or without names the machine that `on` reaches, by id.

    That machine is reached before anything is built: a wrong address costs no minutes. Raises
    InvalidInput if it runs none of the recipe's formats, and what connecting raises.
    """
    chosen = chosen_devices(planned, names) if names or on is None else {}
    if on is None or (on == "emulate" and chosen):
        return chosen
    with place_for(on, progress=progress) as place:
        machine = place.device()
    if chosen:
        return chosen
    _require_format(planned, machine, on)
    return {machine.id: machine}


def targets(planned: Planned, format: Format, devices: dict[str, Device]) -> list[Device]:
    """The devices among `devices` that are to run a format: the recipe's own only if a target says
    so.
    """
    own, elsewhere = planned.targets[format], planned.devices
    return [
        device
        for id, device in devices.items()
        if format in device.runtimes and (id in own or id not in elsewhere)
    ]


def _in_order(
    verdicts: Sequence[Verdict], built: Sequence[Built], devices: dict[str, Device]
) -> list[Verdict]:
    """Order by artifact, as they were built, then by device."""
    order = {item.artifact.name: index for index, item in enumerate(built)}
    ids = list(devices)
    return sorted(verdicts, key=lambda each: (order[each.artifact], ids.index(each.device)))


def _require_format(planned: Planned, device: Device, name: str) -> None:
    formats = {artifact.format for artifact in planned.plan.artifacts}
    if not formats & set(device.runtimes):
        what = f"{name} runs none of the recipe's formats: {', '.join(sorted(formats))}"
        raise InvalidInput(Problem("--device", what, f"it runs: {', '.join(device.runtimes)}"))


def by_place(devices: dict[str, Device], on: str | None) -> dict[str, dict[str, Device]]:
    """Group devices by the place that runs for them; a stand-in serves one device only."""
    groups: dict[str, dict[str, Device]] = {}
    for id, device in devices.items():
        address = on or device.reach or HERE
        key = f"{address} {id}" if address == "emulate" else address
        groups.setdefault(key, {})[id] = device
    return groups


def opened(address: str, devices: dict[str, Device], progress: Progress) -> Place:
    """The place at an address of `by_place`, for these devices."""
    from edgeq.places.emulated.catalogue import stand_in_for

    (first, *_) = devices.values()
    return place_for(address.partition(" ")[0], lambda: stand_in_for(first), progress)


def _check(
    planned: Planned,
    built: Sequence[Built],
    devices: dict[str, Device],
    full: bool,
    place: Place,
    progress: Progress,
    limit: bool = False,
) -> list[Verdict]:
    """Verdicts from one place, each compared with full precision in its own format."""
    from edgeq.pipeline.check.check import CheckRequest, check

    verdicts: list[Verdict] = []
    for format in dict.fromkeys(item.artifact.format for item in built):
        judged = targets(planned, format, devices)
        own = [item for item in built if item.artifact.format == format]
        if not judged:
            continue
        float_dir = build_float(planned, Store(), progress, format).path
        evaluation = evaluation_of(planned, Store(), progress)
        with _comparison(place, float_dir, progress, evaluation) as comparison:
            request = CheckRequest(
                targets={item.path: judged for item in own},
                float_dir=float_dir,
                budgets=planned.recipe.budgets,
                evaluation=evaluation,
                alternatives={
                    **dict(_planned_sizes(planned, format)),
                    **{item.artifact.variant: item.artifact.bytes for item in own},
                },
                full=full,
                workload=planned.recipe.workload,
                limit=limit,
                recipe=str(planned.path),
                expected=functools.partial(expected, planned),
                compare=comparison.of if comparison else None,
                reference=functools.partial(reference_answers, planned, Store(), progress),
            )
            verdicts += check(request, place, progress)
    paths = {item.artifact.name: item.path for item in built}
    for verdict in verdicts:
        device = devices[verdict.device]
        kept.remember(_verdict_path(planned, paths[verdict.artifact], device, place), verdict)
        remember_speed(planned, verdict, device, place)
    return verdicts


def _comparison(
    place: Place, float_dir: Path, progress: Progress, evaluation: Evaluation | None
) -> contextlib.AbstractContextManager[Comparison | None]:
    """The cross-CPU comparison, if this machine is the place."""
    if not isinstance(place, Here):
        return contextlib.nullcontext()
    return Comparison(float_dir, progress, evaluation)


def _planned_sizes(planned: Planned, format: Format) -> Iterator[tuple[str, int]]:
    for each in planned.plan.artifacts:
        if each.format == format:
            yield each.variant.name, each.download_bytes


def _verdict_path(planned: Planned, artifact: Path, device: Device, place: Place) -> Path:
    recipe = planned.recipe
    return kept.path_of(
        artifact,
        device,
        place,
        recipe.budgets,
        recipe.data.evaluation,
        planned.path.parent,
        workload=recipe.workload.model_dump(mode="json"),
        questions=_questions(planned),
    )


def _questions(planned: Planned) -> list[Any] | None:
    given = planned.recipe.data.questions
    if given is None:
        return None
    return [canonical.sha256_of_file(planned.path.parent / given.path), given.samples]
