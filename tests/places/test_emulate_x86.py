from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeq.core.errors import InvalidInput, Missing
from edgeq.formats.gguf.instructions import beyond
from edgeq.places.emulated import hiding, x86_classes, x86_place
from edgeq.places.emulated.qemu import find_qemu
from edgeq.places.emulated.x86_place import MaskedPlace
from edgeq.places.emulated.x86_scan import find_cpuid
from edgeq.places.process import Request
from tests.support import samples
from tests.support.kernel_models import write_models
from tests.support.stand_ins import need, users_cache

REPOSITORY = Path(__file__).parents[2]
# Two CPUIDs, and three times their bytes as data: in an immediate, in a displacement, in a table.
SOURCE = """
__attribute__((aligned(16))) const unsigned char table[4] = {0x0f, 0xa2, 0x0f, 0xa2};
unsigned number(unsigned *at) { return at[0xa20f / 4 + 1] + 0xa20f; }
unsigned first(void) {
    unsigned a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    return a;
}
unsigned second(unsigned leaf) {
    unsigned b, c = 0, d;
    __asm__ volatile("movl $0x0b0fa20f, %%edx; cpuid" : "+a"(leaf), "=b"(b), "+c"(c), "=d"(d));
    return b;
}
"""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def masked(own_cache: None) -> Iterator[Callable[[str], MaskedPlace]]:
    """A place by class, started once: that takes a second."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(name: str) -> MaskedPlace:
            need(x86_place.available(name))
            return stack.enter_context(MaskedPlace(name))

        yield start


@pytest.fixture(params=sorted(x86_classes.CLASSES))
def place(request: pytest.FixtureRequest, masked: Callable[[str], MaskedPlace]) -> MaskedPlace:
    return masked(request.param)


def environment(place: MaskedPlace | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    own = {"PYTHONPATH": str(REPOSITORY), "ORT_DISABLE_TELEMETRY": "1"}
    return {**kept, **own, **(place.environment() if place else {})}


def answers(folder: Path, variables: dict[str, str], *before: str) -> dict[str, str]:
    """What `tests.support.kernel_models` answers, by name."""
    command = [*before, sys.executable, "-m", "tests.support.kernel_models", str(folder)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


def test_only_instructions_count_as_cpuid(tmp_path: Path) -> None:
    need(x86_place.available("sse4"))
    library = tmp_path / "library.so"
    compiler = hiding.compiler()
    assert compiler is not None
    command = [compiler, "-O1", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=SOURCE.encode(), check=True)
    assert library.read_bytes().count(b"\x0f\xa2") >= 5
    assert len(find_cpuid(library)) == 2


def test_what_is_no_x86_library_has_no_cpuid(tmp_path: Path) -> None:
    other = tmp_path / "data.bin"
    other.write_bytes(b"\x0f\xa2" * 100)
    assert find_cpuid(other) == ()


def test_a_process_sees_the_class(place: MaskedPlace) -> None:
    device = place.device()
    assert set(place.cpu_class.needs) <= set(device.instruction_sets)
    hidden = {word for word in device.instruction_sets if word in place.cpu_class.hidden}
    assert not hidden
    assert place.how == "emulated" and place.passes == {"memory", "latency", "quality"}


def test_answers_are_those_of_the_class(place: MaskedPlace, models: Path) -> None:
    """Bit by bit what QEMU computes as a CPU of that class, which shares no trick with hiding."""
    qemu, model = find_qemu_x86(), place.cpu_class.qemu
    if not model:
        pytest.skip(f"QEMU has no CPU like {place.cpu_class.name}")
    variables = environment(place)
    masked = answers(models, variables)
    assert not place._learn()  # every library was known, so nothing saw the CPU as it is
    assert masked == answers(models, environment(), str(qemu), "-cpu", model)


def find_qemu_x86() -> Path:
    with users_cache():
        qemu = find_qemu("x86_64")
    need(None if qemu else "no qemu-x86_64 here: edgeq emulate arm64 downloads one")
    assert qemu is not None
    return qemu


SATURATES = """
from edgeq.models import onnx_session
print(onnx_session.products_saturate(), *onnx_session.session_settings().values())
"""


@pytest.mark.parametrize(
    ("name", "saturates"),
    [("avx512-vnni", False), ("avx512", True), ("avx-vnni", False), ("avx2", True)],
)
def test_products_of_bytes_saturate_without_vnni(
    masked: Callable[[str], MaskedPlace], name: str, saturates: bool
) -> None:
    command = [sys.executable, "-c", SATURATES]
    variables = environment(masked(name))
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == (["True", "1"] if saturates else ["False"])


@pytest.mark.parametrize("work", ["memory", "latency"])
def test_a_pass_runs_there(masked: Callable[[str], MaskedPlace], tmp_path: Path, work: str) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    reply = masked("avx2").run(Request(work=work, artifact=artifact))
    assert reply["runs"] > 0 and reply["runtime"].startswith("onnxruntime")


def test_closing_leaves_nothing() -> None:
    need(x86_place.available("avx2"))
    place = MaskedPlace("avx2")
    folder = Path(place.environment()["EDGEQ_HIDE_CPUID"]).parent
    assert folder.exists()
    place.close()
    assert not folder.exists()


def test_a_build_for_more_is_told(masked: Callable[[str], MaskedPlace]) -> None:
    """llama.cpp asks the CPU nothing: that it ran here must not count for a CPU without AVX2."""
    assert beyond("CPU : AVX2 = 1 | FMA = 1 | AVX512 = 0", ["avx", "avx2"]) == ["fma"]
    assert beyond("", []) == []
    with pytest.raises(Missing, match=r"avx2.*SIGILL"):
        masked("avx")._refuse_beyond("CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1")


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(InvalidInput, match="avx2"):
        x86_place.class_of("avx-2")


@pytest.mark.parametrize("kind", x86_classes.CLASSES.values(), ids=lambda kind: kind.name)
def test_cpuinfo_shows_what_is_left(kind: x86_classes.CpuClass) -> None:
    text = f"processor\t: 0\nflags\t\t: sse4_2 {' '.join(x86_classes.BITS)}\nbugs\t\t: avx\n"
    lines = x86_classes.class_without(kind, text).splitlines()
    left = set(lines[1].partition(":")[2].split())
    assert left == {"sse4_2", *x86_classes.BITS} - set(kind.hidden)
    assert [lines[0], lines[2]] == [text.splitlines()[0], text.splitlines()[2]]


@pytest.mark.parametrize("kind", x86_classes.CLASSES.values(), ids=lambda kind: kind.name)
def test_masks_clear_exactly_the_hidden_bits(kind: x86_classes.CpuClass) -> None:
    cleared = {
        (leaf, subleaf, register, bit)
        for leaf, subleaf, register, bits in x86_classes.masks(kind.hidden)
        for bit in range(32)
        if bits >> bit & 1
    }
    assert cleared == {tuple(x86_classes.BITS[flag]) for flag in kind.hidden}


def test_without_a_compiler_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("another reason comes first on this machine")
    assert "compiler" in str(x86_place.available("avx2"))
    with pytest.raises(Missing, match="compiler"):
        MaskedPlace("avx2")
