"""transformers' tokenizer cuts texts alike whether or not it finds torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

import transformers

from edgeq.formats.hard_texts import texts_with
from edgeq.models.huggingface import read_directory
from edgeq.models.original.tokenizer import open_tokenizer
from tests.support import tiny_bert, tiny_decoders

PROGRAM = """
import json, sys
from pathlib import Path
from edgeq.core.imports import do_without
from edgeq.formats.hard_texts import texts_with
from edgeq.models.huggingface import read_directory
from edgeq.models.original.tokenizer import open_tokenizer

do_without("torch", "sklearn", "scipy")
original = open_tokenizer(read_directory(Path(sys.argv[1]), "test"))
print(json.dumps([original.ids(text) for text in texts_with(original.added())]))
"""


@pytest.mark.parametrize("kind", ["encoder with capitals", "decoder"])
def test_texts_are_cut_alike_without_torch(kind: str, tmp_path: Path) -> None:
    if kind == "decoder":
        folder = tiny_decoders.make(tmp_path / "model", "smollm2")
    else:  # its tokenizer.json alone would make them small
        folder = tiny_bert.save_bert(tmp_path / "model")
        settings = {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    bare = subprocess.check_output([sys.executable, "-c", PROGRAM, str(folder)], text=True)
    assert transformers.is_torch_available()
    original = open_tokenizer(read_directory(folder, "test"))
    whole = [original.ids(text) for text in texts_with(original.added())]
    assert json.loads(bare) == whole
    assert sum(map(len, whole)) > 200
