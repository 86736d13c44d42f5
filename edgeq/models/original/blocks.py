"""A model in torch with one block of its layers in memory at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.integrations.accelerate import init_empty_weights

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import Task
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.network import config_of
from edgeq.models.weights import open_weights

Floats = NDArray[np.float32]
Read: TypeAlias = Callable[[str], Floats | None]
"""A weight by its name, None for the model's own."""


class _Stop(Exception):
    """The last block was reached: nothing behind it is of interest."""


class Blocks:
    """The repeated layers of a model, each read from its files when it is asked for.

    layers: modules without weights. names: of the matrices of each, as the model's files have them.
    Raises InvalidInput for a model without such layers, or one that runs through a layer twice.
    """

    def __init__(self, directory: ModelDirectory, task: Task) -> None:
        self._directory, self._weights = directory, open_weights(directory)
        kind = transformers.CONFIG_MAPPING[directory.config["model_type"]]
        config = config_of(directory) or kind.from_dict(directory.config)
        with init_empty_weights(include_buffers=False):
            network = getattr(transformers, task.auto_class).from_config(
                config, attn_implementation="eager", dtype=torch.float32
            )
        self._network: Any = network.eval().requires_grad_(False)
        self._settings: dict[str, Any] = {"use_cache": False} if task.generates else {}
        self._path, self.layers = self._find_layers()
        self._calls: dict[int, list[_Call]] = {}
        self._gives_tuple: bool | None = None
        self.names = [list(self._matrices(index)) for index in range(len(self.layers))]

    def __len__(self) -> int:
        return len(self.layers)

    def embed(self, feeds: Sequence[Mapping[str, Any]], read: Read) -> Iterator[Floats]:
        """The first block's input for each sample in turn, float32 `(tokens, hidden)`.

        read: weights in front of the blocks. The arguments of every block are kept for each length
        of sample.
        """
        found: list[_Call] = []
        self._fill_front(read)
        with self._passing_on(self._recorder(found)):
            for feed in feeds:
                found.clear()
                with torch.no_grad(), contextlib.suppress(_Stop):
                    self._run(feed)
                hidden = found[0].hidden
                self._calls.setdefault(hidden.shape[1], list(found))
                yield hidden[0].numpy()

    def answers(self, feed: Mapping[str, Any], hidden: torch.Tensor) -> torch.Tensor:
        """What the model gives for the last block's output of a sample: logits, or states.

        To be called after `embed`, which reads what lies around the blocks.
        """
        with self._passing_on(lambda index: lambda *args, **kwargs: self._shaped(hidden)):
            found: torch.Tensor = self._run(feed)[0]
        return found

    @contextlib.contextmanager
    def opened(self, index: int) -> Iterator[Block]:
        """A block with the model's own weights, which are in memory within this context."""
        self._fill(index)
        calls = {length: each[index] for length, each in self._calls.items()}
        yield Block(self.layers[index], calls, self._matrices(index))
        self.layers[index].to(device="meta")

    def _find_layers(self) -> tuple[str, torch.nn.ModuleList]:
        lists = [
            (name, module)
            for name, module in self._network.named_modules()
            if isinstance(module, torch.nn.ModuleList)
        ]
        if not lists:
            raise self._refusal("transformers' model of it has no list of layers to train")
        return max(lists, key=lambda each: sum(1 for _ in each[1].parameters()))

    def _matrices(self, index: int) -> dict[str, str]:
        """Paths in the block of its linear layers, by the weight's name in the files."""
        return {
            self._name(f"{self._path}.{index}.{path}.weight"): path
            for path, module in self.layers[index].named_modules()
            if isinstance(module, torch.nn.Linear)
        }

    def _name(self, name: str) -> str:
        """The name in the files of one of the network's parameters: with or without a prefix."""
        prefix = f"{self._network.base_model_prefix}."
        others = (f"{prefix}{name}", name.removeprefix(prefix))
        return next((each for each in (name, *others) if each in self._weights), name)

    def _fill(self, index: int) -> None:
        """Read the weights of a block."""
        for name, module, last in _places(self.layers[index], f"{self._path}.{index}."):
            own = self._name(name)
            if own not in self._weights:
                raise self._refusal(f"its files lack {own}")
            _set(module, last, self._weights.read(own))

    def _fill_front(self, read: Read) -> None:
        """Read what may run in front of the blocks; what follows may lack in the files."""
        for name, module, last in _places(self._network, ""):
            own = self._name(name)
            if own in self._weights and not name.startswith(f"{self._path}."):
                value = read(own)
                _set(module, last, self._weights.read(own) if value is None else value)
        self._network.tie_weights()

    def _run(self, feed: Mapping[str, Any]) -> Any:
        inputs = {name: torch.from_numpy(np.asarray(value)) for name, value in feed.items()}
        return self._network(**inputs, **self._settings)

    def _recorder(self, found: list[_Call]) -> Callable[[int], Callable[..., Any]]:
        """Blocks that pass their input on and append their arguments to `found`."""

        def of_block(index: int) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                if len(found) != index:
                    raise self._refusal("it runs through its layers in another order than listed")
                found.append(_Call.of(args, kwargs))
                if self._gives_tuple is None:
                    self._gives_tuple = self._first_gives_tuple(found[0])
                if index == len(self) - 1:
                    raise _Stop
                return self._shaped(found[0].hidden)

            return forward

        return of_block

    @contextlib.contextmanager
    def _passing_on(self, of_block: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
        """Let other functions take the place of the blocks'."""
        for index, layer in enumerate(self.layers):
            layer.forward = of_block(index)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.__dict__.pop("forward", None)  # gone where running the first block failed

    def _first_gives_tuple(self, call: _Call) -> bool:
        """Whether blocks return a tuple, as the first does when it is run."""
        layer = self.layers[0]
        passing_on = layer.__dict__.pop("forward")
        self._fill(0)
        found = layer(call.hidden, *call.args, **call.kwargs)
        layer.to(device="meta")
        layer.forward = passing_on
        return isinstance(found, tuple)

    def _shaped(self, hidden: torch.Tensor) -> Any:
        """Hidden states as blocks return them."""
        return (hidden,) if self._gives_tuple else hidden

    def _refusal(self, what: str) -> InvalidInput:
        remedy = "write 'method: gptq', which needs no network in torch"
        return InvalidInput(Problem(str(self._directory.path), what, remedy))


@dataclass(frozen=True)
class _Call:
    """The arguments of one block for one sample."""

    hidden: torch.Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Call:
        """From a call, in which the hidden states may have a name."""
        if args:
            return cls(args[0], args[1:], kwargs)
        others = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        return cls(kwargs["hidden_states"], (), others)


class Block:
    """One block with its weights, to be run with others in the place of its matrices.

    names: of its matrices, as in the files.
    """

    def __init__(
        self, layer: torch.nn.Module, calls: Mapping[int, _Call], paths: Mapping[str, str]
    ) -> None:
        self._layer, self._calls, self._paths = layer, calls, paths

    def weight(self, name: str) -> torch.Tensor:
        """The model's own weight, float32 `(rows, columns)`."""
        found: torch.Tensor = self._layer.get_parameter(f"{self._paths[name]}.weight")
        return found

    def run(self, hidden: torch.Tensor, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The block's output for samples of one length, float32 `(samples, tokens, hidden)`."""
        call = self._calls[hidden.shape[1]]
        own = {f"{self._paths[name]}.weight": value for name, value in values.items()}
        found: Any = torch.func.functional_call(
            self._layer, own, (hidden, *call.args), dict(call.kwargs)
        )
        output: torch.Tensor = found[0] if isinstance(found, tuple) else found
        return output


def _places(module: torch.nn.Module, prefix: str) -> list[tuple[str, torch.nn.Module, str]]:
    """Name, owner and the name there of every parameter."""
    return [
        (f"{prefix}{path}.{name}" if path else f"{prefix}{name}", owner, name)
        for path, owner in module.named_modules()
        for name, _ in owner.named_parameters(recurse=False)
    ]


def _set(module: torch.nn.Module, name: str, value: Floats) -> None:
    shape = module.get_parameter(name).shape
    tensor = torch.from_numpy(np.ascontiguousarray(value)).reshape(shape)
    module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
