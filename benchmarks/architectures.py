"""Random architectures, saved by any version of transformers, against edgeq's own answers.

    python benchmarks/architectures.py --library OTHER_ENVIRONMENT/bin/python FOLDER

The other Python saves 66 models and what its transformers answers, except those it does not know;
this one then exports each and prints the largest difference of a logit or of a token vector's mean,
or the refusal.
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
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
_GEMMA = {**_DECODER, "query_pre_attn_scalar": 16, "sliding_window": 16}
_STRETCHED = {"factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA3 = {**_STRETCHED, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LONG = {
    "type": "longrope",
    "short_factor": [1.0 + i / 50 for i in range(8)],
    "long_factor": [1.0 + i / 3 for i in range(8)],
}
_WHOLE, _WINDOWED = "full_attention", "sliding_attention"
_MINISTRAL = {
    **_STRETCHED,
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_LINEAR = {
    **{**_DECODER, "num_hidden_layers": 5, "head_dim": 64, "partial_rotary_factor": 0.25},
    **{"linear_num_key_heads": 2, "linear_key_head_dim": 32, "linear_value_head_dim": 32},
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
}
_GEMMA3N = {
    **{**_DECODER, "num_hidden_layers": 6, "num_kv_shared_layers": 3, "sliding_window": 16},
    **{"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 32},
    **{"laurel_rank": 16, "activation_sparsity_pattern": [0.95, 0.5, 0.0, 0.0, 0.0, 0.0]},
    "layer_types": [_WINDOWED, _WHOLE] * 3,
}
_GEMMA4 = {
    **{**_DECODER, "num_hidden_layers": 6, "num_kv_shared_layers": 3, "sliding_window": 16},
    **{"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 32},
    **{"global_head_dim": 32, "use_double_wide_mlp": True, "final_logit_softcapping": 30.0},
    "layer_types": [_WINDOWED, _WINDOWED, _WHOLE] * 2,
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
    "phi4-mini": (
        "Phi3ForCausalLM",
        {
            **_DECODER,
            "hidden_size": 128,
            "head_dim": 32,
            "pad_token_id": 0,
            "partial_rotary_factor": 0.5,
            "rope_scaling": _LONG,
            "original_max_position_embeddings": 32,
            "tie_word_embeddings": True,
        },
    ),
    "ministral": (
        "MinistralForCausalLM",
        {**_DECODER, "sliding_window": 16, "layer_types": [_WINDOWED, _WHOLE, _WINDOWED]},
    ),
    "ministral3": ("Ministral3ForCausalLM", {**_DECODER, "rope_parameters": _MINISTRAL}),
    "smollm3": (
        "SmolLM3ForCausalLM",
        {**_DECODER, "pad_token_id": 0, "num_hidden_layers": 5},
    ),
    "granite": (
        "GraniteForCausalLM",
        {
            **_DECODER,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.1,
            "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
        },
    ),
    "granite4": (
        "GraniteMoeHybridForCausalLM",
        {
            **_DECODER,
            "num_local_experts": 0,
            "shared_intermediate_size": 96,
            "layer_types": ["attention"] * 3,
            "position_embedding_type": "rope",
        },
    ),
    "olmo2": ("Olmo2ForCausalLM", {**_DECODER, "pad_token_id": 0}),
    "olmo3": (
        "Olmo3ForCausalLM",
        {**_DECODER, "pad_token_id": 0, "num_hidden_layers": 5, "sliding_window": 16},
    ),
    "olmo3-yarn": (
        "Olmo3ForCausalLM",
        {
            **_DECODER,
            "pad_token_id": 0,
            "num_hidden_layers": 5,
            "sliding_window": 16,
            "rope_scaling": {**_STRETCHED, "rope_type": "yarn"},
        },
    ),
    "glm4": (
        "Glm4ForCausalLM",
        {**_DECODER, "head_dim": 32, "pad_token_id": 0, "partial_rotary_factor": 0.5},
    ),
    "lfm2": (
        "Lfm2ForCausalLM",
        {**_DECODER, "block_multiple_of": 32, "layer_types": ["conv", _WHOLE, "conv"]},
    ),
    "lfm2-bias": (
        "Lfm2ForCausalLM",
        {**_DECODER, "conv_bias": True, "conv_L_cache": 4, "full_attn_idxs": [1]},
    ),
    "gpt-oss": (
        "GptOssForCausalLM",
        {
            **{**_DECODER, "sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
            "rope_scaling": {
                **{**_STRETCHED, "rope_type": "yarn", "truncate": False},
                **{"beta_fast": 32.0, "beta_slow": 1.0},
            },
        },
    ),
    "qwen3.5": ("Qwen3_5ForCausalLM", {**_LINEAR, "linear_num_value_heads": 2}),
    "qwen3.5-shared": ("Qwen3_5ForCausalLM", {**_LINEAR, "linear_num_value_heads": 4}),
    "qwen3.5-moe": (
        "Qwen3_5MoeForCausalLM",
        {
            **_LINEAR,
            **_EXPERTS,
            **{"linear_num_value_heads": 4, "shared_expert_intermediate_size": 40},
        },
    ),
    "lfm2-moe": (
        "Lfm2MoeForCausalLM",
        {**_DECODER, **_EXPERTS, "layer_types": ["conv", _WHOLE, "conv"], "num_dense_layers": 1},
    ),
    "lfm2-moe-scaled": (
        "Lfm2MoeForCausalLM",
        {
            **{**_DECODER, **_EXPERTS, "layer_types": ["conv", _WHOLE, "conv"]},
            **{"num_dense_layers": 0, "routed_scaling_factor": 2.5, "use_expert_bias": False},
        },
    ),
    "gemma3n": ("Gemma3nForCausalLM", _GEMMA3N),
    "gemma3n-states": (
        "Gemma3nForCausalLM",
        {**_GEMMA3N, "altup_num_inputs": 3, "altup_active_idx": 1, "altup_correct_scale": False},
    ),
    "gemma4": ("Gemma4ForCausalLM", _GEMMA4),
    "gemma4-one-product": (
        "Gemma4ForCausalLM",
        {
            **{**_GEMMA4, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0},
            **{"attention_k_eq_v": True, "num_global_key_value_heads": 1},
        },
    ),
    "gemma": ("GemmaForCausalLM", _DECODER),
    "qwen3-moe": ("Qwen3MoeForCausalLM", {**_DECODER, **_EXPERTS, "norm_topk_prob": True}),
    "qwen3-moe-some": (
        "Qwen3MoeForCausalLM",
        {**_DECODER, **_EXPERTS, "norm_topk_prob": False, "mlp_only_layers": [1]},
    ),
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
        made = getattr(transformers, kind, None)
        if made is None:
            continue
        config = made.config_class(**_in_words_of(transformers.__version__, settings))
        # Other attention of version 4 leaves Gemma 2's cap on its scores out.
        config._attn_implementation = "eager"
        model = made(config).eval()
        with torch.no_grad():
            for values in model.state_dict().values():  # norms and biases that do something
                if values.ndim == 1 and values.is_floating_point():
                    values += 0.1 * torch.randn(values.shape)
        model.save_pretrained(folder / name, safe_serialization=True)
        with torch.no_grad():
            found = model(torch.from_numpy(ids)[None], attention_mask=torch.ones(1, TOKENS))
        answer = found[0][0] if "logits" in found else found[0][0].mean(0)
        np.savez(folder / f"{name}.npz", ids=ids, answer=answer.numpy())
    print(f"saved by transformers {transformers.__version__}")


def _in_words_of(version: str, settings: dict[str, Any]) -> dict[str, Any]:
    """transformers 5 takes the part that rotates as a setting of the rope, if there is one."""
    part = settings.get("partial_rotary_factor")
    if part is None or "rope_scaling" not in settings or version.startswith("4"):
        return settings
    rope = {**settings["rope_scaling"], "partial_rotary_factor": part}
    return {**settings, "rope_scaling": rope}


def compare(folder: Path) -> None:
    """Export every case and print how far its answer is from its library's."""
    for name, (kind, _) in CASES.items():
        if not (folder / f"{name}.npz").is_file():
            print(f"{name:16} is not known to that version")
            continue
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
