"""Device profiles: every fact sourced, every mistake placed, the right file found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.devices import catalogue
from edgeq.devices.catalogue import HERE, Device, device_ids, list_devices, load_device, matches
from edgeq.devices.profile import Note, in_range, same_chip

SHIPPED = Path(__file__).parents[2] / "devices"
IDS = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
TEXT = (SHIPPED / "pi5-8gb.yaml").read_text(encoding="utf-8")


def problems_of(folder: Path, text: str, name: str = "pi5-8gb") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        load_device(str(path))
    assert str(path) in str(caught.value)
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.parametrize("name", IDS)
def test_a_shipped_profile_is_whole(name: str) -> None:
    found = load_device(name)
    assert found.id == name
    assert found.app_limit().bytes < found.ram
    assert found.reach is None
    unsourced = {"id", "name", "kind", "reach", "compute_units", "sources"}
    for fact, value in found:
        assert not value or fact in unsourced or all(note.text for note in found.sources[fact])
    assert Device.model_validate_json(found.model_dump_json()) == found


def test_the_profiles_that_the_first_users_asked_for_are_there() -> None:
    devices = {name: load_device(name) for name in IDS}
    x86 = [found for found in devices.values() if found.arch == "x86_64"]
    vnni = {"avx_vnni", "avx512_vnni"}
    assert len(x86) >= 3
    assert any(not vnni & set(found.instruction_sets) for found in x86)
    assert len({found.ram for found in devices.values() if found.os == "ios"}) >= 2
    assert sum(found.os == "android" for found in devices.values()) >= 2
    macs = {found.chip for found in devices.values() if found.os == "macos"}
    assert macs >= {"Apple M1", "Apple M2", "Apple M3", "Apple M4"}
    assert "dotprod" not in devices["pi4-4gb"].instruction_sets
    assert "dotprod" in devices["pi5-8gb"].instruction_sets


def test_an_entitlement_raises_the_limit() -> None:
    for name in ("iphone-14", "iphone-15-pro"):
        phone = load_device(name)
        granted = phone.app_limit("increased-memory-limit")
        assert phone.app_limit().bytes < granted.bytes < phone.ram
        assert granted.entitlement == "increased-memory-limit"
        assert phone.counts == "footprint"
    with pytest.raises(InvalidInput, match="increased-memory-limit"):
        load_device("pi4-4gb").app_limit("increased-memory-limit")


@pytest.mark.parametrize(("release", "gibibytes"), [("18.3", 2), ("17.6", 3), ("26", 1)])
def test_the_limit_is_that_of_the_release(tmp_path: Path, release: str, gibibytes: int) -> None:
    limits = [(">=17,<18", 3), (">=18,<26", 2), (">=26", 1)]
    lines = [f'  - {{os: "{span}", limit: {size} GiB, basis: measured}}' for span, size in limits]
    text = TEXT.replace("  - {os: any, limit: 7 GiB, basis: rule of thumb}", "\n".join(lines))
    path = tmp_path / "pi5-8gb.yaml"
    path.write_text(text.replace('os_version: "12"', f'os_version: "{release}"'), encoding="utf-8")
    assert load_device(str(path)).app_limit().bytes == gibibytes * 2**30


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ram: 8 GiB", "ram: 8", "pi5-8gb.yaml:8:6: ram: '8' has no unit"),
        ("dotprod]", "dotprot]", "did you mean 'dotprod'?"),
        ("dotprod]", "avx2]", "'avx2' is not an extension of aarch64"),
        ("chip: Broadcom", "chpi: Broadcom", "did you mean 'chip'?"),
        ("  ram:\n    - *bus\n", "", "no source for ram"),
        ("  ram:\n    - *bus\n", "  ramm:\n    - *bus\n", "did you mean 'ram'?"),
        ("{os: any,", "{os: '18+',", "'18+' is not a range of versions"),
        ("{os: any,", "{os: '>=13',", "no limit for release 12"),
        (
            "  - {os: any,",
            "  - {os: '<13', limit: 1 GiB, basis: measured}\n  - {os: any,",
            "two limits",
        ),
        ("id: pi5-8gb", "id: pi5", "write 'id: pi5-8gb', or rename the file"),
        ("id: pi5-8gb", "id: here", "'here' is reserved for the machine"),
        ("int4-b32: >-", "int4-b31: >-", "did you mean 'int4-b32'?"),
        ("counts: ", "compute_units: all\ncounts: ", "Core ML does not exist on linux"),
        ("counts: ", "suits: {npu: [int8]}\ncounts: ", "'npu' is not among its accelerators"),
        ("counts: ", "suits: {cpu: [int8]}\ncounts: ", "no source for suits"),
        ("counts: ", "suits: {cpu: [int9]}\ncounts: ", "did you mean 'int8'?"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert TEXT.count(old) == 1
    message = problems_of(tmp_path, TEXT.replace(old, new))
    assert expected in message
    assert message.startswith("pi5-8gb.yaml:")


def test_every_fact_needs_its_source(tmp_path: Path) -> None:
    found = load_device("pi5-8gb")
    for fact in found.sources:
        sources = {name: notes for name, notes in found.sources.items() if name != fact}
        with pytest.raises(ValueError, match=f"no source for {fact}"):
            Device.model_validate({**dict(found), "sources": sources})


def test_an_unknown_id_brings_the_nearest() -> None:
    with pytest.raises(InvalidInput, match=r"did you mean 'pi5-8gb'.*edgeq devices"):
        load_device("pi5-8g")
    with pytest.raises(InvalidInput, match='"edgeq devices" lists them'):
        load_device("toaster")


def test_a_projects_own_profile_hides_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    own = TEXT.replace("ram: 8 GiB", "ram: 16 GiB")
    (tmp_path / "devices" / "pi5-8gb.yaml").write_text(own, encoding="utf-8")
    other = TEXT.replace("id: pi5-8gb", "id: my-board")
    (tmp_path / "devices" / "my-board.yaml").write_text(other, encoding="utf-8")
    assert load_device("pi5-8gb").ram == 16 * 2**30
    assert load_device("pi4-4gb").ram == 4 * 2**30
    assert device_ids() == [HERE, *sorted([*IDS, "my-board"])]
    assert [found.id for found in list_devices()] == device_ids()
    assert load_device("devices/my-board.yaml") == load_device("my-board")


def test_all_broken_profiles_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    for name in ("first", "second"):
        path = tmp_path / "devices" / f"{name}.yaml"
        path.write_text(TEXT.replace("ram: 8 GiB", "ram: much"), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        list_devices()
    told = str(caught.value)
    assert "first.yaml" in told
    assert "second.yaml" in told


def test_profiles_are_found_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_devices").mkdir()
    (tmp_path / "_devices" / "pi5-8gb.yaml").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(catalogue, "_PACKAGE", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert device_ids() == [HERE, "pi5-8gb"]
    assert load_device("pi5-8gb").chip == "Broadcom BCM2712"


def test_a_machine_is_called_a_device_only_with_its_chip_and_memory() -> None:
    profile = load_device("x86-laptop-8gb")
    visible = int(profile.ram * 0.96)
    here = profile.model_copy(
        update={"id": HERE, "ram": visible, "chip": "12th Gen Intel(R) Core(TM) i5-1235U"}
    )
    assert matches(profile, here)
    assert not matches(profile, here.model_copy(update={"chip": "unknown"}))
    assert not matches(profile, here.model_copy(update={"chip": "Intel Core i5-1245U"}))
    assert not matches(profile, here.model_copy(update={"ram": 2 * visible}))
    assert not matches(profile, here.model_copy(update={"ram": visible // 2}))
    linux = here.model_copy(update={"os": "linux"})
    assert matches(profile, linux)
    hidden = tuple(word for word in profile.instruction_sets if word != "avx_vnni")
    assert not matches(profile, linux.model_copy(update={"instruction_sets": hidden}))


@pytest.mark.parametrize(
    ("told", "profile"),
    [
        ("12th Gen Intel(R) Core(TM) i5-1235U", "Intel Core i5-1235U"),
        ("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", "Intel Core i5-8250U"),
        ("AMD Ryzen 7 7840U w/ Radeon  780M Graphics", "AMD Ryzen 7 7840U"),
        ("AMD Ryzen 7 5800X 8-Core Processor", "AMD Ryzen 7 5800X"),
        ("Apple M1", "Apple M1"),
    ],
)
def test_decorated_names_mean_the_same_chip(told: str, profile: str) -> None:
    assert same_chip(told, profile)
    assert same_chip(profile, told)


def test_similar_names_are_other_chips() -> None:
    assert not same_chip("Apple M1", "Apple M1 Pro")
    assert not same_chip("Intel Core i5-1235U", "Intel Core i5-1235")
    assert not same_chip("unknown", "unknown")


numbers = st.lists(st.integers(0, 99), min_size=1, max_size=3)


@given(numbers, numbers)
def test_a_release_is_on_exactly_one_side_of_a_bound(one: list[int], other: list[int]) -> None:
    version, bound = (".".join(map(str, parts)) for parts in (one, other))
    assert in_range(version, f">={bound}") != in_range(version, f"<{bound}")
    width = max(len(one), len(other))
    padded = [parts + [0] * (width - len(parts)) for parts in (one, other)]
    assert in_range(version, f">={bound}") == (padded[0] >= padded[1])
    assert in_range(f"{version}-rc1", f">={bound}") == in_range(version, f">={bound}")
    assert in_range(version, "any")


def test_a_note_links_to_the_web_only() -> None:
    with pytest.raises(ValueError, match="url"):
        Note(text="a file of mine", url="file:///etc/passwd")


def test_finding_devices_loads_no_runtime() -> None:
    code = (
        "import sys; from edgeq.devices.catalogue import list_devices; list_devices();"
        "print({'onnxruntime', 'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
