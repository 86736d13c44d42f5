from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.errors import InvalidInput, Missing
from edgeq.devices.profile import Device
from edgeq.measure.arrays import read_arrays
from edgeq.places.emulated import apt, arm, arm_place, catalogue, elf
from edgeq.places.emulated.arm_place import ArmPlace
from edgeq.places.emulated.qemu import fetch_qemu, find_qemu
from edgeq.places.place import Here
from edgeq.places.process import Request
from tests.support import samples
from tests.support.kernel_models import write_models
from tests.support.stand_ins import need_arm, users_cache

SETS = {
    "armv8.0": {"neon"},
    "dotprod": {"neon", "fp16", "dotprod"},
    "i8mm": {"neon", "fp16", "dotprod", "i8mm", "bf16"},
}


@pytest.fixture(scope="module")
def dotprod() -> Iterator[ArmPlace]:
    with users_cache():
        need_arm()
        with ArmPlace("dotprod") as place:
            yield place


@pytest.mark.parametrize("kind", arm_place.CLASSES.values(), ids=lambda kind: kind.name)
def test_cpuinfo_names_the_classs_features(kind: arm_place.ArmClass) -> None:
    from edgeq.devices.cpu import parse_cpuinfo

    assert set(parse_cpuinfo(kind.cpuinfo(), "aarch64").instruction_sets or ()) == SETS[kind.name]


