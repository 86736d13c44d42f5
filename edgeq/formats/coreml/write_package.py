"""From a program in memory to a `.mlpackage`: equal programs give equal bytes.

The layout is that of Core ML's model packages: Manifest.json names the two items, the model
(protobuf) and the directory of its weights, by identifiers. Apple's writer draws those at random;
here they are derived from the content, so that a package has one hash.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import canonical
from edgeq.core.files import replacing
from edgeq.formats.apple.constants import Array, Read
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.deployment_targets import Target

_ITEMS = "com.apple.CoreML"
MODEL_PATH = f"Data/{_ITEMS}/model.mlmodel"
WEIGHTS_PATH = f"Data/{_ITEMS}/weights/weight.bin"


@dataclass(frozen=True)
class Classes:
    """The classes of a classifier, and the names of its last two outputs."""

    labels: tuple[str, ...]
    label: str
    probabilities: str


def write_package(
    program: Any,
    readers: Mapping[str, Read],
    target: Target,
    metadata: Mapping[str, str],
    destination: Path,
    classes: Classes | None = None,
) -> None:
    """Write a MIL program (of coremltools) as the package `destination`, a directory.

    readers: values of constants by their names in the program, which itself has only their shapes;
    each is called once, when it is written. metadata: stored in the model as user-defined. classes:
    of a program that ends in `classify`. The directory appears when it is complete, and replaces an
    existing one.
    """
    with replacing(destination) as partial:
        weights = partial / WEIGHTS_PATH
        weights.parent.mkdir(parents=True)
        spec = _specification(program, readers, target, weights.parent, classes)
        spec.description.metadata.userDefined.update(metadata)
        (partial / MODEL_PATH).write_bytes(spec.SerializeToString(deterministic=True))
        if not weights.exists():  # archives do not keep empty directories
            weights.parent.rmdir()
        _write_manifest(partial)


def _specification(
    program: Any,
    readers: Mapping[str, Read],
    target: Target,
    weights: Path,
    classes: Classes | None,
) -> Any:
    tools = load_coremltools()
    places: dict[str, int] = {}
    from coremltools.converters.mil.backend.mil import load as backend

    class Exporter(backend.MILProtoExporter):  # type: ignore[misc,unused-ignore]
        """Takes the values of large constants from `readers`, one at a time."""

        def create_file_value(self, var: Any) -> Any:
            read = readers.get(var.name)
            if read is None:
                return super().create_file_value(var)
            if var.name not in places:  # several operators may decompress the same codes
                values = read()
                if values.shape != var.shape:
                    raise ValueError(f"{var.name}: {values.shape} values for {var.shape}")
                writer = self.get_blob_writer(self.get_weight_path(var.op))
                places[var.name] = _append(writer, var, values)
            return backend.create_file_value_tensor(
                file_name="@model_path/weights/weight.bin",
                offset=places[var.name],
                dim=var.shape,
                data_type=backend.types_to_proto_primitive(var.dtype),
            )

    exporter = Exporter(program, str(weights), target.specification)
    ends = classes or Classes((), "", "")
    described = backend.CoreMLProtoExporter(
        program,
        exporter.export(),
        ends.label,
        ends.probabilities,
        tools.ClassifierConfig(list(classes.labels)) if classes else None,
        "mlprogram",
        "milinternal",
        target.specification,
    )
    return described.export(target.specification)


def _append(writer: Any, var: Any, values: Array) -> int:
    """Write `values` as numbers of the variable's type; returns their place in the file."""
    from coremltools.converters.mil.mil import types

    packed = {
        types.int4: "write_int4_data",
        types.uint4: "write_uint4_data",
        types.uint6: "write_uint6_data",
        types.int8: "write_int8_data",
        types.uint8: "write_uint8_data",
        types.fp32: "write_float_data",
    }
    flat = np.ascontiguousarray(values).reshape(-1)
    if var.dtype is types.fp16:
        return int(writer.write_fp16_data(flat.view(np.uint16)))
    return int(getattr(writer, packed[var.dtype])(flat))


def _write_manifest(package: Path) -> None:
    items = {
        MODEL_PATH: ("model.mlmodel", "CoreML Model Specification"),
        str(Path(WEIGHTS_PATH).parent): ("weights", "CoreML Model Weights"),
    }
    hashed = canonical.sha256_of_file(package / MODEL_PATH)
    entries = {}
    for path, (name, description) in items.items():
        if not (package / path).exists():
            continue
        identifier = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{hashed} {name}")).upper()
        entries[identifier] = {
            "author": _ITEMS,
            "description": description,
            "name": name,
            "path": path.removeprefix("Data/"),
        }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": next(iter(entries)),
    }
    text = json.dumps(manifest, indent=4)
    (package / "Manifest.json").write_text(text, encoding="utf-8")
