"""A Whisper with random weights that writes letters, in transformers' files and as .onnx."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>"),
    *("<|transcribe|>", "<|notimestamps|>"),
)
NOT_FIRST, LAST, LENGTH = "g", "R", 24


@dataclass(frozen=True)
class TinyWhisper:
    """directory: transformers' files. exported: optimum's."""

    directory: Path
    exported: Path


def save_whisper(folder: Path) -> TinyWhisper:
    """Save and export one. Its answers are nonsense that depends on the recording."""
    from optimum.exporters.onnx import main_export

    directory, exported = folder / "whisper", folder / "whisper-onnx"
    tokenizer = _tokenizer()
    end, start, english, german, task, plain = map(tokenizer.token_to_id, SPECIAL)
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_target_positions=LENGTH,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=0.3,  # large enough that the recording decides
    )
    model = WhisperForConditionalGeneration(config).eval()
    words = model.model.decoder.embed_tokens.weight.data
    words[end] = 1.01 * words[tokenizer.token_to_id(LAST)]
    letters = {tokenizer.token_to_id(letter) for letter in string.ascii_letters}
    model.generation_config = GenerationConfig(
        max_length=LENGTH,
        suppress_tokens=sorted(set(range(len(words))) - letters - {end}),
        begin_suppress_tokens=[tokenizer.token_to_id(NOT_FIRST), end],
        decoder_start_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=end,
        is_multilingual=True,
        lang_to_id={"<|en|>": english, "<|de|>": german},
        task_to_id={"transcribe": task},
        no_timestamps_token_id=plain,
    )
    model.save_pretrained(directory)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[0])
    wrapped.save_pretrained(directory)
    WhisperFeatureExtractor().save_pretrained(directory)
    main_export(
        str(directory),
        output=exported,
        task="automatic-speech-recognition-with-past",
        library_name="transformers",
        do_validation=False,
    )
    return TinyWhisper(directory, exported)


def original_texts(whisper: TinyWhisper, recordings: list[torch.Tensor]) -> list[str]:
    """By transformers, from samples at 16 kHz."""
    model = WhisperForConditionalGeneration.from_pretrained(whisper.directory).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(whisper.directory)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(whisper.directory)
    texts = []
    for samples in recordings:
        features = extractor(samples.numpy(), sampling_rate=16_000, return_tensors="pt")
        ids = model.generate(features.input_features, language="en", task="transcribe")
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in texts]


def _tokenizer() -> Tokenizer:
    """A token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer
