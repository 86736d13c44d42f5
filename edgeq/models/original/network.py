"""Open a model directory with transformers in float32.

Built-in architectures and safetensors only: code that comes with a model is never run, pickled
weights are never read.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.tasks import Task
from edgeq.core.temporary import TemporaryFolder
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.image_directory import ImageDirectory
from edgeq.models.sentence_head import LayerMix
from edgeq.models.weight_files import WEIGHTS
from edgeq.models.weights import Weights

_WHOLE = "full_attention"
_BUFFERS = ("position_ids", "inv_freq", "attn.bias", "attn.masked_bias", "attention.bias")


def is_installed() -> bool:
    """Whether transformers and torch are installed, to run a model directory."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def versions(*packages: str) -> str:
    """Names and versions of installed packages, for a record."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def open_network(directory: ModelDirectory | ImageDirectory, task: Task) -> Any:
    """The model as transformers builds it: a torch module in float32, in evaluation mode.

    Raises Missing if transformers is not installed, and InvalidInput if it cannot open the model,
    would invent weights or would ignore weights.
    """
    if not is_installed():
        raise missing_extra("transformers", "build", "run a Hugging Face directory")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    family = directory.config.get("model_type")
    if isinstance(family, str) and family not in transformers.CONFIG_MAPPING:
        raise InvalidInput(_unknown(directory, family))
    try:
        with usual_names(directory) as place:
            network, report = getattr(transformers, task.auto_class).from_pretrained(
                place,
                config=config_of(directory),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **({"attn_implementation": "eager"} if task.generates else {}),
            )
    except (ValueError, OSError, KeyError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        what = f"transformers cannot open it as {task.noun}: {reason}"
        remedy = "name a model with an architecture built into transformers"
        raise InvalidInput(Problem(str(directory.path), what, remedy)) from None
    refuse_misfits(directory, task, report)
    head = directory.head if isinstance(directory, ModelDirectory) else None
    if head is not None and head.mix is not None and task.has_sentence_head:
        _mix_layers(network, head.mix)
    return network.eval()


def _mix_layers(network: Any, mix: LayerMix) -> None:
    """Give the weighted mean of layers in place of the last one's vectors."""
    import torch

    factors = torch.from_numpy(Weights([mix.file]).read("layer_weights"))
    network.config.output_hidden_states = True
    forward = type(network).forward
    signature = inspect.signature(forward)

    def mixed(self: Any, *given: Any, **named: Any) -> Any:
        taken = signature.bind_partial(self, *given, **named).arguments
        taken |= taken.pop("kwargs", {})
        del taken["self"]
        answer = forward(self, **{**taken, "output_hidden_states": True, "return_dict": True})
        layers = torch.stack(answer.hidden_states)[mix.start :]
        answer.last_hidden_state = (factors.view(-1, 1, 1, 1) * layers).sum(0) / factors.sum()
        return answer

    # The exporter reads the names of arguments, and would go back to what is wrapped.
    mixed.__signature__ = signature  # type: ignore[attr-defined]
    network.forward = types.MethodType(mixed, network)


def unknown_architecture(directory: ModelDirectory | ImageDirectory) -> Problem | None:
    """That the installed transformers is too old for a model; None if it is not, or not installed.

    By the text of its files: importing it takes seconds.
    """
    family = directory.config.get("model_type")
    found = importlib.util.find_spec("transformers") if is_installed() else None
    if found is None or found.origin is None or not isinstance(family, str):
        return None
    folder = Path(found.origin).parent / "models" / "auto"
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))]
    known = not texts or any(f'("{family}", "' in text for text in texts)
    return None if known else _unknown(directory, family)


def _unknown(directory: ModelDirectory | ImageDirectory, family: str) -> Problem:
    version = importlib.metadata.version("transformers")
    what = f"transformers {version} does not know the architecture {family!r}"
    remedy = (
        "install a later one, in an environment without sentence encoders: "
        "pip install --upgrade transformers"
    )
    return Problem(str(directory.path), what, remedy)


