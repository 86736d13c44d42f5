"""Detection: texts of systems we do not hold, and this machine against what it says itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import Missing
from edgeq.devices import cpu, detect
from edgeq.devices.cpu import Cpu
from edgeq.devices.profile import Cores

BASE = "fpu sse2 ssse3 sse4_1 sse4_2 avx f16c"
ALDER_LAKE = f"""\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: 12th Gen Intel(R) Core(TM) i5-1235U
flags\t\t: {BASE} fma avx2 avx_vnni
power management:

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: 12th Gen Intel(R) Core(TM) i5-1235U
flags\t\t: {BASE} fma avx2 avx_vnni
power management:
"""
PI_4 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08

Revision\t: c03112
Model\t\t: Raspberry Pi 4 Model B Rev 1.2
"""
PI_5 = PI_4.replace("asimd evtstrm", "asimd evtstrm fphp asimdhp asimddp").replace("d08", "d0b")
M1 = """\
hw.ncpu: 8
hw.memsize: 8589934592
hw.physicalcpu: 8
hw.logicalcpu: 8
hw.perflevel0.physicalcpu: 4
hw.perflevel1.physicalcpu: 4
hw.optional.neon: 1
hw.optional.arm.FEAT_FP16: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 0
hw.optional.arm.FEAT_BF16: 0
machdep.cpu.brand_string: Apple M1
"""
INTEL_MAC = """\
hw.physicalcpu: 2
hw.logicalcpu: 4
hw.optional.sse4_2: 1
hw.optional.avx1_0: 1
hw.optional.avx2_0: 1
hw.optional.fma: 1
hw.optional.f16c: 1
hw.optional.avx512f: 0
machdep.cpu.brand_string: Intel(R) Core(TM) i5-7267U CPU @ 3.10GHz
"""


def test_x86_with_vnni() -> None:
    found = cpu.parse_cpuinfo(ALDER_LAKE, "x86_64")
    assert found.chip == "12th Gen Intel(R) Core(TM) i5-1235U"
    assert found.instruction_sets == ("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni")


def test_x86_without_vnni() -> None:
    found = cpu.parse_cpuinfo(ALDER_LAKE.replace(" avx_vnni", ""), "x86_64")
    assert found.instruction_sets == ("sse4_2", "avx", "avx2", "fma", "f16c")


def test_avx512_is_more_than_its_foundation() -> None:
    foundation = cpu.parse_cpuinfo(f"flags : {BASE} avx512f avx512cd", "x86_64")
    assert "avx512" not in (foundation.instruction_sets or ())
    whole = f"flags : {BASE} avx512f avx512bw avx512dq avx512vl avx512_vnni"
    assert {"avx512", "avx512_vnni"} <= set(
        cpu.parse_cpuinfo(whole, "x86_64").instruction_sets or ()
    )


def test_an_extension_that_one_core_lacks_does_not_count() -> None:
    uneven = ALDER_LAKE.replace(" avx_vnni", "", 1)
    assert "avx_vnni" not in (cpu.parse_cpuinfo(uneven, "x86_64").instruction_sets or ())


