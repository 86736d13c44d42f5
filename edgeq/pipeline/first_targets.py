"""The file formats that a first recipe can name for its devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import Task
from edgeq.devices.catalogue import load_device
from edgeq.formats.registry import file_format

Targets = Mapping[str, Sequence[str]]


def target_choices(task: Task, devices: Sequence[str]) -> Iterator[Targets]:
    """The ids of the devices by file format: for each its best for the task, then its next best.

    Raises InvalidInput for a device that has no file format for the task.
    """
    able = {id: _able(task, id) for id in devices}
    for rank in range(max(map(len, able.values()))):
        targets: dict[str, list[str]] = {}
        for id, names in able.items():
            targets.setdefault(names[min(rank, len(names) - 1)], []).append(id)
        yield targets


def _able(task: Task, id: str) -> list[str]:
    """The file formats of a device that hold the task's models, the best one first."""
    assert task.first_recipe is not None
    device = load_device(id)
    able = [
        name
        for name in dict.fromkeys((*task.first_recipe.formats, *device.runtimes))
        if name in device.runtimes and file_format(name).serves(task)
    ]
    if not able:
        what = f"runs no file format that can hold {task.noun}"
        raise InvalidInput(Problem(id, what, "choose another: edgeq devices"))
    return able
