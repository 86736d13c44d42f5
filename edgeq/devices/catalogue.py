"""Find devices: profiles by id or path, and this machine as `here`."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import suggest_near
from edgeq.core.yamlfile import read_yaml, validate
from edgeq.devices import detect
from edgeq.devices.profile import AppLimit, Device, matches

__all__ = ["HERE", "AppLimit", "Device", "device_ids", "list_devices", "load_device", "matches"]

HERE = "here"
"""The id of the machine that runs edgeq."""
_OWN = Path("devices")  # a project's own profiles, next to its recipes
_PACKAGE = Path(__file__).parents[1]


def load_device(id_or_path: str, base: Path = Path()) -> Device:
    """Load a device by id, or from a file (a path with a directory or ending in `.yaml`).

    base: what a relative path starts from. `here` is detected; any other id is
    `./devices/<id>.yaml`, then the profile shipped with edgeq.
    Raises InvalidInput for an unknown id, suggesting the nearest, and for all problems in a file.
    """
    if id_or_path == HERE:
        return detect.detect()
    path = Path(id_or_path)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        return _read(base / path)
    profiles = _profiles()
    if id_or_path not in profiles:
        near = suggest_near(id_or_path, [HERE, *profiles])
        remedy = "; ".join(filter(None, [near, '"edgeq devices" lists them']))
        raise InvalidInput(Problem(id_or_path, "no such device", remedy))
    return _read(profiles[id_or_path])


def device_ids() -> list[str]:
    """Every id `load_device` knows, `here` first; reads no profile."""
    return [HERE, *_profiles()]


def list_devices() -> list[Device]:
    """Every device, `here` first. Raises InvalidInput with all problems in any profile."""
    devices = [detect.detect()]
    problems: list[Problem] = []
    for path in _profiles().values():
        try:
            devices.append(_read(path))
        except InvalidInput as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidInput(problems)
    return devices


def _profiles() -> dict[str, Path]:
    """Profiles by id; a project's own override those shipped with edgeq."""
    shipped = _PACKAGE / "_devices"
    if not shipped.is_dir():  # a checkout or an editable install: the directory at its root
        shipped = _PACKAGE.parent / "devices"
    found = {path.stem: path for folder in (shipped, _OWN) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def _read(path: Path) -> Device:
    document = read_yaml(path)
    device, problems = validate(document, Device)
    if device is not None and not document.is_assumed(("id",)):
        where = document.place(("id",))
        if device.id == HERE:
            what = f"id: {HERE!r} is reserved for the machine that runs edgeq"
            problems.append(Problem(where, what, "choose another name"))
        elif device.id != path.stem:
            what = f"id: {device.id!r} differs from the name of the file"
            problems.append(Problem(where, what, f"write 'id: {path.stem}', or rename the file"))
    if device is None or problems:
        raise InvalidInput(problems)
    return device
