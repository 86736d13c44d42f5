"""Open graphs whose data lie behind links: installers, caches and snapshots link files, also hard.

onnx and onnx_ir refuse both kinds of link, since a model from a stranger could reach other files by
one. Here every location was checked before: `edgeq.models.graphs.source` refuses a file that names
data outside its folder, and what edgeq wrote names its own.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgeq.core.artifact import MODEL_FILE


def load_graph(directory: Path) -> ir.Model:
    """The `model.onnx` that edgeq wrote in `directory`; constants are mapped from its data file."""
    return resolve_data(ir.load(directory / MODEL_FILE), directory)


def resolve_data(model: ir.Model, folder: Path) -> ir.Model:
    """`model` with each constant in a data file below `folder` mapped from that file itself."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _resolved(value.const_value, folder)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for attribute in [*node.attributes.values()]:
            if isinstance(attribute.value, ir.ExternalTensor):
                tensor = _resolved(attribute.value, folder)
                node.attributes[attribute.name] = ir.AttrTensor(attribute.name, tensor)
    return model


def _resolved(tensor: ir.ExternalTensor, folder: Path) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        str((folder / tensor.location).resolve()),
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        base_dir="",  # for onnx_ir: the caller has checked the place
    )
