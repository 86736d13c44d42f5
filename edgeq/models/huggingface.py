"""What a Hugging Face-style directory holds, read without loading a weight."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeq.core.errors import InvalidInput, Problem

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_POOLINGS: dict[str, Literal["mean", "cls", "max"]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_LONGEST_HEADER = 100 << 20  # the safetensors format's own limit
_VALUE_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
_INDEX = "model.safetensors.index.json"
# As in fairseq, where these come from, the first token's position is the padding token's plus one.
_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


@dataclass(frozen=True)
class TensorFacts:
    """A weight as the file header gives it: dtype in safetensors' words, shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SentenceHead:
    """How token vectors become one sentence vector."""

    pooling: Literal["mean", "cls", "max"]
    normalize: bool


@dataclass(frozen=True)
class ModelDirectory:
    """A model that can be exported: configuration, weight headers, tokenizer, sentence head."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorFacts]
    weight_files: tuple[Path, ...]
    tokenizer: Path
    head: SentenceHead
    pooling_file: Path
    max_tokens: int
    licence: str | None

    @property
    def hidden_size(self) -> int:
        """Width of a token vector."""
        return self._number("hidden_size", "dim")

    @property
    def attention_heads(self) -> int:
        """Attention heads of a layer."""
        return self._number("num_attention_heads", "n_heads")

    def _number(self, *names: str) -> int:
        """The first of `names` that the configuration has; DistilBERT has its own."""
        for name in names:
            if isinstance(self.config.get(name), int):
                return int(self.config[name])
        what = f"has no {names[0]}"
        where = str(self.path / "config.json")
        raise InvalidInput(Problem(where, what, "use a model whose config.json says it"))

    @property
    def source_files(self) -> tuple[Path, ...]:
        """Every file whose content decides what is built."""
        names = [
            "config.json",
            "modules.json",
            "sentence_bert_config.json",
            "tokenizer_config.json",
            "tokenizer.json",
            "chat_template.jinja",
        ]
        files = [*(self.path / name for name in names), self.pooling_file]
        return (*self.weight_files, *(file for file in files if file.is_file()))


def read_directory(
    path: Path, where: str, tensors: dict[str, TensorFacts] | None = None
) -> ModelDirectory:
    """Facts of the model in `path`; `where` is the place in the recipe that errors name.

    tensors: the weights' facts where they are known from elsewhere and the files are not here.
    Raises InvalidInput for pickled weights, custom code, and files that are missing or damaged.
    """
    config = _read_json(path / "config.json", where)
    if "auto_map" in config:
        raise InvalidInput(
            Problem(
                where,
                f"{path} needs Python code of its own (auto_map in config.json), "
                "and code that comes with a model is never run",
                "use a model of an architecture that transformers has built in",
            )
        )
    weight_files: tuple[Path, ...] = ()
    if tensors is None:
        weight_files, tensors = _weight_files(path, where), {}
        for file in weight_files:
            tensors.update(read_safetensors_header(file))
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise InvalidInput(
            Problem(
                where,
                f"{path} has no tokenizer.json",
                "save the tokenizer in the fast format: "
                "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            )
        )
    if not isinstance(_read_json(tokenizer, where).get("model"), dict):
        raise _damaged(tokenizer, "it has no model")
    head, pooling_file = _sentence_head(path, where)
    return ModelDirectory(
        path=path,
        config=config,
        tensors=tensors,
        weight_files=weight_files,
        tokenizer=tokenizer,
        head=head,
        pooling_file=pooling_file,
        max_tokens=_max_tokens(path, config, where),
        licence=_licence(path),
    )


def read_safetensors_header(path: Path) -> dict[str, TensorFacts]:
    """Names, dtypes and shapes in a safetensors file, from its header alone.

    Format: 8 bytes little-endian header length, then that much JSON (safetensors README,
    "Format"). Raises InvalidInput for a file that does not hold what its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        header = file.read(length) if 0 < length <= min(_LONGEST_HEADER, size) else b""
    damaged = InvalidInput(
        Problem(str(path), "not a whole safetensors file", "download or save it again")
    )
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        ends = [_end(entry) for entry in entries.values()]
        found = {
            name: TensorFacts(entry["dtype"], tuple(entry["shape"]))
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if 8 + length + max(ends, default=0) != size:
        raise damaged
    return found


def _end(entry: dict[str, Any]) -> int:
    """Where a tensor's bytes end; ValueError if its entry contradicts itself."""
    (start, end), shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
    if not all(type(number) is int and number >= 0 for number in (start, end, *shape)):
        raise ValueError("not a size")
    if not isinstance(dtype, str):
        raise ValueError("not a dtype")
    bits = _VALUE_BITS.get(dtype)
    if bits is not None and (end - start) * 8 != math.prod(shape) * bits:
        raise ValueError("not the size of its shape")
    return int(end)


def missing_shards(path: Path) -> list[str]:
    """Names of the weight files that the index of a model in several files has and `path` lacks."""
    index = path / _INDEX
    if not index.is_file():
        return []
    named = _read_json(index, str(index)).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise _damaged(index, "it has no weight_map")
    return sorted(name for name in set(named.values()) if not (path / name).is_file())


def _weight_files(path: Path, where: str) -> tuple[Path, ...]:
    files = tuple(sorted(path.glob("*.safetensors")))
    missing = missing_shards(path)
    if missing:
        what = f"{path} lacks {missing[0]}, which {_INDEX} names"
        raise InvalidInput(Problem(where, what, "download or copy the rest of the model"))
    if files:
        return files
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        raise InvalidInput(
            Problem(
                where,
                f"{path} has its weights only as {pickles[0]}: pickled files can run "
                "code when they are opened, and are never read",
                "convert it once where you trust it: model.save_pretrained(DIR, "
                "safe_serialization=True)",
            )
        )
    raise InvalidInput(
        Problem(where, f"{path} has no *.safetensors file", "name a directory with weights")
    )


def _sentence_head(path: Path, where: str) -> tuple[SentenceHead, Path]:
    """The head and its settings' file, from sentence-transformers' modules.json.

    Without one: mean pooling and unit length.
    """
    modules_file, pooling_file = path / "modules.json", path / "1_Pooling" / "config.json"
    if not modules_file.is_file():
        return SentenceHead("mean", normalize=True), pooling_file
    places = {}
    for module in _read_json(modules_file, where, list):
        if not isinstance(module, dict):
            raise _damaged(modules_file, "it is not a list of modules")
        places[str(module.get("type")).rsplit(".", 1)[-1]] = str(module.get("path", ""))
    unknown = set(places) - {"Transformer", "Pooling", "Normalize"}
    if places.get("Pooling"):
        pooling_file = path / places["Pooling"] / "config.json"
    pooling = _read_json(pooling_file, where) if pooling_file.is_file() else {}
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    known = [_POOLINGS[mode] for mode in modes if mode in _POOLINGS]
    if unknown or len(known) != 1 or len(modes) != 1:
        what = ", ".join(sorted(unknown) or modes or ["no pooling"])
        raise InvalidInput(
            Problem(
                where,
                f"the sentence head of {path} has parts edgeq does not build: {what}",
                "supported: one of mean, cls or max pooling, then Normalize",
            )
        )
    return SentenceHead(known[0], normalize="Normalize" in places), pooling_file


def _max_tokens(path: Path, config: dict[str, Any], where: str) -> int:
    longest = int(config.get("max_position_embeddings", 512))
    if config.get("model_type") in _POSITIONS_BEHIND_PADDING:
        longest -= int(config.get("pad_token_id", 1)) + 1
    settings = path / "sentence_bert_config.json"
    if settings.is_file():
        wanted = _read_json(settings, where).get("max_seq_length")
        if isinstance(wanted, int):
            return min(wanted, longest)
    return longest


def _licence(path: Path) -> str | None:
    """The `license:` line of a model card's front matter."""
    card = path / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0] != "---":
        return None
    for line in lines[1:]:
        if line == "---":
            return None
        if line.startswith("license:"):
            return line.partition(":")[2].partition(" #")[0].strip().strip("\"'") or None
    return None


def _read_json(path: Path, where: str, kind: type = dict) -> Any:
    """The JSON of `path`, which must be of `kind` at its top."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(
            Problem(
                where,
                f"{path.parent} has no {path.name}",
                "name a directory in the Hugging Face format, or an .onnx file",
            )
        ) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(value, kind):
        raise _damaged(path, f"it holds no {'mapping' if kind is dict else kind.__name__}")
    return value


def _damaged(path: Path, why: str) -> InvalidInput:
    what = f"cannot be read as the JSON that belongs there: {why}"
    return InvalidInput(Problem(str(path), what, "download or save it again"))
