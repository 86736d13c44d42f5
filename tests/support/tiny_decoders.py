"""Small language models of every family, with random weights and trained tokenizers.

Norms are far from one and biases from zero, windows are short and there are layers with and without
them, so that whoever forgets a transform gets other logits. Hidden rows hold one K-quant block of
256, rows of `down_proj` only blocks of 32.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXT = Path(__file__).parents[2] / "recipes" / "data" / "calibration.txt"
HIDDEN, WIDE, HEADS, KV_HEADS, WINDOW, CONTEXT = 256, 288, 4, 2, 16, 128
VOCABULARY = 700  # of the tokenizers, at most; two families have tokens without a text behind
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"

# The expressions that tokenizer.json of the real models have.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}|{_REST}"
QWEN2_SPLIT = rf"{_CONTRACTIONS}|\p{{N}}|{_REST}"

QWEN35_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FULL = "full_attention"
YARN = {
    **{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    **{"mscale": 1.0, "mscale_all_dim": 1.0},
}
_LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0 + 0.02 * i for i in range(32)],
    "long_factor": [1.0 + 0.3 * i for i in range(32)],
}

_GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.03125,
    "residual_multiplier": 0.22,
    "logits_scaling": 0.5,
    "tie_word_embeddings": True,
}
# By the names `make` takes: the configuration's class, its settings, the style of the tokenizer.
_KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("Llama", {"tie_word_embeddings": False, "rms_norm_eps": 1e-5}, "sentencepiece"),
    "smollm2": ("Llama", {"tie_word_embeddings": True, "rope_theta": 1e5}, "smollm"),
    "llama3": ("Llama", {"rope_theta": 5e5, "rope_scaling": LLAMA3_ROPE}, "llama3"),
    "mistral": ("Mistral", {"sliding_window": WINDOW, "head_dim": 32}, "sentencepiece"),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "rope_theta": 1e6}, "qwen2"),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True, "head_dim": 32}, "qwen2"),
    "qwen3_moe": (
        "Qwen3Moe",
        {
            **{"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
            **{"norm_topk_prob": True, "head_dim": 32},
        },
        "qwen2",
    ),
    "gemma2": (
        "Gemma2",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": WINDOW},
        "gemma",
    ),
    "gemma3_text": (
        "Gemma3Text",
        {
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": WINDOW,
            "num_hidden_layers": 7,
            "rope_theta": 1e6,
        },
        "gemma",
    ),
    "gemma3n_text": (
        "Gemma3nText",
        {
            **{"head_dim": 32, "num_hidden_layers": 6, "num_kv_shared_layers": 3},
            "activation_sparsity_pattern": [0.95, 0.9, 0.0, 0.0, 0.0, 0.0],
            "layer_types": ["sliding_attention", FULL] * 3,
            **{"hidden_size_per_layer_input": 256, "laurel_rank": 64, "sliding_window": WINDOW},
            "rope_theta": 1e6,
        },
        "gemma",
    ),
    "phi3": ("Phi3", {}, "sentencepiece"),
    "phi3-longrope": (
        "Phi3",
        {
            "rope_scaling": _LONGROPE,
            "original_max_position_embeddings": 256,
            "max_position_embeddings": 512,
        },
        "sentencepiece",
    ),
    "ministral": (
        "Ministral",
        {"head_dim": 32, "sliding_window": WINDOW, "layer_types": ["sliding_attention", FULL]},
        "llama3",
    ),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 5, "tie_word_embeddings": True}, "llama3"),
    "granite": ("Granite", {**_GRANITE, "attention_bias": True}, "smollm"),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        {
            **_GRANITE,
            "layer_types": ["attention"] * 2,
            "num_local_experts": 0,
            "position_embedding_type": "rope",
            "shared_intermediate_size": 96,
        },
        "smollm",
    ),
    "olmo2": ("Olmo2", {"rope_theta": 5e5}, "gpt2"),
    "olmo3": (
        "Olmo3",
        {
            "num_hidden_layers": 5,
            "sliding_window": WINDOW,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 8.0,
                "original_max_position_embeddings": 32,
            },
        },
        "gpt2",
    ),
    "glm4": ("Glm4", {"head_dim": 64, "partial_rotary_factor": 0.5}, "llama3"),
    "gpt_oss": (
        "GptOss",
        {
            **{"head_dim": 32, "sliding_window": WINDOW, "num_hidden_layers": 4},
            **{"num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 96},
            "rope_scaling": {
                **{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
                **{"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True},
            },
        },
        "gpt2",
    ),
    "lfm2": (
        "Lfm2",
        {
            **{"num_hidden_layers": 4, "layer_types": ["conv", FULL, "conv", FULL]},
            **{"block_multiple_of": 32, "intermediate_size": WIDE * 3 // 2},
        },
        "llama3",
    ),
}
FAMILIES = tuple(_KINDS)
GEMMA3N_AS_PUBLISHED = {
    **{"num_hidden_layers": 25, "num_kv_shared_layers": 5},
    **{"activation_sparsity_pattern": None, "layer_types": None},
}
"""What llama.cpp has as constants."""
_NOT_THERE = ("qwen3_moe", "gpt_oss", "lfm2", "gemma3n_text")
ON_APPLE = tuple(name for name in FAMILIES if name not in _NOT_THERE)


def make(folder: Path, family: str, **overrides: Any) -> Path:
    """Save a model of `family` (one of FAMILIES) as Hugging Face does; needs transformers.

    overrides: settings of config.json. Gives `folder` back.
    """
    _, _, style = _KINDS[family]
    tokenizer = tokenizer_of(style)
    network(family, **overrides).save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = special_names(style)
    settings = {**names, "chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def as_ministral3(config: dict[str, Any]) -> dict[str, Any]:
    """The config.json of a Mistral with a yarn rope as transformers 5 writes a Ministral 3's."""
    kept = {k: v for k, v in config.items() if k not in ("rope_theta", "architectures")}
    rope = kept.pop("rope_scaling") | {"rope_theta": 1e4, "llama_4_scaling_beta": 0.5}
    return {**kept, "model_type": "ministral3", "rope_parameters": rope}


