"""A bundle's bill of materials is valid CycloneDX and says what the bundle's record says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cyclonedx", reason="the extra [bom] is not installed")
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgeq.core.canonical import sha256_of_file
from edgeq.formats.bundle import read_bundle, read_verdicts
from edgeq.pipeline.bundle.bill import bill_of, write_bill
from edgeq.pipeline.bundle.write import write_bundle
from tests.support import samples
from tests.support.verdicts import measurement, verdict


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bill")
    found = verdict({"memory": {"peak": "200 MiB"}}, measured=measurement())
    return write_bundle(
        samples.sentence_artifact(folder / "artifact"),
        folder / "out.zip",
        recipe_text="edgeq: 1",
        verdicts=[found.model_dump(mode="json")],
        licence="apache-2.0",
        licence_text="the text",
        unchecked=False,
    )


def test_the_bill_is_valid_and_complete(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.cdx.json"
    write_bill(bundle, out)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(out.read_text()) is None
    bill, record = json.loads(out.read_text()), read_bundle(bundle)
    files = {
        each["name"]: each["hashes"][0]["content"]
        for each in bill["components"]
        if each["type"] == "file"
    }
    licences = [each["licenses"] for each in bill["components"] if each["type"] == "file"]
    assert licences == [[{"license": {"id": "Apache-2.0"}}]] * len(files)
    assert files == {name: file.sha256 for name, file in record.contents.items()}
    model = bill["metadata"]["component"]
    assert model["licenses"] == [{"license": {"id": "Apache-2.0", "text": {"content": "the text"}}}]
    assert model["pedigree"]["ancestors"][0]["name"] == record.artifact.model.source
    card = model["modelCard"]
    metrics = {each["type"]: each for each in card["quantitativeAnalysis"]["performanceMetrics"]}
    (line,) = (x for x in read_verdicts(bundle, record)[0]["lines"] if x["budget"] == "memory.peak")
    assert metrics["memory.peak"]["value"].startswith(str(line["value"]))
    assert line["how"] in metrics["memory.peak"]["slice"]
    named = {each["name"] for each in model["properties"]}
    assert {
        f"edgeq:number-format:{name}" for name in record.artifact.bytes_by_number_format()
    } <= named
    tools = {each["name"] for each in bill["metadata"]["tools"]["components"]}
    assert tools == set(record.artifact.tools)


def test_equal_bundles_have_equal_bills(bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bill(bundle, tmp_path / name)
    assert sha256_of_file(tmp_path / "a") == sha256_of_file(tmp_path / "b")


def test_a_licence_outside_spdx_is_named(bundle: Path) -> None:
    record = read_bundle(bundle).model_copy(update={"licence": "our own"})
    assert (
        bill_of(record, [])["metadata"]["component"]["licenses"][0]["license"]["name"] == "our own"
    )


def test_files_that_edgeq_adds_have_its_own_licence(bundle: Path) -> None:
    record = read_bundle(bundle)
    (name, *_) = record.files
    extra = {"EdgeqModel.swift": record.files[name]}
    changed = record.model_copy(update={"extras": extra, "licence": "cc-by-4.0"})
    found = {each["name"]: each.get("licenses") for each in bill_of(changed, [])["components"]}
    assert found["EdgeqModel.swift"] == [{"license": {"id": "Apache-2.0"}}]
    assert found[name] == [{"license": {"id": "CC-BY-4.0"}}]
