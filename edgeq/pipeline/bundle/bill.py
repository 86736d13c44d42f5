"""A bundle's bill of materials: a CycloneDX ML-BOM, from its record and verdicts alone.

Schema: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/. Equal bundles have equal bills,
independent of when or where they are written.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import write_text
from edgeq.formats.bundle import Bundle, read_bundle, read_verdicts

_MODEL = "model"
_OWN_LICENCE = "Apache-2.0"  # of the files that edgeq adds to a model's


def write_bill(bundle: Path, out: Path) -> dict[str, Any]:
    """Write the bill of `bundle` to `out`, validated, and return it.

    Raises InvalidInput for a bundle that changed; Missing without the extra `bom`.
    """
    _library()
    record = read_bundle(bundle)
    bill = bill_of(record, read_verdicts(bundle, record))
    _validate(bill, bundle)
    write_text(out, canonical.to_json(bill))
    return bill


def bill_of(bundle: Bundle, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The bill as JSON values. verdicts: see `read_verdicts` of `edgeq.formats.bundle`."""
    serial = uuid.uuid5(uuid.NAMESPACE_URL, canonical.sha256_of(bundle.model_dump(mode="json")))
    files = [
        _file(name, record.sha256, _OWN_LICENCE if name in bundle.extras else bundle.licence)
        for name, record in sorted(bundle.contents.items())
    ]
    data = [_data(use, digest) for use, digest in sorted(bundle.artifact.sources.items())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": _model(bundle, verdicts),
            "tools": {"components": _tools(bundle)},
        },
        "components": [*files, *data],
        "dependencies": [{"ref": _MODEL, "dependsOn": [each["bom-ref"] for each in files]}],
    }


def _model(bundle: Bundle, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    artifact, source = bundle.artifact, bundle.artifact.model
    ancestor = {
        "type": "machine-learning-model",
        "name": source.source,
        **({"version": source.revision} if source.revision else {}),
        "hashes": _hashes(source.sha256),
    }
    formats = {
        f"edgeq:number-format:{name}": f"{size} bytes"
        for name, size in artifact.bytes_by_number_format().items()
    }
    facts = {"edgeq:file-format": artifact.format, "edgeq:variant": artifact.variant, **formats}
    facts["edgeq:checked"] = str(bundle.checked).lower()
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": artifact.name,
        **({"version": source.revision} if source.revision else {}),
        **({"licenses": [_licence(bundle)]} if bundle.licence else {}),
        "pedigree": {"ancestors": [ancestor]},
        "modelCard": {
            "modelParameters": {
                "task": artifact.task,
                "datasets": [{"ref": _reference(use)} for use in sorted(artifact.sources)],
                "inputs": [{"format": _format(each)} for each in artifact.inputs],
                "outputs": [{"format": _format(each)} for each in artifact.outputs],
            },
            "quantitativeAnalysis": {"performanceMetrics": [*_metrics(verdicts)]},
        },
        "properties": [{"name": name, "value": value} for name, value in sorted(facts.items())],
    }


def _format(value: Any) -> str:
    return f"{value.name}: {value.dtype} ({', '.join(map(str, value.shape))})"


def _metrics(verdicts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The figures of the verdicts, with the device and how each is known."""
    for verdict in verdicts:
        for line in verdict.get("lines", []):
            if line.get("value") is None:
                continue
            unit = f" {line['unit']}" if line.get("unit") else ""
            metric = {
                "type": line["budget"],
                "value": f"{line['value']}{unit}",
                "slice": f"{verdict['device']}, {line['how']}: {line['status']}",
            }
            ends = {"lowerBound": line.get("low"), "upperBound": line.get("high")}
            known = {name: str(value) for name, value in ends.items() if value is not None}
            yield {**metric, **({"confidenceInterval": known} if known else {})}


def _licence(bundle: Bundle) -> dict[str, Any]:
    text = {"text": {"content": bundle.licence_text}} if bundle.licence_text else {}
    return {"license": {**_named(bundle.licence or ""), **text}}


def _named(licence: str) -> dict[str, str]:
    from cyclonedx.spdx import fixup_id

    spdx = fixup_id(licence)
    return {"id": spdx} if spdx else {"name": licence}


def _tools(bundle: Bundle) -> list[dict[str, str]]:
    tools: Mapping[str, str] = bundle.artifact.tools
    return [
        {"type": "application", "name": name, "version": version}
        for name, version in sorted(tools.items())
    ]


def _file(name: str, sha256: str, licence: str | None) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": _hashes(sha256),
        **({"licenses": [{"license": _named(licence)}]} if licence else {}),
    }


def _data(use: str, sha256: str) -> dict[str, Any]:
    return {"type": "data", "bom-ref": _reference(use), "name": use, "hashes": _hashes(sha256)}


def _reference(use: str) -> str:
    return f"data:{use}"


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _library() -> None:
    try:
        import cyclonedx.validation.json  # noqa: F401
    except ImportError:
        raise missing_extra("cyclonedx-python-lib", "bom", "write bills of materials") from None


def _validate(bill: Mapping[str, Any], bundle: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(canonical.to_json(dict(bill)))
    if wrong is not None:
        what = f"its record does not give a valid CycloneDX bill: {wrong}"
        raise InvalidInput(Problem(str(bundle), what, "build the bundle again"))
