"""Operators of a graph that no handler translates, told before anything is built."""

from __future__ import annotations

import onnx_ir as ir

from edgeq.core.errors import InvalidInput
from edgeq.formats.apple import handlers  # noqa: F401  (they register)
from edgeq.formats.apple.graph import HANDLERS, unsupported
from edgeq.models.graphs.rewriting import bodies

_KNOWN_BEFORE = frozenset({"Shape", "Size"})  # for the sizes that a program is written for


def refuse_unsupported(graph: ir.Graph, title: str, where: str) -> None:
    """Raise InvalidInput for operators on what depends on an input that have no handler.

    Others are computed while a program is written. where: the file, for the error.
    """
    varying, found = set(graph.inputs), set()
    for node in graph:
        if node.op_type in _KNOWN_BEFORE or not (_read(node) & varying):
            continue
        varying.update(node.outputs)
        takes_known_branch = node.op_type == "If" and node.inputs[0] not in varying
        if node.op_type not in HANDLERS and not takes_known_branch:
            found.add(node.op_type)
    if found:
        raise InvalidInput(unsupported(found, title, where))


def _read(node: ir.Node) -> set[ir.Value | None]:
    """What a node reads; its bodies may read anything around it."""
    inside = (inner for body in bodies(node) for inner in body.all_nodes())
    return {*node.inputs, *(value for inner in inside for value in inner.inputs)}