def make_with_images(folder: Path, wrapper: str, family: str, **overrides: Any) -> Path:
    """The same with a part for images, as the class `wrapper` of transformers saves the whole."""
    import transformers

    make(folder, family, **overrides)
    images = {
        **{"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
    }
    kind = getattr(transformers, f"{wrapper}Config")
    text = configuration(family, **overrides).to_dict()
    whole = getattr(transformers, f"{wrapper}ForConditionalGeneration")(
        kind(text_config=text, vision_config=images)
    )
    own = network(family, **overrides).state_dict()
    whole.model.language_model.load_state_dict(
        {k.removeprefix("model."): v for k, v in own.items() if k.startswith("model.")}
    )
    whole.lm_head.load_state_dict({"weight": own["lm_head.weight"]})
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def network(family: str, seed: int = 0, **overrides: Any) -> Any:
    """The float32 torch module, in evaluation mode."""
    import torch
    import transformers

    name = _KINDS[family][0]
    torch.manual_seed(seed)
    made = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")(
        configuration(family, **overrides)
    )
    with torch.no_grad():
        for key, weight in made.named_parameters():
            if weight.ndim == 1 or key.endswith("_bias"):
                weight += 0.3 * torch.randn(weight.shape)
            if key.endswith("gate_up_proj") and name == "GptOss":
                weight *= 4  # some gates are beyond their limit
            elif ".altup." in key and weight.ndim == 2:
                weight *= 10 if "router" in key else 3  # hidden states differ from each other
            elif key.endswith(("q_norm.weight", "k_norm.weight")) and name == "Gemma3nText":
                weight *= 0.2  # nothing else makes its scores small
            elif "embed_tokens" in key and name.startswith("Gemma"):
                weight /= 4  # Gemma multiplies them by the square root of the width
    return made.eval()


