"""Keys of a model's JSON files that are deliberately not read: one table per file.

A key that is in none of these tables and is not read is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fixed = Mapping[str, tuple[Any, ...]]
"""Keys that change nothing if they have one of these values, and are refused with others."""

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id")
"""Read by the special tokens module, or repeated in the tokenizer's files."""

_SAMPLING = (
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "top_h"),
    *("epsilon_cutoff", "eta_cutoff", "num_beams", "num_beam_groups", "diversity_penalty"),
    *("length_penalty", "early_stopping", "num_return_sequences", "repetition_penalty"),
    *("encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
    *("max_length", "max_new_tokens", "max_time", "penalty_alpha", "low_memory"),
    *("renormalize_logits", "remove_invalid_values", "dola_layers"),
)
"""Sampling defaults; here the caller decides."""

HARMLESS = frozenset(
    {
        # Origin of the file, and training settings.
        *("architectures", "transformers_version", "_name_or_path", "name_or_path", "dtype"),
        *("torch_dtype", "initializer_range", "initializer_factor", "initializer_cutoff_factor"),
        *("attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"),
        *("classifier_dropout", "classifier_dropout_prob", "resid_pdrop", "embd_pdrop", "dropout"),
        *("seq_classif_dropout", "qa_dropout", "mlp_dropout", "embedding_dropout"),
        *("gradient_checkpointing", "pretraining_tp", "is_llama_config", "unsloth_fixed"),
        *("unsloth_version", "model_name", "_commit_hash"),
        # How a library runs it, with the same answers.
        *("use_cache", "cache_implementation", "attn_implementation", "_attn_implementation"),
        *("_attn_implementation_autoset", "_attn_implementation_internal", "torchscript"),
        *(
            "_experts_implementation_internal",
            "_output_attentions",
            "use_bfloat16",
            "tf_legacy_loss",
        ),
        *("output_attentions", "output_hidden_states", "output_scores", "return_dict"),
        *("return_dict_in_generate", "chunk_size_feed_forward", "transformers.js_config"),
        # A function of a reranker's score, which keeps the order.
        *("sentence_transformers", "sbert_ce_default_activation_function"),
        # Labels, and settings for other tasks and languages of the family.
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
        *("task_specific_params", "prefix", "tokenizer_class", "decoder_start_token_id"),
        *("mask_token_id", "unk_token_id", "cross_attention_hidden_size", "tie_encoder_decoder"),
        *TOKEN_IDS,
        *_SAMPLING,
    }
)
"""For every config.json; the values of the last group predate generation_config.json."""

_LAYOUT: Fixed = {
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "is_decoder": (False,),
    "pruned_heads": ({},),
    "suppress_tokens": (),
    "begin_suppress_tokens": (),
    "bad_words_ids": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "min_length": (0,),
}
DECODER_FIXED: Fixed = {
    **_LAYOUT,
    "mlp_bias": (False,),
    "use_mrope": (False,),
    "rope_interleaved": (False,),
    "use_bidirectional_attention": (False,),
}
"""For a language model's config.json."""

GENERATION_HARMLESS = frozenset(
    {
        *("_from_model_config", "transformers_version", "use_cache", "cache_implementation"),
        *("cache_config", "return_legacy_cache", "output_attentions", "output_hidden_states"),
        *("output_scores", "output_logits", "return_dict_in_generate", "prefill_chunk_size"),
        *("num_assistant_tokens", "num_assistant_tokens_schedule", "is_assistant"),
        *("assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind"),
        *("prompt_lookup_num_tokens", "max_matching_ngram_size", "target_lookbehind"),
        *("disable_compile", "compile_config", "token_healing", "decoder_start_token_id"),
        *("bos_token_id", "pad_token_id", "continuous_batching_config"),
        *_SAMPLING,
    }
)
"""For generation_config.json; `eos_token_id` is read."""

GENERATION_FIXED: Fixed = {
    "min_length": (0,),
    "min_new_tokens": (0,),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "bad_words_ids": ([],),
    "force_words_ids": ([],),
    "sequence_bias": ({},),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "stop_strings": ([],),
    "guidance_scale": (1, 1.0),
    "constraints": ([],),
    "watermarking_config": (),
    "exponential_decay_length_penalty": (),
}
"""Settings that would make a model generate other tokens than its logits suggest."""

SPECIAL_MEANINGS = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token"),
    "mask_token",
)
"""Keys of special tokens, in the order in which transformers adds new ones."""

