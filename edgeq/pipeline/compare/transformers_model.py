"""A Hugging Face directory run by transformers in float32: the reference that is nobody's export.

Built-in architectures and safetensors only: code that comes with a model is never run, pickled
weights are never read. Attention is transformers' plain ("eager") one, which has every model's
scales, caps and windows in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.formats.base import Floats
from edgeq.formats.language import Ids, LanguageModel
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.architecture import decoder_of
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.special_tokens import end_tokens


def load(path: Path, *, threads: int) -> TransformersModel:
    """Open the model in `path` on the CPU, its weights widened to float32.

    threads: of one run; torch keeps one number for the whole process, and this sets it. Raises
    Missing where torch or transformers is not installed, InvalidInput for a directory without a
    whole language model of a built-in architecture in full precision.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        purpose = "run a Hugging Face directory"
        raise missing_extra(error.name or "torch", "build", purpose) from None
    directory = read_directory(path, str(path))
    torch.set_num_threads(threads)
    runtime = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return TransformersModel(directory, open_module(directory), runtime, threads)


def open_module(directory: ModelDirectory) -> Any:
    """The model as transformers builds it, a torch module in float32, in evaluation mode.

    Raises InvalidInput for what it cannot open; a weight that it would make up is an error, too.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            directory.path,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        what = f"transformers cannot open it as a language model: {reason}"
        remedy = "name a directory of a language model that transformers has built in"
        raise InvalidInput(Problem(str(directory.path), what, remedy)) from None
    lacking = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if lacking:
        what = f"the weights lack {lacking[0]}, or have it in another shape"
        raise InvalidInput(Problem(str(directory.path), what, "download or save it again"))
    return model.eval()


class TransformersModel(LanguageModel):
    """A decoder executed by transformers, with its own cache of keys and values."""

    def __init__(self, directory: ModelDirectory, model: Any, runtime: str, threads: int) -> None:
        settings = model.config.get_text_config()
        ends = end_tokens(directory.path, directory.config, str(directory.path))
        super().__init__(
            name=directory.path.name,
            artifact=None,
            runtime=runtime,
            threads=threads,
            vocabulary=int(settings.vocab_size),
            context=int(settings.max_position_embeddings),
            end_tokens=frozenset(ends),
        )
        self._directory = directory
        self._model = model
        self._cache: Any = None
        self._tokenizer = DecoderTokenizer(directory.tokenizer.read_bytes())

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """See `LanguageModel.tokens`; by `tokenizer.json`, which transformers may overrule."""
        return self._tokenizer.ids(text, special)

    def _piece(self, token_id: int) -> bytes:
        return self._tokenizer.piece(token_id)

    def cache_bytes(self, context: int) -> int:
        """Keys and values in float32; windowed layers keep no more than their window."""
        decoder = decoder_of(self._directory.config, str(self._directory.path))
        return int(decoder.cache_bytes(context, bytes_per_value=4))

    def _clear(self) -> None:
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self._model.config)

    def _append(self, token_ids: Ids, every: bool) -> Floats:
        import torch

        with torch.inference_mode():
            answer = self._model(
                input_ids=torch.from_numpy(token_ids.astype(np.int64))[None],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=0 if every else 1,
            )
        logits: Floats = answer.logits[0].numpy()
        return logits
