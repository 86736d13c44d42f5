"""Where two runs of one model diverge: the first weight whose input or product differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_PRODUCTS = ("MatMul", "FusedMatMul")
_NORMS = ("LayerNormalization", "SimplifiedLayerNormalization")
_APART = 1e-3  # relative: far above rounding, far below a misread model


@dataclass(frozen=True)
class _Seen:
    """A weight's input, and its product without the bias."""

    weight: str
    given: Array | None
    made: Array


class FirstDifference:
    """Compares an original (a torch module) and the float graph of the same model, weight by
    weight.
    """

    def __init__(self, network: Any, graph: Path) -> None:
        self._network, self._graph = network, graph

    def of(self, feed: Mapping[str, Array]) -> str:
        """Describe where the two diverge on one input of the graph."""
        found = dict(self._in_graph(feed))
        last = ""
        for seen in self._in_original(feed):
            own = found.get(seen.weight)
            if own is None:
                continue
            before = f"after {last} (which agrees)" if last else "before the first weight"
            if seen.given is not None and _differ(own.given, seen.given):
                return f"they diverge {before}, in the input of {seen.weight}"
            if _differ(own.made, seen.made):
                return f"they diverge at {seen.weight}: its input agrees, its product does not"
            last = seen.weight
        return (
            f"they diverge after {last}, the last weight" if last else "no weight could be matched"
        )

    def _in_original(self, feed: Mapping[str, Array]) -> list[_Seen]:
        """In the order in which the library runs them."""
        import torch

        seen: list[_Seen] = []

        def watch(name: str) -> Any:
            def hook(module: Any, given: tuple[Any, ...], made: Any) -> None:
                bias = getattr(module, "bias", None)
                is_linear = isinstance(module, torch.nn.Linear)
                product = made - bias if is_linear and bias is not None else made
                is_table = isinstance(module, torch.nn.Embedding)
                before = None if is_table else given[0].numpy()
                seen.append(_Seen(f"{name}.weight", before, product.numpy()))

            return hook

        modules = self._network.named_modules()
        hooks = [
            module.register_forward_hook(watch(name))
            for name, module in modules
            if isinstance(getattr(module, "weight", None), torch.nn.Parameter)
        ]
        names = ("input_ids", "attention_mask", "token_type_ids")
        texts = {name: torch.from_numpy(feed[name]) for name in names if name in feed}
        with torch.inference_mode():
            self._network(**texts)
        for hook in hooks:
            hook.remove()
        return seen

    def _in_graph(self, feed: Mapping[str, Array]) -> Iterator[tuple[str, _Seen]]:
        from edgeq.models.graphs.statistics import open_watched  # only a failed proof needs onnx

        every = list(self._places())
        # Equal weights can be one constant of the graph, which has then no place of its own.
        read = Counter(weight for weight, _ in every)
        places = {weight: place for weight, place in every if read[weight] == 1}
        names = list(dict.fromkeys(name for pair in places.values() for name in pair if name))
        session = open_watched(self._graph, names)
        wanted = {value.name for value in session.get_inputs()}
        values = [value.name for value in session.get_outputs()]
        given = {name: array for name, array in feed.items() if name in wanted}
        found = dict(zip(values, session.run(values, given), strict=True))
        for weight, (before, after) in places.items():
            if after in found:
                yield weight, _Seen(weight, found.get(before), found[after])

    def _places(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """The graph's values before and after each weight, by the original's names of weights."""
        from edgeq.models.graphs.opened import load_graph

        known = [f"{name}.weight" for name, _ in self._network.named_modules()]
        for node in load_graph(self._graph).graph:
            for at, value in enumerate(node.inputs):
                if value is None or not value.is_initializer() or not value.name:
                    continue
                weight = _matching(value.name, known)
                tied = weight.endswith("embed_tokens.weight") and node.op_type in _PRODUCTS
                name = "lm_head.weight" if tied else weight
                if node.op_type == "Gather" and at == 0:
                    yield name, ("", node.outputs[0].name or "")
                elif node.op_type in (*_PRODUCTS, *_NORMS) and at == 1:
                    before = node.inputs[0]
                    yield name, ((before.name if before else "") or "", node.outputs[0].name or "")


def _matching(name: str, known: list[str]) -> str:
    """The original's name of a weight; files may add or lack a prefix."""
    ends = (
        each
        for each in known
        if each == name or each.endswith(f".{name}") or name.endswith(f".{each}")
    )
    return next(ends, "")


def _differ(found: Array | None, wanted: Array) -> bool:
    if found is None or found.size != wanted.size:
        return False  # another layout cannot be compared and counts as equal
    a, b = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    return not float(np.linalg.norm(a - b)) <= _APART * float(np.linalg.norm(b))
