"""Damaged files of every kind are read or refused by name; nothing else is raised.

Each seed is one file; `mutant` makes the same of it everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from edgeq.core.errors import EdgeqError
from edgeq.devices.catalogue import load_device
from edgeq.formats.text import TextEncoder
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.models.weight_files import read_safetensors_header
from edgeq.recipe import data_sets
from edgeq.recipe.load import load_recipe
from tests.support import tiny_bert
from tests.support.mutants import mutant

ROOT = Path(__file__).parents[2]
MUTANTS = 150


def arrays(path: Path) -> None:
    found = data_sets.read_arrays(path, 2)
    list(data_sets.feeds(path, found, {"a": 2, "b": 3}))


def table(path: Path) -> None:
    data_sets.read_texts(path)
    data_sets.read_pairs(path, 3)


def encoder(path: Path) -> None:
    TextEncoder(path.read_bytes(), 16).feeds("ba be \u00fc\U0001f600", ["input_ids"])


def decoder(path: Path) -> None:
    tokenizer = DecoderTokenizer(path.read_bytes())
    for token in tokenizer.ids("The bird sang \u00fc\U0001f600."):
        tokenizer.piece(token)


def arrays_content(folder: Path) -> bytes:
    np.savez(folder / "base.npz", a=np.zeros((4, 3)), b=np.ones((4, 2, 2), np.int64))
    return (folder / "base.npz").read_bytes()


def table_content(separator: str) -> bytes:
    rows = [("sentence1", "sentence2", "score"), *((f"a {i}", f"b {i}", i) for i in range(9))]
    return "\n".join(separator.join(map(str, row)) for row in rows).encode()


def weights_content() -> bytes:
    return bytes(save({f"w{index}": np.ones((4, 3), np.float32) for index in range(4)}))


WREN = ROOT / "recipes" / "wren" / "tokenizer.json"
DEVICE = ROOT / "devices" / "pi5-8gb.yaml"
KINDS: dict[str, tuple[Callable[[Path], bytes], Callable[[Path], Any]]] = {
    "recipe.yaml": (lambda _: tiny_bert.GOOD.encode(), load_recipe),
    "pi5-8gb.yaml": (lambda _: DEVICE.read_bytes(), lambda path: load_device(str(path))),
    "arrays.npz": (arrays_content, arrays),
    "pairs.tsv": (lambda _: table_content("\t"), table),
    "pairs.csv": (lambda _: table_content(","), table),
    "model.safetensors": (lambda _: weights_content(), read_safetensors_header),
    "encoder/tokenizer.json": (lambda _: tiny_bert.tokenizer().to_str().encode(), encoder),
    "decoder/tokenizer.json": (lambda _: WREN.read_bytes(), decoder),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    make, read = KINDS[name]
    content, path = make(tmp_path), tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    read(path)  # as it is
    refused = 0
    for seed in range(MUTANTS if len(content) < 100_000 else MUTANTS // 5):
        path.write_bytes(mutant(name, content, seed))
        try:
            read(path)
        except EdgeqError as error:
            refused += 1
            assert all(problem.where and problem.what for problem in error.problems), seed
    assert refused > 5


def test_the_same_seed_makes_the_same_file() -> None:
    content = json.dumps({"a": [1, {"b": "x"}]}).encode()
    made = [[mutant(name, content, seed) for seed in range(50)] for name in ("a.json", "a.json")]
    assert made[0] == made[1]
    assert len(set(made[0])) > 20