def configuration(family: str, **overrides: Any) -> Any:
    """The configuration of `network`, of transformers' class for the family."""
    import transformers

    name, settings, style = _KINDS[family]
    tokenizer = tokenizer_of(style)
    names = special_names(style)
    ids = {f"{key}_id": tokenizer.token_to_id(token) for key, token in names.items()}
    common = {
        "hidden_size": HIDDEN,
        "intermediate_size": WIDE,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": CONTEXT,
        "vocab_size": tokenizer.get_vocab_size() + (20 if style == "qwen2" else 0),
        "initializer_range": 0.08,
        "pad_token_id": None,
        **{key: value for key, value in ids.items() if value is not None},
    }
    if name == "Gemma3nText":
        common["vocab_size_per_layer_input"] = common["vocab_size"]
    return getattr(transformers, f"{name}Config")(**{**common, **settings, **overrides})


@functools.cache
def tokenizer_of(style: str) -> Tokenizer:
    """A tokenizer like those of the real models: sentencepiece, gemma, llama3, qwen2, smollm, gpt2.

    The first two are SentencePiece models as tokenizer.json has them: BPE that falls back to bytes.
    """
    makers: dict[str, Callable[[], Tokenizer]] = {
        "sentencepiece": lambda: _sentencepiece(prefix=True),
        "gemma": lambda: _sentencepiece(prefix=False),
        "llama3": lambda: _byte_level(split(LLAMA3_SPLIT), ["<|begin|>", "<|end|>"], "<|begin|>"),
        "qwen2": lambda: _composed(
            _byte_level(split(QWEN2_SPLIT), ["<|end|>", "<|im_start|>"], None)
        ),
        "smollm": lambda: _byte_level(
            [pre_tokenizers.Digits(individual_digits=True), _level(True)], ["<|end|>"], None
        ),
        "gpt2": lambda: _byte_level([_level(True)], ["<|end|>"], None),
    }
    return makers[style]()


def special_names(style: str) -> dict[str, str]:
    if style in ("sentencepiece", "gemma"):
        return {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if style == "llama3":
        return {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
    return {"eos_token": "<|end|>"}


def _lines() -> list[str]:
    return TEXT.read_text(encoding="utf-8").splitlines()


def _level(use_regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split(expression: str) -> list[Any]:
    return [pre_tokenizers.Split(Regex(expression), "isolated"), _level(False)]


def _byte_level(splits: list[Any], special: list[str], bos: str | None) -> Tokenizer:
    """BPE over bytes; special tokens come last, as in Llama 3 and Qwen."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(splits)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(special), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(_lines(), trainer)
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    level = processors.ByteLevel(trim_offsets=False)
    if bos is None:
        made.post_processor = level
    else:
        template = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, made.token_to_id(bos))],
        )
        made.post_processor = processors.Sequence([level, template])
    return made


def _composed(made: Tokenizer) -> Tokenizer:
    made.normalizer = normalizers.NFC()
    return made


def _every_merge(vocabulary: dict[str, int], merges: list[Any]) -> list[tuple[str, str]]:
    """All pairs that give a learned token, as in a tokenizer.json made from a SentencePiece model.

    SentencePiece merges whatever gives the token, not only the pair it was learned from.
    """
    found = []
    for token in dict.fromkeys("".join(merge) for merge in merges):
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        found += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    return found


def _sentencepiece(prefix: bool) -> Tokenizer:
    """prefix: a space is put before every text (Llama 2, Mistral, Phi-3; not Gemma).

    Gemma has tokens for runs of spaces and line breaks that are found before anything is merged.
    """
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    runs = [] if prefix else ["▁▁", "▁▁▁", "\n", "\n\n", "\n\n\n", "<h1>"]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=pieces + runs,
        show_progress=False,
        initial_alphabet=["▁"],
    )
    learned.train_from_iterator(_lines(), trainer)
    model = json.loads(learned.to_str())["model"]
    merges = _every_merge(model["vocab"], [*model["merges"], *map(tuple, runs[:2])])
    made = Tokenizer(
        models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", "▁")
    if prefix:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    else:
        made.normalizer = spaces
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    made.add_special_tokens([AddedToken(token, normalized=False) for token in pieces[:3]])
    made.add_tokens([AddedToken(token, normalized=False) for token in runs])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return made
