"""Random architectures, saved by any version of transformers, against edgeq's own answers.

    python benchmarks/architectures.py --library OTHER_ENVIRONMENT/bin/python FOLDER

The other Python saves 46 models and what its transformers answers; this one then exports each
and prints the largest difference of a logit or of a token vector's mean, or the refusal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
TOKENS, VOCABULARY = 60, 300
_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": 2}
_GEMMA = {**_DECODER, "query_pre_attn_scalar": 16, "sliding_window": 16}
_STRETCHED = {"factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA3 = {**_STRETCHED, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LONG = {
    "type": "longrope",
    "short_factor": [1.0 + i / 50 for i in range(8)],
    "long_factor": [1.0 + i / 3 for i in range(8)],
}
_DISTIL = {"dim": 64, "hidden_dim": 96, "n_layers": 3, "n_heads": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _DECODER),
    "llama-tied": ("LlamaForCausalLM", {**_DECODER, "tie_word_embeddings": True}),
    "llama-bias": ("LlamaForCausalLM", {**_DECODER, "attention_bias": True}),
    "llama-theta": ("LlamaForCausalLM", {**_DECODER, "rope_theta": 5e5}),
    "llama-linear": (
        "LlamaForCausalLM",
        {**_DECODER, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "llama-dynamic": (
        "LlamaForCausalLM",
        {**_DECODER, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    ),
    "llama-llama3": ("LlamaForCausalLM", {**_DECODER, "rope_scaling": _LLAMA3}),
    "llama-yarn": (
        "LlamaForCausalLM",
        {**_DECODER, "rope_scaling": {**_STRETCHED, "rope_type": "yarn"}},
    ),
    "mistral": ("MistralForCausalLM", {**_DECODER, "sliding_window": 16}),
    "qwen2": ("Qwen2ForCausalLM", {**_DECODER, "rope_theta": 1e6}),
    "qwen2-window": (
        "Qwen2ForCausalLM",
        {**_DECODER, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3ForCausalLM", _DECODER),
    "gemma2": ("Gemma2ForCausalLM", _GEMMA),
    "gemma3": ("Gemma3ForCausalLM", {**_GEMMA, "num_hidden_layers": 7}),
    "phi3": ("Phi3ForCausalLM", {**_DECODER, "pad_token_id": 0}),
    "phi3-longrope": (
        "Phi3ForCausalLM",
        {
            **_DECODER,
            "pad_token_id": 0,
            "rope_scaling": _LONG,
            "original_max_position_embeddings": 32,
        },
    ),
    "qwen2-tied": ("Qwen2ForCausalLM", {**_DECODER, "tie_word_embeddings": True}),
    "qwen3-wide": ("Qwen3ForCausalLM", {**_DECODER, "head_dim": 32, "attention_bias": True}),
    "mistral-whole": ("MistralForCausalLM", {**_DECODER, "sliding_window": None}),
    "gemma3-linear": (
        "Gemma3ForCausalLM",
        {
            **_GEMMA,
            "num_hidden_layers": 7,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "phi3-partial": (
        "Phi3ForCausalLM",
        {**_DECODER, "pad_token_id": 0, "partial_rotary_factor": 0.5},
    ),
    "gemma": ("GemmaForCausalLM", _DECODER),
    "smollm3": ("SmolLM3ForCausalLM", {**_DECODER, "pad_token_id": 0}),
    "olmo2": ("Olmo2ForCausalLM", {**_DECODER, "pad_token_id": 0}),
    "granite": ("GraniteForCausalLM", {**_DECODER, "residual_multiplier": 0.5}),
    "qwen3-moe": ("Qwen3MoeForCausalLM", {**_DECODER, "num_experts": 4, "num_experts_per_tok": 2}),
    "starcoder2": ("Starcoder2ForCausalLM", _DECODER),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": VOCABULARY, "n_embd": 64, "n_head": 4}),
    "head-100": ("LlamaForCausalLM", {**_DECODER, "head_dim": 100}),
    "reranker": ("LlamaForSequenceClassification", _DECODER),
    "bert": ("BertModel", _SMALL),
    "roberta": ("RobertaModel", _SMALL),
    "xlm-roberta": ("XLMRobertaModel", _SMALL),
    "mpnet": ("MPNetModel", _SMALL),
    "camembert": ("CamembertModel", _SMALL),
    "albert": ("AlbertModel", {**_SMALL, "embedding_size": 32, "num_hidden_groups": 1}),
    "bert-tanh": ("BertModel", {**_SMALL, "hidden_act": "gelu_new"}),
    "bert-relative": ("BertModel", {**_SMALL, "position_embedding_type": "relative_key"}),
    "bert-decoder": ("BertModel", {**_SMALL, "is_decoder": True}),
    "bert-types": ("BertModel", {**_SMALL, "type_vocab_size": 1}),
    "roberta-padding": ("RobertaModel", {**_SMALL, "pad_token_id": 3}),
    "modernbert": ("ModernBertModel", {**_SMALL, "pad_token_id": 0}),
    "deberta": ("DebertaV2Model", _SMALL),
    "electra-narrow": ("ElectraModel", {**_SMALL, "embedding_size": 32}),
    "electra": ("ElectraModel", {**_SMALL, "embedding_size": 64}),
    "distilbert": (
        "DistilBertModel",
        {**_DISTIL, "vocab_size": VOCABULARY, "initializer_range": 0.1},
    ),
}


def save(folder: Path) -> None:
    """Save every case and its library's answers; runs in the other environment."""
    import torch
    import transformers

    ids = np.random.default_rng(0).integers(5, VOCABULARY, TOKENS)
    for name, (kind, settings) in CASES.items():
        torch.manual_seed(0)
        made = getattr(transformers, kind)
        config = made.config_class(**settings)
        # Other attention of version 4 leaves Gemma 2's cap on its scores out.
        config._attn_implementation = "eager"
        model = made(config).eval()
        model.save_pretrained(folder / name, safe_serialization=True)
        with torch.no_grad():
            found = model(torch.from_numpy(ids)[None], attention_mask=torch.ones(1, TOKENS))
        answer = found[0][0] if "logits" in found else found[0][0].mean(0)
        np.savez(folder / f"{name}.npz", ids=ids, answer=answer.numpy())
    print(f"saved by transformers {transformers.__version__}")