@contextlib.contextmanager
def usual_names(directory: ModelDirectory | ImageDirectory) -> Iterator[Path]:
    """The model's directory; a copy in float32 if its weights have a wrapper's prefix."""
    if not directory.stored_names:
        yield directory.path
        return
    from safetensors.numpy import save_file

    with TemporaryFolder() as folder:
        weights = Weights(directory.weight_files, directory.stored_names)
        whole = {part: name for name, parts in directory.stacked.items() for part in parts}
        whole |= {name: part.whole for name, part in directory.of_experts.items()}
        floats = {whole.get(n, n) for n, facts in directory.tensors.items() if facts.is_float}
        floats -= directory.absent.keys()
        arrays = {name: weights.read(name) for name in floats}
        save_file(arrays, Path(folder) / WEIGHTS, {"format": "pt"})
        (Path(folder) / "config.json").write_text(json.dumps(directory.config))
        yield Path(folder)


def offline() -> None:
    """Keep transformers and its hub client offline; call it before they are imported."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")


def refuse_misfits(
    directory: ModelDirectory | ImageDirectory, task: Task, report: Mapping[str, Any]
) -> None:
    """Raise InvalidInput unless the library used every weight and invented none."""
    mismatched = (name for name, *_ in report["mismatched_keys"])
    lacking = _beyond(task.unused_weights, [*report["missing_keys"], *mismatched])
    if lacking:
        what = f"the weights lack {lacking[0]}, or have another shape for it"
        raise InvalidInput(Problem(str(directory.path), what, "download or save it again"))
    unread = _beyond((*task.unused_weights, *_BUFFERS), report["unexpected_keys"])
    if unread:
        what = (
            f"it has {unread[0]}, which {task.auto_class} leaves out: "
            f"as {task.noun} it would be a different model"
        )
        remedy = "name the task that the model was trained for, or save it without that head"
        raise InvalidInput(Problem(str(directory.path), what, remedy))


def _beyond(known: Iterable[str], names: Iterable[str]) -> list[str]:
    return sorted(
        name
        for name in names
        if not any(f".{part}" in f".{name}" or name.endswith(part) for part in known)
    )


def config_of(directory: ModelDirectory | ImageDirectory) -> Any:
    """The library's own reading of config.json, in keys that the installed version knows."""
    import transformers

    settings = directory.config
    if int(transformers.__version__.split(".")[0]) >= 5 or "rope_parameters" not in settings:
        return None
    kind = transformers.CONFIG_MAPPING[settings["model_type"]]
    return kind.from_dict(in_words_of_4(settings))


def in_words_of_4(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a config.json by transformers 5 to transformers 4's keys.

    Version 4 ignores `rope_parameters` and silently uses a default base.
    """
    translated = {name: value for name, value in settings.items() if name != "rope_parameters"}
    rope = settings["rope_parameters"]
    if settings["model_type"] == "modernbert":
        return {**translated, **_alternating(settings, rope)}
    whole = dict(rope.get(_WHOLE, rope))
    if "sliding_attention" in rope:
        translated["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in whole:
            translated[name] = whole.pop(name)
    if whole.get("rope_type") == "longrope" and "original_max_position_embeddings" in whole:
        original = whole.pop("original_max_position_embeddings")
        translated.setdefault("original_max_position_embeddings", original)
    if translated.get("model_type") == "qwen3_moe" and "num_local_experts" in translated:
        translated["num_experts"] = translated.pop("num_local_experts")
    translated["rope_scaling"] = None if whole.get("rope_type", "default") == "default" else whole
    return translated


def _alternating(settings: Mapping[str, Any], ropes: Mapping[str, Any]) -> dict[str, Any]:
    """ModernBERT's bases and kinds of layers, of which version 4 knows one in n to see all."""
    whole, near = ropes[_WHOLE], ropes["sliding_attention"]
    kinds = settings["layer_types"]
    every = next((at for at, kind in enumerate(kinds) if at and kind == _WHOLE), len(kinds))
    known = [_WHOLE if at % every == 0 else "sliding_attention" for at in range(len(kinds))]
    if kinds != known or {each.get("rope_type", "default") for each in (whole, near)} != {
        "default"
    }:
        what = "its layers or rotary settings are of a kind that transformers 4 does not have"
        raise InvalidInput(Problem("config.json", what, "pip install 'transformers>=5'"))
    return {
        "global_rope_theta": whole["rope_theta"],
        "local_rope_theta": near["rope_theta"],
        "global_attn_every_n_layers": every,
    }
