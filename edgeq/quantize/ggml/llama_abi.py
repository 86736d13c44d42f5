"""The used parts of llama.cpp's C interface, for ctypes.

Structures and functions as in `include/llama.h` of the llama.cpp in each known build.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from edgeq.core.kv_cache import KvType

F32, F16 = 0, 1  # enum ggml_type
GGML_TYPES: dict[KvType, int] = {"f32": F32, "f16": F16, "q8_0": 8, "q4_0": 2}
ERROR, CONTINUED = 4, 5  # enum ggml_log_level
_int, _uint, _float, _bool = ctypes.c_int32, ctypes.c_uint32, ctypes.c_float, ctypes.c_bool
_pointer, _text = ctypes.c_void_p, ctypes.c_char_p
_ints = ctypes.POINTER(ctypes.c_int32)

EvalCallback = ctypes.CFUNCTYPE(_bool, _pointer, _bool, _pointer)
"""bool (struct ggml_tensor *, bool ask, void * user_data): `ggml_backend_sched_eval_callback`."""
LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, _text, _pointer)


def _all(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class ModelParams(ctypes.Structure):
    """`struct llama_model_params`, the same in both builds."""

    _fields_ = [
        *_all(_pointer, "devices tensor_buft_overrides"),
        *_all(_int, "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
        *_all(_pointer, "tensor_split progress_callback progress_callback_user_data kv_overrides"),
        *_all(_bool, "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"),
    ]


_CONTEXT_BEGIN = [
    *_all(_uint, "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq"),
    *_all(_int, "n_threads n_threads_batch ctx_type rope_scaling_type pooling_type attention_type"),
    *_all(_int, "flash_attn_type"),
    *_all(_float, "rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor"),
    *_all(_float, "yarn_beta_fast yarn_beta_slow"),
    ("yarn_orig_ctx", _uint),
    ("defrag_thold", _float),
    ("cb_eval", EvalCallback),
    ("cb_eval_user_data", _pointer),
    *_all(_int, "type_k type_v"),
    *_all(_pointer, "abort_callback abort_callback_data"),
]
_CONTEXT_END = [
    *_all(_bool, "embeddings offload_kqv no_perf op_offload swa_full kv_unified"),
    ("samplers", _pointer),
    ("n_samplers", ctypes.c_size_t),
    ("ctx_other", _pointer),
]


class ContextParams(ctypes.Structure):
    """`struct llama_context_params` of llama-cpp-python's llama.cpp, 160 bytes."""

    _fields_ = [*_CONTEXT_BEGIN, *_CONTEXT_END]


class LaterContextParams(ctypes.Structure):
    """The same in xllamacpp's, 168 bytes: it has one more pointer."""

    _fields_ = [*_CONTEXT_BEGIN, ("added", _pointer), *_CONTEXT_END]


class Batch(ctypes.Structure):
    """`struct llama_batch`: arrays of n_tokens; null `pos` and `seq_id` continue sequence 0."""

    _fields_ = [
        ("n_tokens", _int),
        ("token", _ints),
        ("embd", ctypes.POINTER(_float)),
        ("pos", _ints),
        ("n_seq_id", _ints),
        ("seq_id", ctypes.POINTER(_ints)),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


@dataclass(frozen=True)
class Build:
    """A package that contains llama.cpp, and facts about its required version."""

    module: str
    distribution: str
    version: str
    files: tuple[str, ...]  # of the library in the package's directory, by platform
    context_params: type[ctypes.Structure]
    context_bytes: int


BUILDS = {
    build.module: build
    for build in (
        Build(
            "xllamacpp",
            "xllamacpp",
            "2026.10.11549",
            ("xllamacpp.abi3.so",),
            LaterContextParams,
            168,
        ),
        Build(
            "llama_cpp",
            "llama-cpp-python",
            "0.3.36",
            ("lib/libllama.so", "lib/libllama.dylib", "lib/llama.dll"),
            ContextParams,
            160,
        ),
    )
}
MODEL_BYTES, BATCH_BYTES = 80, 56
DEFAULTS: dict[str, Any] = {
    **{"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_threads": 4},
    **{"pooling_type": -1, "flash_attn_type": -1, "defrag_thold": -1.0, "yarn_ext_factor": -1.0},
    **{"type_k": F16, "type_v": F16, "embeddings": False, "offload_kqv": True, "swa_full": True},
    **{"no_perf": True, "op_offload": True, "kv_unified": False, "n_samplers": 0},
}
MODEL_DEFAULTS: dict[str, Any] = {
    **{"n_gpu_layers": -1, "load_mode": -1, "main_gpu": 0, "vocab_only": False},
    **{"check_tensors": False, "use_extra_bufts": True, "no_host": False, "no_alloc": False},
}

# By name: the result, then the arguments.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "llama_backend_init": (None,),
    "llama_log_set": (None, LogCallback, _pointer),
    "llama_print_system_info": (_text,),
    "llama_model_default_params": (ModelParams,),
    "llama_model_load_from_file": (_pointer, _text, ModelParams),
    "llama_model_free": (None, _pointer),
    "llama_adapter_lora_init": (_pointer, _pointer, _text),
    "llama_set_adapters_lora": (
        *(_int, _pointer, ctypes.POINTER(_pointer)),
        *(ctypes.c_size_t, ctypes.POINTER(_float)),
    ),
    "llama_model_get_vocab": (_pointer, _pointer),
    "llama_model_n_ctx_train": (_int, _pointer),
    "llama_model_n_embd": (_int, _pointer),
    "llama_vocab_n_tokens": (_int, _pointer),
    "llama_vocab_is_eog": (_bool, _pointer, _int),
    "llama_tokenize": (_int, _pointer, _text, _int, _ints, _int, _bool, _bool),
    "llama_token_to_piece": (_int, _pointer, _int, _text, _int, _int, _bool),
    "llama_free": (None, _pointer),
    "llama_n_batch": (_uint, _pointer),
    "llama_pooling_type": (ctypes.c_int, _pointer),
    "llama_get_memory": (_pointer, _pointer),
    "llama_memory_clear": (None, _pointer, _bool),
    "llama_decode": (_int, _pointer, Batch),
    "ggml_op_desc": (_text, _pointer),
    "llama_encode": (_int, _pointer, Batch),
    "llama_get_logits_ith": (ctypes.POINTER(_float), _pointer, _int),
    "llama_get_embeddings_seq": (ctypes.POINTER(_float), _pointer, _int),
}