def compare(folder: Path) -> None:
    """Export every case and print how far its answer is from its library's."""
    for name, (kind, _) in CASES.items():
        expected = np.load(folder / f"{name}.npz")
        print(f"{name:16}", _outcome(folder, name, kind, expected["ids"], expected["answer"]))


def _outcome(folder: Path, name: str, kind: str, ids: np.ndarray, wanted: np.ndarray) -> str:
    from edgeq.core.errors import InvalidInput

    try:
        found = _answer(folder, name, kind, ids)
    except InvalidInput as error:
        return f"refused: {error.problems[0].what}"
    return f"{np.abs(found - wanted).max():.1e} of {np.abs(wanted).max():.1f}"


def _answer(folder: Path, name: str, kind: str, ids: np.ndarray) -> np.ndarray:
    from edgeq.core.artifact import MODEL_FILE
    from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
    from edgeq.models.graphs.float_onnx import export_encoder
    from edgeq.models.model import describe
    from edgeq.models.onnx_session import open_session
    from edgeq.models.source import parse_source

    path, is_decoder = folder / name, not kind.endswith("Model") or "LMHead" in kind
    _words(path)
    task = "text-generation" if is_decoder else "sentence-embedding"
    model = describe(parse_source(str(path)), task, folder, str(path), weights=True)
    assert model.directory is not None
    built = folder / f"{name}.onnx"
    built.mkdir(exist_ok=True)
    if model.decoder is not None:
        export_decoder(model.directory, built)
        feed: dict[str, Any] = dict(decoder_feeds(model.decoder, [ids.tolist()])[0])
    else:
        export_encoder(model.directory, built)
        feed = {"input_ids": ids[None], "attention_mask": np.ones((1, TOKENS), np.int64)}
        feed["token_type_ids"] = np.zeros((1, TOKENS), np.int64)
    session = open_session(built / MODEL_FILE, threads=1)
    wanted = {value.name for value in session.get_inputs()}
    answer: np.ndarray = session.run(None, {n: feed[n] for n in wanted})[0][0]
    return answer


def _words(path: Path) -> None:
    """A tokenizer of one token for each id: the comparison is of ids alone."""
    model = {"type": "WordLevel", "unk_token": "0"}
    vocabulary = {str(id): id for id in range(VOCABULARY)}
    (path / "tokenizer.json").write_text(json.dumps({"model": {**model, "vocab": vocabulary}}))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "2"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--library", default=sys.executable)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    given.folder = given.folder.absolute()
    if given.save:
        save(given.folder)
        return
    subprocess.run([given.library, __file__, "--save", str(given.folder)], check=True)
    sys.path.insert(0, str(ROOT))
    compare(given.folder)


if __name__ == "__main__":
    main()
