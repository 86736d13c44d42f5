"""Every key of a model's files is read, known to change nothing, or refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

import torch
import transformers
from safetensors.torch import load_file, save_file

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import SENTENCE_EMBEDDING, task_of
from edgeq.formats.language import LanguageModel
from edgeq.models.architectures import FAMILIES, decoder_of
from edgeq.models.encoder import check_encoder
from edgeq.models.huggingface import read_directory
from edgeq.models.known_keys import ENCODER_KEYS
from edgeq.models.original.network import usual_names
from edgeq.models.special_tokens import end_tokens
from edgeq.models.stated_task import check_task
from edgeq.models.weights import check_values, open_weights
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import decoder_artifact, float_graph
from tests.support.gguf_artifacts import gguf_artifact

WHERE = "recipe.yaml:3:9"
ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": dict(tiny_decoders.LLAMA3_ROPE),
}


def refused(action: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidInput) as error:
        action(*arguments)
    assert all(problem.remedy for problem in error.value.problems)
    return str(error.value)


def saved(config: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return read


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.make(tmp_path_factory.mktemp("llama") / "model", "smollm2")


def changed(source: Path, folder: Path, file: str, **changes: Any) -> Path:
    """A copy of a model with other settings in one file."""
    shutil.copytree(source, folder)
    path = folder / file
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, **changes}))
    return folder


# Transformers 4 does not know these, and their own tests refuse such a key.
LATER = {"qwen3_5_text", "qwen3_5_moe_text", "lfm2_moe", "gemma4_text"}


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - LATER))
def test_an_unknown_key_of_a_decoder_is_refused(family: str) -> None:
    if family == "ministral3":  # which transformers 4 does not know
        mistral = tiny_decoders.configuration("mistral", rope_scaling=tiny_decoders.YARN)
        config = tiny_decoders.as_ministral3(saved(mistral))
    else:
        config = saved(tiny_decoders.configuration(family))
    decoder_of(config, WHERE)
    decoder_of({**config, "invented": None}, WHERE)  # null is no setting
    said = refused(decoder_of, {**config, "invented": 0.5}, WHERE)
    assert "config.json" in said and "'invented'" in said and WHERE in said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "bamba", "layer_types": ["mamba", "full_attention"]},
            "no operator for layers of 'mamba'",
        ),
        ({"model_type": "made-up"}, "'made-up' is not supported"),
    ],
)
def test_an_unsupported_architecture_names_what_lacks(config: dict[str, Any], said: str) -> None:
    told = refused(decoder_of, config, WHERE)
    assert said in told
    assert "edgeq quantize" in told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layer_types", ["mamba", "attention"]),
        ("num_local_experts", 8),
        ("position_embedding_type", "nope"),
        ("normalization_function", "layernorm"),
    ],
)
def test_only_the_dense_models_of_granite_4_are_read(key: str, value: Any) -> None:
    config = saved(tiny_decoders.configuration("granitemoehybrid"))
    assert key in refused(decoder_of, {**config, key: value}, WHERE)


LFM2 = {
    "num_heads": 4,
    **dict.fromkeys(("block_dim", "conv_dim", "conv_dim_out"), tiny_decoders.HIDDEN),
    **{"block_norm_eps": 1e-5, "block_use_swiglu": True, "use_pos_enc": True},
}


def test_the_first_words_of_lfm2_mean_the_same() -> None:
    config = saved(tiny_decoders.configuration("lfm2"))
    wanted = decoder_of(config, WHERE)
    older = dict(config)
    older["block_ff_dim"] = older.pop("intermediate_size")
    older["theta"] = older.pop("rope_theta")
    older["full_attn_idxs"] = [n for n, k in enumerate(older.pop("layer_types")) if k != "conv"]
    older |= {"tie_embedding": True, **LFM2}
    found = decoder_of(older, WHERE)
    assert found == wanted
    network = transformers.AutoModelForCausalLM.from_config(
        transformers.Lfm2Config(**{k: v for k, v in older.items() if k != "model_type"})
    )
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    assert shapes["model.layers.0.feed_forward.w1.weight"] == (found.feed_forward, found.hidden)
    assert network.config.rope_theta == found.rope.theta


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_ff_dim", 100),
        ("theta", 1e4),
        ("tie_embedding", False),
        ("full_attn_idxs", [0]),
        ("full_attn_idxs", "1"),
        ("layer_types", ["conv"] * 4),
        ("layer_types", ["conv", "full_attention"]),
        ("conv_L_cache", 1),
        ("conv_dim", 64),
        ("num_heads", 2),
        ("use_pos_enc", False),
    ],
)
def test_what_lfm2_does_not_compute_is_refused(key: str, value: Any) -> None:
    config = saved(tiny_decoders.configuration("lfm2")) | {"tie_word_embeddings": True}
    assert key in refused(decoder_of, {**config, key: value}, WHERE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("swiglu_limit", 5.0),
        ("swiglu_alpha", 1.0),
        ("experts_per_token", 3),
        ("initial_context_length", 4096),
        ("attention_bias", False),
        ("num_experts_per_tok", 6),
        ("hidden_act", "gelu"),
    ],
)
def test_what_gpt_oss_does_not_compute_is_refused(key: str, value: Any) -> None:
    config = saved(tiny_decoders.configuration("gpt_oss"))
    published = {"swiglu_limit": 7.0, "experts_per_token": 2, "initial_context_length": 32}
    decoder_of({**config, **published}, WHERE)
    assert key in refused(decoder_of, {**config, key: value}, WHERE)


def test_positions_that_gpt_oss_would_stretch_by_itself_are_refused() -> None:
    config = saved(tiny_decoders.configuration("gpt_oss"))
    del config["rope_scaling"]
    assert "rope_scaling" in refused(decoder_of, config, WHERE)


def test_a_released_gpt_oss_is_quantized_and_how_to_undo_it_is_said(tmp_path: Path) -> None:
    path = tiny_decoders.make(tmp_path / "model", "gpt_oss", num_hidden_layers=1)
    settings = json.loads((path / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "mxfp4"}
    (path / "config.json").write_text(json.dumps(settings))
    assert "Mxfp4Config(dequantize=True)" in refused(read_directory, path, WHERE)


@pytest.mark.parametrize("family", ENCODER_KEYS)
def test_an_unknown_key_of_an_encoder_is_refused(family: str) -> None:
    config = saved(transformers.CONFIG_MAPPING[family]())
    check_encoder(config, WHERE, "a sentence encoder")
    assert "'invented'" in refused(check_encoder, {**config, "invented": 0.5}, WHERE, "an encoder")
    assert "is_decoder" in refused(
        check_encoder, {**config, "is_decoder": True}, WHERE, "an encoder"
    )


@pytest.mark.parametrize("kind", ROPES)
def test_a_rope_means_the_same_in_old_and_new_words(kind: str) -> None:
    config = saved(tiny_decoders.configuration("llama"))
    config |= {"rope_theta": 5e5, "rope_scaling": {**ROPES[kind], "rope_type": kind}}
    older = decoder_of(config, WHERE)
    rope = config.pop("rope_scaling") | {"rope_theta": config.pop("rope_theta")}
    assert decoder_of({**config, "rope_parameters": rope}, WHERE) == older
    assert older.rope.theta == 5e5


@pytest.mark.parametrize("kind", ["linear", "yarn", "llama3", "dynamic"])
def test_logits_with_a_stretched_rope_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    scaling = {**ROPES[kind], "rope_type": kind}
    path = tiny_decoders.make(tmp_path / "model", "llama", rope_scaling=scaling)
    network = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    ids = np.random.default_rng(0).integers(300, 650, 120)
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(ids)[None]).logits[0].numpy()
    artifacts = [
        decoder_artifact(path, float_graph(path, tmp_path / "float"), tmp_path / "onnx"),
        gguf_artifact(path, tmp_path / "gguf"),
    ]
    for artifact in artifacts:
        assert np.abs(edgeq.load(artifact, threads=1).logits(ids) - wanted).max() < 1e-3
    assert np.abs(wanted).max() > 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_parameters": {"rope_type": "magic", "rope_theta": 1e4}}, "'magic'"),
        ({"rope_parameters": {"rope_theta": 1e4, "spin": 2}}, "'spin'"),
        ({"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 1e4}, "contradict"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "lacks 'factor'"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "each type of layer"),
        ({"hidden_act": "relu"}, "relu"),
        ({"hidden_act": ["silu"]}, "silu"),
        ({"num_hidden_layers": 2**31}, "up to 10,000"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"num_attention_heads": "4"}, "num_attention_heads"),
    ],
)
def test_what_is_not_understood_is_named(changes: dict[str, Any], said: str) -> None:
    config = saved(tiny_decoders.configuration("llama"))
    assert said in refused(decoder_of, {**config, **changes}, WHERE)


def test_layers_of_gemma_3_have_ropes_of_their_own() -> None:
    config = saved(tiny_decoders.configuration("gemma3_text"))
    older = decoder_of({**config, "rope_theta": 2e6, "rope_local_base_freq": 2e4}, WHERE)
    for key in ("rope_theta", "rope_local_base_freq", "rope_scaling"):
        config.pop(key, None)
    ropes = {"full_attention": {"rope_theta": 2e6}, "sliding_attention": {"rope_theta": 2e4}}
    assert decoder_of({**config, "rope_parameters": ropes}, WHERE) == older


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("DistilBertForSequenceClassification", "sentence-embedding"),
        ("BertForTokenClassification", "sentence-embedding"),
        ("Qwen3ForCausalLM", "sentence-embedding"),
        ("LlamaForSequenceClassification", "text-generation"),
        ("LlamaModel", "text-generation"),
    ],
)
def test_another_task_is_refused(name: str, task: str) -> None:
    assert name in refused(check_task, {"architectures": [name]}, {}, task_of(task), WHERE, False)


def test_a_head_of_another_task_is_refused() -> None:
    names = {"classifier.weight": None}
    said = refused(check_task, {}, names, SENTENCE_EMBEDDING, WHERE, False)
    assert "classifier.weight" in said


@pytest.mark.parametrize("name", ["model_old.safetensors", "adapter_config.json"])
def test_a_second_file_of_weights_is_refused(llama: Path, tmp_path: Path, name: str) -> None:
    folder = changed(llama, tmp_path / "model", "config.json")
    shutil.copyfile(folder / "model.safetensors", folder / name)
    assert name in refused(read_directory, folder, WHERE)


def rewritten(source: Path, folder: Path, change: Any) -> Path:
    """A copy of a model whose tensors went through `change`."""
    shutil.copytree(source, folder)
    tensors = change(load_file(folder / "model.safetensors"))
    save_file({name: held.contiguous() for name, held in tensors.items()}, folder / "m", {})
    (folder / "m").replace(folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("prefix", ["", "_orig_mod.model.", "language_model.model."])
def test_weights_are_found_behind_any_prefix(llama: Path, tmp_path: Path, prefix: str) -> None:
    def rename(tensors: dict[str, Any]) -> dict[str, Any]:
        return {prefix + k.removeprefix("model."): v.double() for k, v in tensors.items()}

    found = read_directory(rewritten(llama, tmp_path / "model", rename), WHERE)
    wanted = read_directory(llama, WHERE)
    assert set(found.tensors) == set(wanted.tensors)
    name = "model.layers.1.mlp.up_proj.weight"
    assert np.array_equal(open_weights(found).read(name), open_weights(wanted).read(name))


def test_a_prefix_and_names_of_the_family_are_undone_for_transformers(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", "lfm2", num_hidden_layers=2, layer_types=None)
    wrapped = rewritten(
        source, tmp_path / "wrapped", lambda held: {f"_orig_mod.{k}": v for k, v in held.items()}
    )
    with usual_names(read_directory(wrapped, WHERE)) as folder:
        found, wanted = (load_file(path / "model.safetensors") for path in (folder, source))
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_model_that_is_there_twice_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = rewritten(
        llama,
        tmp_path / "model",
        lambda held: {**held, **{f"_orig_mod.{k}": v.clone() for k, v in held.items()}},
    )
    assert "twice" in refused(read_directory, folder, WHERE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(llama: Path, tmp_path: Path, value: float) -> None:
    name = "model.layers.0.mlp.up_proj.weight"

    def spoil(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors[name][3, 5] = value
        return tensors

    directory = read_directory(rewritten(llama, tmp_path / "model", spoil), WHERE)
    assert f"{name} contains NaN or infinity (row 3)" in refused(check_values, directory, True)


def test_a_tied_head_must_be_the_embedding(llama: Path, tmp_path: Path) -> None:
    table = "model.embed_tokens.weight"
    for factor in (1, 2):
        folder = rewritten(
            llama,
            tmp_path / str(factor),
            lambda held, factor=factor: {**held, "lm_head.weight": held[table] * factor},
        )
        directory = read_directory(folder, WHERE)
        if factor == 1:
            check_values(directory, tied=True)
        else:
            assert "lm_head.weight differs" in refused(check_values, directory, True)


@pytest.mark.parametrize("key", ["suppress_tokens", "stop_strings", "invented"])
def test_settings_that_change_what_is_said_are_refused(
    llama: Path, tmp_path: Path, key: str
) -> None:
    folder = changed(llama, tmp_path / "model", "generation_config.json", **{key: [5]})
    config = json.loads((folder / "config.json").read_text())
    assert key in refused(end_tokens, folder, config, WHERE)


def test_only_special_tokens_are_ends_by_their_spelling(tmp_path: Path) -> None:
    def ends(*special: str, ordinary: tuple[str, ...] = ()) -> tuple[int, ...]:
        vocabulary = {text: id for id, text in enumerate(("a", *special, *ordinary))}
        added = [
            {"id": vocabulary[text], "content": text, "special": text in special}
            for text in (*special, *ordinary)
        ]
        tokenizer = {"model": {"type": "BPE", "vocab": vocabulary}, "added_tokens": added}
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        return end_tokens(tmp_path, {}, WHERE)

    assert ends("<|im_end|>", ordinary=("</s>",)) == (1,)
    assert ends("<|end|>", "<|return|>") == (1, 2)
    assert ends("<|end|>", "<|return|>", "<|call|>") == (2, 3)  # of gpt-oss, <|end|> ends a message


def test_every_format_stops_at_the_union_of_what_files_call_an_end(
    llama: Path, tmp_path: Path
) -> None:
    folder = changed(llama, tmp_path / "m", "generation_config.json", eos_token_id=[2, 7])
    config = json.loads((folder / "config.json").read_text())
    ends = set(end_tokens(folder, config, WHERE))
    assert ends > {2, 7}
    artifacts = [
        decoder_artifact(folder, float_graph(folder, tmp_path / "float"), tmp_path / "onnx"),
        gguf_artifact(folder, tmp_path / "gguf"),
    ]
    for artifact in artifacts:
        model = edgeq.load(artifact, threads=1)
        assert isinstance(model, LanguageModel)
        assert {id for id in range(model.vocabulary) if id in model.end_tokens} == ends