TOKENIZER_HARMLESS = frozenset(
    {
        # Class that the library opens, and its origin.
        *("tokenizer_class", "processor_class", "backend", "name_or_path", "is_local", "use_fast"),
        *("tokenizer_file", "vocab_file", "merges_file", "special_tokens_map_file", "device_map"),
        "local_files_only",
        # Batches, pairs and lengths; edgeq runs one text at a time and truncates it itself.
        *("padding", "padding_side", "pad_to_multiple_of", "pad_token_type_id", "truncation"),
        *("truncation_strategy", "stride", "max_length", "max_len", "model_input_names"),
        # From ids to text, and messages to text.
        *("clean_up_tokenization_spaces", "spaces_between_special_tokens", "errors"),
        *("chat_template", "response_schema", "use_default_system_prompt"),
        # Read only by classes in Python; tokenizer.json contains their result.
        *("do_basic_tokenize", "never_split", "remove_space", "keep_accents", "sp_model_kwargs"),
        *("legacy", "trim_offsets", "do_lower_case", "strip_accents", "tokenize_chinese_chars"),
        *("add_bos_token", "add_eos_token"),
        # Names of tokens in families with images and audio.
        *("image_token", "boi_token", "eoi_token", "video_token", "audio_token", "boa_token"),
        *("eoa_token", "vision_bos_token", "vision_eos_token"),
    }
)
"""For tokenizer_config.json. Some classes of transformers override tokenizer.json by keys of the
fourth group; `edgeq.models.tokenizer_settings` refuses where the two differ."""

TOKENIZER_FIXED: Fixed = {
    "split_special_tokens": (False,),
    "from_slow": (False,),
    "auto_map": (),
    "init_inputs": ([],),
    "fix_mistral_regex": (False,),
    "wordpieces_prefix": ("##",),
}
"""For tokenizer_config.json: settings that would tokenize differently from tokenizer.json."""

_ENCODER: Fixed = {**_LAYOUT, "position_embedding_type": ("absolute",)}
_BERT_KEYS = frozenset(
    {
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
        *("intermediate_size", "max_position_embeddings", "type_vocab_size", "layer_norm_eps"),
        *("model_type", "tie_word_embeddings", "position_embedding_type"),
    }
)
_DEBERTA_KEYS = _BERT_KEYS | {
    *("relative_attention", "max_relative_positions", "position_biased_input", "legacy"),
    *("pos_att_type", "pooler_hidden_size", "pooler_hidden_act", "pooler_dropout"),
}
ENCODER_KEYS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), _BERT_KEYS),
    "electra": _BERT_KEYS
    | {
        *("embedding_size", "summary_type", "summary_use_proj", "summary_activation"),
        "summary_last_dropout",
    },
    "albert": _BERT_KEYS
    | {*("embedding_size", "num_hidden_groups", "inner_group_num"), "down_scale_factor"}
    | {*("gap_size", "net_structure_type", "layers_to_keep", "num_memory_blocks")},
    "mpnet": _BERT_KEYS | {"relative_attention_num_buckets"},
    "distilbert": frozenset(
        {
            *("vocab_size", "max_position_embeddings", "sinusoidal_pos_embds", "n_layers"),
            *("n_heads", "dim", "hidden_dim", "activation", "model_type", "tie_weights_"),
            "tie_word_embeddings",
        }
    ),
    "modernbert": frozenset(
        {
            *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
            *("intermediate_size", "max_position_embeddings", "hidden_activation", "norm_eps"),
            *("norm_bias", "attention_bias", "mlp_bias", "decoder_bias", "global_rope_theta"),
            *("local_rope_theta", "global_attn_every_n_layers", "local_attention", "layer_types"),
            *("rope_parameters", "model_type", "position_embedding_type", "tie_word_embeddings"),
            *("classifier_pooling", "classifier_bias", "classifier_activation"),
            # Of training, and of kernels on GPUs.
            *("sparse_prediction", "sparse_pred_ignore_index", "repad_logits_with_grad"),
            "deterministic_flash_attn",
        }
    ),
    "deberta": _DEBERTA_KEYS,
    "roformer": _BERT_KEYS | {"embedding_size", "rotary_value"},
    "convbert": _BERT_KEYS | {"embedding_size", "head_ratio", "conv_kernel_size", "num_groups"},
    "squeezebert": _BERT_KEYS
    | {"embedding_size"}
    | {f"{part}_groups" for part in ("q", "k", "v", "post_attention", "intermediate", "output")},
    "mobilebert": _BERT_KEYS
    | {
        *("embedding_size", "true_hidden_size", "intra_bottleneck_size", "use_bottleneck"),
        *("use_bottleneck_attention", "key_query_shared_bottleneck", "normalization_type"),
        *("num_feedforward_networks", "trigram_input", "classifier_activation"),
    },
    "rembert": _BERT_KEYS | {"input_embedding_size", "output_embedding_size"},
    "deberta-v2": _DEBERTA_KEYS
    | {
        *("position_buckets", "share_att_key", "norm_rel_ebd", "attention_head_size"),
        *("conv_kernel_size", "conv_act", "embedding_size"),
    },
}
"""Keys of an encoder's config.json that transformers reads when it exports it."""

ENCODER_FIXED: Mapping[str, Fixed] = dict.fromkeys(ENCODER_KEYS, _ENCODER)
