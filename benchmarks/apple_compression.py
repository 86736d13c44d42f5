"""Divergence of a language model that Apple's own tool compresses, by number format.

    pip install --no-deps --target SOMEWHERE coreai-opt==0.4.0 coreai-torch==0.4.3 torchao
    PYTHONPATH=SOMEWHERE python benchmarks/apple_compression.py [NUMBER FORMAT] …

Of recipes/wren, on the windows of recipes/wren-coreai.yaml, as PyTorch computes it. What `edgeq
check` of that recipe says for the same number format is next to it in docs/howto/coreai.md.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from coreai_opt.palettization import (
    KMeansPalettizer,
    KMeansPalettizerConfig,
    ModuleKMeansPalettizerConfig,
    PalettizationSpec,
)
from coreai_opt.palettization.spec import PerGroupedChannelGranularity, PerTensorGranularity
from coreai_opt.quantization import (
    ModuleQuantizerConfig,
    QuantizationSpec,
    Quantizer,
    QuantizerConfig,
)
from coreai_opt.quantization.spec import PerBlockGranularity, PerChannelGranularity
from transformers import AutoModelForCausalLM

from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.measure.text_passes import corpus_windows

RECIPES = Path(__file__).parents[1] / "recipes"
WINDOWS, WINDOW, TOGETHER = 20, 256, 5
Model = Any  # of PyTorch, which has no types here


def linear(model: Model, example: torch.Tensor, dtype: str, granularity: Any) -> Model:
    """Symmetric codes of all matrices, to the nearest."""
    spec = QuantizationSpec(dtype=dtype, qscheme="symmetric", granularity=granularity)
    of_layers = ModuleQuantizerConfig(
        op_state_spec={"weight": spec}, op_input_spec=None, op_output_spec=None
    )
    config = QuantizerConfig(
        execution_mode="eager",
        global_config=None,
        module_type_configs=dict.fromkeys((torch.nn.Linear, torch.nn.Embedding), of_layers),
    )
    quantizer = Quantizer(model, config)
    prepared: Model = quantizer.prepare((example,))
    with quantizer.calibration_mode():
        prepared(example)
    return prepared


def palette(model: Model, example: torch.Tensor, bits: int, granularity: Any) -> Model:
    """Tables of all matrices, by k-means."""
    spec = PalettizationSpec(n_bits=bits, granularity=granularity)
    of_layers = ModuleKMeansPalettizerConfig(op_state_spec={"weight": spec})
    config = KMeansPalettizerConfig(global_config=of_layers)
    prepared: Model = KMeansPalettizer(model, config).prepare((example,))
    return prepared


CASES: dict[str, Callable[[Model, torch.Tensor], Model]] = {
    "int4-b32": lambda m, x: linear(m, x, "int4", PerBlockGranularity(axis=1, block_size=32)),
    "int8": lambda m, x: linear(m, x, "int8", PerChannelGranularity(axis=0)),
    "int8-b32": lambda m, x: linear(m, x, "int8", PerBlockGranularity(axis=1, block_size=32)),
    "palette4": lambda m, x: palette(m, x, 4, PerTensorGranularity()),
    "palette6": lambda m, x: palette(m, x, 6, PerTensorGranularity()),
    "palette6-g16": lambda m, x: palette(
        m, x, 6, PerGroupedChannelGranularity(axis=0, group_size=16)
    ),
}


def predictions(model: Model, windows: torch.Tensor) -> torch.Tensor:
    """Log-probabilities that predict the second half of each window."""
    with torch.no_grad():
        parts = [
            model(input_ids=part).logits[:, WINDOW // 2 : -1] for part in windows.split(TOGETHER)
        ]
    return torch.log_softmax(torch.cat(parts).double(), -1)


def main(names: list[str]) -> None:
    """Print the mean divergence and its standard error, clustered by window."""
    tokenizer = DecoderTokenizer((RECIPES / "wren/tokenizer.json").read_bytes())
    text = RECIPES / "data/wren-evaluation.txt"
    windows = torch.tensor(corpus_windows(tokenizer.ids, text, WINDOWS, WINDOW))
    model = AutoModelForCausalLM.from_pretrained(RECIPES / "wren", dtype=torch.float32).eval()
    model.config.use_cache = False
    wanted = predictions(model, windows)
    for name in names or CASES:
        found = predictions(CASES[name](copy.deepcopy(model), windows[:1]), windows)
        by_window = (wanted.exp() * (wanted - found)).sum(-1).mean(1)
        error = float(by_window.std()) / WINDOWS**0.5
        print(f"{name:12s} {float(by_window.mean()):.5f} ± {error:.5f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