def test_the_emulated_cpu_is_what_cpuinfo_says(dotprod: ArmPlace) -> None:
    """What the emulator tells programs (AT_HWCAP, bits as in Linux's hwcap.h) agrees with it."""
    program = (
        "import ctypes; get = ctypes.CDLL(None).getauxval; get.restype = ctypes.c_ulong\n"
        "get.argtypes = [ctypes.c_ulong]; print(get(16))"
    )
    command = [str(dotprod.python()), "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    features = dotprod.cpu_class.features.split()
    for name, bit in (("fp", 0), ("asimd", 1), ("atomics", 8), ("asimdhp", 10), ("asimddp", 20)):
        assert (name in features) == bool(int(done.stdout) >> bit & 1)


def test_a_model_answers_there_as_here(dotprod: ArmPlace, tmp_path: Path) -> None:
    """Children of the worker are emulated as well: they prepare the model for that CPU."""
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    feeds = samples.tensor_feeds(batch=3)
    np.savez(tmp_path / "feeds.npz", **feeds)
    answers = []
    for place in (Here(), dotprod):
        outputs = tmp_path / "outputs.npy"
        request = Request(
            work="quality", artifact=artifact, arrays=tmp_path / "feeds.npz", outputs=outputs
        )
        reply = place.run(request)
        assert reply["prepared"] and not reply["warnings"]
        answers.append(np.concatenate(list(read_arrays(outputs))))
    first, second = answers
    assert np.allclose(first, second, rtol=1e-4, atol=1e-5)


def test_integer_products_are_exact_there(dotprod: ArmPlace, tmp_path: Path) -> None:
    from edgeq.places.emulated.arm_place import ArmPlace

    write_models(tmp_path)
    for path in tmp_path.glob("*.onnx"):
        if not path.stem.startswith("integer"):
            path.unlink()
    for name in ("armv8.0", "i8mm"):
        with ArmPlace(name) as place:
            assert _products(place, tmp_path) == _expected(tmp_path)
    assert _products(dotprod, tmp_path) == _expected(tmp_path)


def _products(place: ArmPlace, folder: Path) -> dict[str, list[int]]:
    program = (
        "import sys, json, numpy, onnxruntime; from pathlib import Path\n"
        "def run(path):\n"
        "    session = onnxruntime.InferenceSession(str(path))\n"
        "    return session.run(None, dict(numpy.load(path.with_suffix('.npz'))))[0].tolist()\n"
        "paths = Path(sys.argv[1]).glob('*.onnx')\n"
        "print(json.dumps({path.stem: run(path) for path in paths}))"
    )
    import json

    command = [str(place.python()), "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read: dict[str, list[int]] = json.loads(done.stdout)
    return read


def _expected(folder: Path) -> dict[str, list[int]]:
    import onnx
    from onnx import numpy_helper

    products = {}
    for path in folder.glob("*.onnx"):
        (weights,) = map(numpy_helper.to_array, onnx.load(path).graph.initializer)
        with np.load(path.with_suffix(".npz")) as feeds:
            products[path.stem] = (feeds["a"].astype(int) @ weights.astype(int)).tolist()
    return products


def test_no_time_or_memory_is_measured_there(dotprod: ArmPlace, tmp_path: Path) -> None:
    for work in ("memory", "latency"):
        with pytest.raises(InvalidInput, match=work):
            dotprod.run(Request(work=work, artifact=tmp_path))


def test_closing_leaves_nothing(dotprod: ArmPlace) -> None:
    place = ArmPlace("dotprod")
    folder = place.python().parent
    assert folder.exists()
    place.close()
    assert not folder.exists()


def test_without_a_set_up_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    if arm.unsupported():
        pytest.skip("another reason comes first on this machine")
    assert "edgeq emulate arm64" in str(arm_place.available())
    with pytest.raises(Missing, match="edgeq emulate arm64"):
        ArmPlace("dotprod")


def test_without_apt_or_qemu_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGEQ_QEMU", raising=False)
    assert find_qemu("aarch64") is None
    with pytest.raises(Missing, match="apt-get"):
        fetch_qemu("aarch64", print)
    assert not list(tmp_path.glob("qemu/*/"))
    assert "apt-get" in str(apt.lacking())


def test_another_qemu_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_QEMU", str(tmp_path / "qemu"))
    with pytest.raises(Missing, match="EDGEQ_QEMU"):
        find_qemu("aarch64")
    (tmp_path / "qemu").write_text("#!/bin/sh\n")
    (tmp_path / "qemu").chmod(0o755)
    assert find_qemu("aarch64") == tmp_path / "qemu"


def test_a_library_without_what_is_not_loaded_still_loads(tmp_path: Path) -> None:
    from edgeq.places.emulated.hiding import compiler

    tool = compiler()
    if tool is None or elf.machine(Path("/proc/self/exe").read_bytes()) is None:
        pytest.skip("no compiler of ELF libraries here")
    library = tmp_path / "library.so"
    command = [tool, "-g", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=b"int answer(void) { return 42; }", check=True)
    before = library.stat().st_size
    elf.drop_unloaded(library)
    assert library.stat().st_size < before
    import ctypes

    assert ctypes.CDLL(str(library)).answer() == 42
    kept = library.read_bytes()
    elf.drop_unloaded(library)
    assert library.read_bytes() == kept


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "script.so"
    path.write_text("INPUT(libc.so.6)")
    elf.drop_unloaded(path)
    assert path.read_text() == "INPUT(libc.so.6)"


@pytest.mark.parametrize(
    ("sets", "wanted"),
    [
        ((), "armv8.0"),
        (("neon",), "armv8.0"),
        (("neon", "dotprod"), "dotprod"),
        (("neon", "dotprod", "i8mm"), "i8mm"),
    ],
)
def test_a_device_gets_the_stand_in_of_its_kernels(
    dotprod: ArmPlace, sets: tuple[str, ...], wanted: str
) -> None:
    device: Device = dotprod.device().model_copy(update={"instruction_sets": sets})
    with catalogue.stand_in_for(device) as place:
        assert place.name == f"arm64: {wanted}"


def test_stand_ins_are_found_by_name() -> None:
    names = catalogue.stand_ins()
    assert {"x86: avx2", "arm64: dotprod"} <= set(names)
    with pytest.raises(InvalidInput, match="dotprod"):
        catalogue.stand_in("arm64: dotprd")
    ready = [name for name, reason in names.items() if reason is None]
    for name in ready:
        with catalogue.stand_in(name) as place:
            assert place.name == name