def test_raspberry_pi_4_and_5_differ_in_dot_products() -> None:
    four = cpu.parse_cpuinfo(PI_4, "aarch64", "raspberrypi,4-model-b\0brcm,bcm2711\0")
    five = cpu.parse_cpuinfo(PI_5, "aarch64", "raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert four == Cpu("Broadcom BCM2711", ("neon",))
    assert five == Cpu("Broadcom BCM2712", ("neon", "fp16", "dotprod"))


def test_arm_without_a_device_tree_is_named_by_its_cores() -> None:
    assert cpu.parse_cpuinfo(PI_5, "aarch64").chip == "Arm Cortex-A76"
    mixed = PI_5 + "\n" + PI_5.replace("d0b", "d05")
    assert cpu.parse_cpuinfo(mixed, "aarch64").chip == "Arm Cortex-A55 + Cortex-A76"
    assert cpu.parse_cpuinfo(PI_5.replace("d0b", "fff"), "aarch64").chip is None


@pytest.mark.parametrize(
    ("text", "arch"), [(ALDER_LAKE, "aarch64"), (PI_5, "x86_64"), ("", "x86_64")]
)
def test_the_text_of_another_processor_tells_nothing(text: str, arch: str) -> None:
    assert cpu.parse_cpuinfo(text, arch) == Cpu(None, None)


def test_apple_silicon() -> None:
    values = cpu.parse_sysctl(M1)
    assert cpu.apple_cpu(values) == Cpu("Apple M1", ("neon", "fp16", "dotprod"))
    assert cpu.apple_cores(values) == Cores(performance=4, efficiency=4, threads=8)
    m4 = M1.replace("I8MM: 0", "I8MM: 1").replace("BF16: 0", "BF16: 1")
    found = cpu.apple_cpu(cpu.parse_sysctl(m4 + "hw.optional.arm.FEAT_SME: 1\n"))
    assert found.instruction_sets == ("neon", "fp16", "dotprod", "i8mm", "bf16", "sme")


def test_a_mac_with_an_intel_processor() -> None:
    values = cpu.parse_sysctl(INTEL_MAC)
    found = cpu.apple_cpu(values)
    assert found.chip == "Intel(R) Core(TM) i5-7267U CPU @ 3.10GHz"
    assert found.instruction_sets == ("sse4_2", "avx", "avx2", "fma", "f16c")
    assert cpu.apple_cores(values) == Cores(performance=2, threads=4)


def test_a_sysctl_that_says_nothing() -> None:
    assert cpu.apple_cpu({}) == Cpu(None, None)
    assert cpu.apple_cores({}) is None


@given(st.sets(st.integers(0, 300), min_size=1))
def test_cpu_lists_are_read_back(cpus: set[int]) -> None:
    runs: list[list[int]] = []
    for number in sorted(cpus):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    assert cpu.parse_cpu_list(text + "\n") == cpus


def test_slow_cores_are_counted_against_the_fastest() -> None:
    assert cpu.count_slow([1024, 830, 830, 830, 830, 250, 250, 250, 250]) == 4
    assert cpu.count_slow([1024] * 4) == 0


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_takes_the_smallest_limit_up_the_tree(tmp_path: Path) -> None:
    mounts = f"29 23 0:26 / {tmp_path} rw,nosuid - cgroup2 cgroup2 rw\n"
    write(tmp_path / "system.slice/app.service/memory.max", "max\n")
    write(tmp_path / "system.slice/memory.max", "3000\n")
    groups = "0::/system.slice/app.service\n"
    assert cpu.memory_limit(groups, mounts) == 3000
    write(tmp_path / "system.slice/app.service/memory.max", "2000\n")
    assert cpu.memory_limit(groups, mounts) == 2000
    assert cpu.memory_limit("0::/other.slice\n", mounts) is None


def test_version_1_reads_the_memory_controller(tmp_path: Path) -> None:
    mounts = (
        f"31 30 0:28 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu\n"
        f"35 31 0:32 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
        f"41 31 0:38 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
    )
    write(tmp_path / "memory/jobs/one/memory.limit_in_bytes", "5000\n")
    write(tmp_path / "memory/memory.limit_in_bytes", "9223372036854771712\n")
    groups = "9:name=systemd:/\n4:memory:/jobs/one\n1:cpu:/\n0::/\n"
    assert cpu.memory_limit(groups, mounts) == 5000


def test_a_container_sees_its_group_as_the_top(tmp_path: Path) -> None:
    mounts = f"35 31 0:32 /docker/abc {tmp_path} ro - cgroup cgroup rw,memory\n"
    write(tmp_path / "memory.limit_in_bytes", "7000\n")
    assert cpu.memory_limit("4:memory:/docker/abc\n", mounts) == 7000
    own_namespace = f"29 23 0:26 /../.. {tmp_path} ro - cgroup2 cgroup rw\n"
    write(tmp_path / "memory.max", "8000\n")
    assert cpu.memory_limit("0::/\n", own_namespace) == 8000


def test_no_control_groups() -> None:
    assert cpu.memory_limit("", "") is None
    assert cpu.memory_limit("", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n") is None


def test_this_machine_says_what_psutil_says() -> None:
    found = detect.detect()
    assert (found.id, found.reach) == ("here", "here")
    assert found.ram == psutil.virtual_memory().total
    cores = found.cores
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count()
    assert cores.performance + cores.efficiency == physical
    assert cores.threads == psutil.cpu_count()
    assert found.app_limit().bytes <= found.ram
    assert found.app_limit().basis == "read"


@pytest.mark.skipif(platform.system() != "Linux", reason="compares with /proc/cpuinfo")
def test_this_machine_says_what_proc_says() -> None:
    found = detect.detect()
    text = Path("/proc/cpuinfo").read_text()
    key = "flags" if found.arch == "x86_64" else "Features"
    lines = [line for line in text.splitlines() if line.startswith(key)]
    if not lines:
        pytest.skip("/proc/cpuinfo is of another architecture")
    names = {"neon": "asimd", "fp16": "asimdhp", "dotprod": "asimddp", "avx512": "avx512bw"}
    flags = set(lines[0].split())
    for word in found.instruction_sets:
        assert names.get(word, word) in flags
    for word in ("avx2", "avx_vnni", "avx512_vnni", "i8mm"):
        assert (word in found.instruction_sets) == (word in flags)
    assert found.chip == "unknown" or found.arch != "x86_64" or found.chip in text


def test_an_unknown_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(Missing, match="riscv64"):
        detect.detect()


@pytest.fixture
def limited_group() -> Iterator[tuple[Path, int]]:
    """A control group with 2 GiB, where this machine lets us make one."""
    limit = 2 * 2**30
    version_2 = Path("/sys/fs/cgroup/memory.max").parent
    for root, name in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (version_2, "memory.max"),
    ):
        group = root / f"edgeq-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        yield group, limit
        group.rmdir()
        return
    pytest.skip("no control group can be made here")


def test_a_real_limit_on_this_process_is_its_budget(limited_group: tuple[Path, int]) -> None:
    group, limit = limited_group
    if psutil.virtual_memory().total <= limit:
        pytest.skip("this machine has no more than the limit")
    code = (
        f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
        "from edgeq.devices import detect as here\n"
        "found = here.detect()\n"
        "print(found.app_limit().bytes, found.sources['app_memory'][0].text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == [
        str(limit),
        "read off this machine: the limit of its control group\n",
    ]
