"""A sentence encoder's original: embeddings by sentence-transformers, or by transformers."""

from __future__ import annotations

import importlib.util
import inspect
import json
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import SENTENCE_EMBEDDING, Task
from edgeq.core.terms import TextOrPair
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.head import apply_head
from edgeq.models.original.network import open_network, versions
from edgeq.models.original.tokenizer import OriginalTokenizer, is_in_words_of_5, open_tokenizer

Floats = npt.NDArray[np.float32]
_LIBRARY = "sentence_transformers"


def open_encoder(directory: ModelDirectory, task: Task = SENTENCE_EMBEDDING) -> OriginalEncoder:
    """Use sentence-transformers if the directory has its modules and it is installed."""
    if not task.has_sentence_head:
        return TransformersEncoder(directory, task)
    has_modules = (directory.path / "modules.json").is_file()
    # The library would invent weights that have a wrapper's prefix, and opens a tokenizer only
    # in the format of the installed transformers.
    as_it_is = not directory.stored_names and not is_in_words_of_5(directory)
    if has_modules and as_it_is and importlib.util.find_spec(_LIBRARY):
        return SentenceTransformersEncoder(directory)
    return TransformersEncoder(directory, task)


class SentenceTransformersEncoder:
    """Every module of the directory as the library itself runs it, including prompts and length."""

    def __init__(self, directory: ModelDirectory) -> None:
        _refuse_foreign_modules(directory)
        import torch
        from sentence_transformers import SentenceTransformer

        self.runtime = versions("sentence-transformers", "transformers", "torch")
        self._path = directory.path
        try:
            self._model: Any = SentenceTransformer(
                str(directory.path),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                truncate_dim=directory.head.truncate,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            ).eval()
        except (ValueError, OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            what = f"sentence-transformers cannot open it: {reason}"
            raise InvalidInput(Problem(str(directory.path), what, "save it again")) from None
        self.tokenizer = OriginalTokenizer(self._model.tokenizer)
        # It does not report weights that are left over or invented; transformers does.
        self.network = open_network(directory, SENTENCE_EMBEDDING)

    def ids(self, text: TextOrPair) -> list[int]:
        """Token ids of the text after the default prompt."""
        assert isinstance(text, str)  # no module of the library reads a pair
        prompt = (self._model.prompts or {}).get(self._model.default_prompt_name) or ""
        ids: list[int] = self._model.tokenize([prompt + text])["input_ids"][0].tolist()
        return ids

    def answer(self, text: TextOrPair) -> Floats:
        """float32 (1, dimension)."""
        try:
            found: Floats = self._model.encode([text], batch_size=1, show_progress_bar=False)
        except TypeError as error:
            if remedy := self._fewer_inputs():
                what = f"sentence-transformers cannot run it: {error}"
                raise InvalidInput(Problem(str(self._path), what, remedy)) from None
            raise
        return found

    def _fewer_inputs(self) -> str:
        """The setting without inputs that the tokenizer gives and the network does not take."""
        given = self.tokenizer.opened.model_input_names
        taken = inspect.signature(self.network.forward).parameters
        names = [name for name in given if name in taken]
        if names == list(given):
            return ""
        return f'add "model_input_names": {json.dumps(names)} to its tokenizer_config.json'


class TransformersEncoder:
    """Answers by transformers; of token vectors, the directory's sentence head is in numpy."""

    def __init__(self, directory: ModelDirectory, task: Task) -> None:
        self.runtime = versions("transformers", "torch")
        self.network = open_network(directory, task)
        self.tokenizer = open_tokenizer(directory)
        self._has_head, self._head = task.has_sentence_head, directory.head
        self._put_first = directory.head.default_text if self._has_head else ""
        self._cut = {"truncation": True, "max_length": directory.max_tokens}
        # Some tokenizers give the kinds of tokens to networks that have none.
        self._taken = set(inspect.signature(self.network.forward).parameters)

    def ids(self, text: TextOrPair) -> list[int]:
        """Token ids of the text."""
        ids: list[int] = self.tokenizer.opened(*self._parts(text), **self._cut)["input_ids"]
        return ids

    def _parts(self, text: TextOrPair) -> tuple[str, ...]:
        return text if isinstance(text, tuple) else (self._put_first + text,)

    def answer(self, text: TextOrPair) -> Floats:
        """float32 (1, dimension)."""
        import torch

        parts = ([part] for part in self._parts(text))
        feed = self.tokenizer.opened(*parts, **self._cut, return_tensors="pt")
        with torch.inference_mode():
            taken = {name: values for name, values in feed.items() if name in self._taken}
            tokens: Floats = self.network(**taken)[0].numpy()
        if not self._has_head:
            return tokens
        mask = feed["attention_mask"].numpy()
        return apply_head(tokens, mask, self._head).astype(np.float32)


OriginalEncoder: TypeAlias = "SentenceTransformersEncoder | TransformersEncoder"


def _refuse_foreign_modules(directory: ModelDirectory) -> None:
    """The library imports any class that modules.json names."""
    path = directory.path / "modules.json"
    for module in json.loads(path.read_text(encoding="utf-8")):
        kind = str(module.get("type"))
        if not kind.startswith(f"{_LIBRARY}."):
            what = f"it names the module {kind}, which is not part of sentence-transformers"
            raise InvalidInput(
                Problem(str(path), what, "use a model of sentence-transformers' own modules")
            )
