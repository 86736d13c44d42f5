"""The ONNX graph of a language model answers as transformers does, whatever its cache holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
import torch
import transformers

from edgeq.core.artifact import DATA_FILE, MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.write import write_codes
from edgeq.models.architectures import Decoder
from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
from edgeq.models.graphs.rounding import find_codes
from edgeq.models.graphs.statistics import input_powers
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.onnx_session import Session, open_session
from edgeq.quantize.number_formats import QuantizedTensor
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import (
    decide_on,
    decoder_in,
    float_graph,
    logits_of,
    nearest_codes,
)

LONG = 300  # tokens: more than a window and the room behind it hold together
TABLE = "model.embed_tokens.weight"
WRONG = 1e-4  # float32 rounding over a few layers leaves a tenth of it


@dataclass(frozen=True)
class Tiny:
    """A model of random weights: its directory, its float graph, and transformers' own."""

    path: Path
    graph: Path
    decoder: Decoder
    network: torch.nn.Module

    def ids(self, count: int, seed: int = 0) -> np.ndarray:
        """Random token ids, int64 (count,)."""
        return np.random.default_rng(seed).integers(3, self.decoder.vocabulary, count)

    def expected(self, ids: np.ndarray) -> np.ndarray:
        """Logits by transformers, (tokens, vocabulary)."""
        with torch.no_grad():
            return np.asarray(self.network(torch.from_numpy(ids)[None]).logits[0])


Make = Callable[[str], Tiny]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A model of the family, made once."""
    made: dict[str, Tiny] = {}

    def get(family: str) -> Tiny:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            path = tiny_decoders.make(folder / "model", family, max_position_embeddings=512)
            network = transformers.AutoModelForCausalLM.from_pretrained(
                path, attn_implementation="eager"
            )
            graph = float_graph(path, folder / "float")
            made[family] = Tiny(path, graph, decoder_in(path), network.eval())
        return made[family]

    return get


def run_in_pieces(tiny: Tiny, model: Path, ids: np.ndarray, cuts: list[int]) -> np.ndarray:
    """Logits of every token, those up to each cut in one run, through a cache that grows."""
    return logits_of(model, tiny.decoder, ids, cuts)


@pytest.mark.parametrize("family", tiny_decoders.FAMILIES)
def test_logits_are_those_of_transformers_beyond_the_window(make: Make, family: str) -> None:
    tiny = make(family)
    ids = tiny.ids(LONG)
    expected = tiny.expected(ids)
    model = tiny.graph / MODEL_FILE
    for cuts in ([LONG], [7, 150, 151, LONG]):
        assert np.abs(run_in_pieces(tiny, model, ids, cuts) - expected).max() < WRONG
    assert np.abs(expected).max() > 1  # else the limit would say nothing


def test_short_texts_of_a_longrope_model_turn_by_their_own_angles(make: Make) -> None:
    tiny = make("phi3-longrope")
    trained = json.loads((tiny.path / "config.json").read_text())[
        "original_max_position_embeddings"
    ]
    short, long = tiny.ids(trained), tiny.ids(trained + 1)
    model = tiny.graph / MODEL_FILE
    for ids in (short, long):
        found = run_in_pieces(tiny, model, ids, [len(ids)])
        assert np.abs(found - tiny.expected(ids)).max() < WRONG
    apart = tiny.expected(short) - tiny.expected(long)[:trained]
    assert np.abs(apart).max() > 100 * WRONG


def test_convolutions_may_have_biases(tmp_path: Path) -> None:
    path = tiny_decoders.make(tmp_path / "model", "lfm2", conv_bias=True, conv_L_cache=4)
    network = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    tiny = Tiny(path, float_graph(path, tmp_path / "float"), decoder_in(path), network)
    ids = tiny.ids(30)
    found = run_in_pieces(tiny, tiny.graph / MODEL_FILE, ids, [1, 2, 3, 20, 30])
    assert np.abs(found - tiny.expected(ids)).max() < WRONG


def test_only_the_logits_that_are_wanted_are_computed(make: Make) -> None:
    tiny = make("smollm2")
    session = open_session(tiny.graph / MODEL_FILE, threads=1)
    ids = tiny.ids(20)
    feed = dict(decoder_feeds(tiny.decoder, [ids.tolist()])[0])
    (every,) = session.run(["logits"], feed)
    (last,) = session.run(["logits"], {**feed, "logits_to_keep": np.array([3])})
    assert every.shape[1] == 20
    assert last.shape[1] == 3
    assert np.abs(last - every[:, -3:]).max() < 1e-5


def test_tables_of_positions_end_where_asked(make: Make, tmp_path: Path) -> None:
    tiny = make("llama")
    graph = float_graph(tiny.path, tmp_path / "short", context=40)
    ids = tiny.ids(40)
    found = run_in_pieces(tiny, graph / MODEL_FILE, ids, [40])
    assert np.abs(found - tiny.expected(ids)).max() < WRONG
    saved = (tiny.graph / DATA_FILE).stat().st_size - (graph / DATA_FILE).stat().st_size
    assert saved == (512 - 40) * tiny.decoder.rope_dim * 4


def test_missing_and_misshapen_weights_are_all_named(make: Make, tmp_path: Path) -> None:
    directory = read_directory(make("smollm2").path, "test")
    tensors = dict(directory.tensors)
    del tensors["model.norm.weight"]
    tensors[TABLE] = tensors["model.layers.0.mlp.down_proj.weight"]
    damaged = ModelDirectory(**{**directory.__dict__, "tensors": tensors})
    with pytest.raises(InvalidInput) as error:
        export_decoder(damaged, tmp_path)
    said = str(error.value)
    assert f"{TABLE}: has the shape" in said
    assert "model.norm.weight: is missing" in said
    assert not list(tmp_path.iterdir())


def test_equal_models_give_equal_bytes(make: Make, tmp_path: Path) -> None:
    tiny = make("qwen2")
    again = float_graph(tiny.path, tmp_path / "again")
    for name in (MODEL_FILE, DATA_FILE):
        assert (again / name).read_bytes() == (tiny.graph / name).read_bytes()


def regions(model: Path) -> dict[str, tuple[int, int]]:
    """Offset and length of every constant in the data file, by name."""
    graph = onnx.load(model, load_external_data=False).graph
    found = {}
    for tensor in graph.initializer:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        if facts:
            found[tensor.name] = (int(facts["offset"]), int(facts["length"]))
    return found


@pytest.mark.parametrize("number_format", ["int8-b32", "int4-b32"])
def test_a_tied_table_is_in_the_file_once(make: Make, tmp_path: Path, number_format: str) -> None:
    tiny = make("smollm2")
    codes = nearest_codes(tiny.graph, number_format)
    written = write_codes(tiny.graph, tmp_path, decide_on(number_format), codes)
    places = regions(tmp_path / MODEL_FILE)
    assert places[f"{TABLE}.rows"] == places[f"{TABLE}.codes"]
    in_file = sum(tensor.bytes for tensor in written.tensors.values())
    tables = tiny.decoder.context * tiny.decoder.rope_dim * 4
    assert (tmp_path / DATA_FILE).stat().st_size == in_file + tables
    assert TABLE in regions(tiny.graph / MODEL_FILE)


def dequantized(tiny: Tiny, codes: dict[str, QuantizedTensor], folder: Path) -> np.ndarray:
    """Logits by transformers with the weights that codes stand for."""
    folder.mkdir()
    network = transformers.AutoModelForCausalLM.from_pretrained(
        tiny.path, attn_implementation="eager"
    )
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for name, tensor in codes.items():
            weights[name].copy_(torch.from_numpy(tensor.dequantize()))
        return np.asarray(network.eval()(torch.from_numpy(tiny.ids(60))[None]).logits[0])


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def with_inputs_as_they_are(model: Path) -> Path:
    """The same graph beside the same data, but products do not round their inputs."""
    graph = onnx.load(model, load_external_data=False)
    products = [node for node in graph.graph.node if node.op_type == "MatMulNBits"]
    for node in products:
        (level,) = [a for a in node.attribute if a.name == "accuracy_level"]
        assert level.i == 4
        node.attribute.remove(level)
    changed = model.with_name("exact.onnx")
    onnx.save(graph, changed)
    return changed


# One with everything apart, biases that are joined, norms in between, and fused weights.
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "gemma3_text"])
@pytest.mark.parametrize("number_format", ["int8-b32", "int4-b32"])
def test_codes_are_computed_with_as_they_are(
    make: Make, tmp_path: Path, family: str, number_format: str
) -> None:
    tiny = make(family)
    codes = nearest_codes(tiny.graph, number_format)
    matrices = {n for n, shape in tiny.decoder.tensors().items() if len(shape) == 2}
    assert set(codes) == matrices
    write_codes(tiny.graph, tmp_path, decide_on(number_format), codes)
    model = tmp_path / MODEL_FILE
    expected = dequantized(tiny, codes, tmp_path / "again")
    exact = run_in_pieces(tiny, with_inputs_as_they_are(model), tiny.ids(60), [30, 60])
    # A table that is only looked up gives rows in float16, the type of its scales.
    limit = 1e-5 if tiny.decoder.tied else 2**-10
    assert relative_error(exact, expected) < limit
    rounded = run_in_pieces(tiny, model, tiny.ids(60), [30, 60])
    assert 2**-10 < relative_error(rounded, expected) < 0.05


def test_keys_queries_and_values_are_one_product(make: Make, tmp_path: Path) -> None:
    products = {}
    for family in ("qwen2", "qwen3"):
        tiny = make(family)
        folder = tmp_path / family
        folder.mkdir()
        codes = nearest_codes(tiny.graph, "int4-b32")
        write_codes(tiny.graph, folder, decide_on("int4-b32"), codes)
        nodes = onnx.load(folder / MODEL_FILE, load_external_data=False).graph.node
        products[family] = [node.op_type for node in nodes].count("MatMulNBits")
    # q, k, v, o, gate, up, down and the output layer; norms of heads keep the first three apart.
    assert products == {"qwen2": 2 * 5 + 1, "qwen3": 2 * 7 + 1}


def inputs_seen(tiny: Tiny, windows: list[np.ndarray]) -> dict[str, np.ndarray]:
    """All rows that each linear layer was given by transformers, by its weight's name."""
    rows: dict[str, list[np.ndarray]] = {}
    hooks = []
    for name, module in tiny.network.named_modules():
        if isinstance(module, torch.nn.Linear):
            weight = TABLE if name == "lm_head" and tiny.decoder.tied else f"{name}.weight"

            def keep(_: object, args: tuple[torch.Tensor, ...], weight: str = weight) -> None:
                rows.setdefault(weight, []).append(args[0][0].numpy())

            hooks.append(module.register_forward_pre_hook(keep))
    for window in windows:
        tiny.expected(window)
    for hook in hooks:
        hook.remove()
    return {name: np.concatenate(pieces) for name, pieces in rows.items()}


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3-longrope"])
def test_powers_are_the_mean_squares_of_what_weights_meet(make: Make, family: str) -> None:
    tiny = make(family)
    windows = [tiny.ids(count, seed=count) for count in (30, 50)]
    found = input_powers(
        tiny.graph, decoder_feeds(tiny.decoder, [window.tolist() for window in windows])
    )
    expected = inputs_seen(tiny, windows)
    assert set(found) == set(expected)
    for name, rows in expected.items():
        power, count = found[name]
        assert count == len(rows) == 80
        assert power == pytest.approx(np.square(rows, dtype=np.float64).mean(0), rel=1e-3)


def test_powers_of_an_encoder_have_the_names_of_its_files(tiny: Path, tmp_path: Path) -> None:
    from edgeq.models.graphs.float_onnx import export_encoder

    directory = read_directory(tiny, "test")
    export_encoder(directory, tmp_path)
    ids = np.arange(4, 14)[None]
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    feed["token_type_ids"] = np.zeros_like(ids)
    found = input_powers(tmp_path, [feed])
    layers = ("dense.weight", "query.weight", "key.weight", "value.weight")
    assert set(found) == {n for n in directory.tensors if n.endswith(layers) and "pooler" not in n}
    assert {count for _, count in found.values()} == {10}


def test_gptq_rounds_a_tied_table_for_what_the_output_layer_sees(make: Make) -> None:
    tiny = make("smollm2")
    windows = [tiny.ids(100, seed=seed) for seed in range(8)]
    feeds = decoder_feeds(tiny.decoder, [window.tolist() for window in windows])
    careful = find_codes(tiny.graph, decide_on("int4-b32", "gptq"), feeds, str)[TABLE]
    plain = nearest_codes(tiny.graph, "int4-b32")[TABLE]
    assert careful.method == "gptq"
    inputs = inputs_seen(tiny, windows)[TABLE]
    weight = tiny.network.get_input_embeddings().weight.detach().numpy()

    def error(tensor: QuantizedTensor) -> float:
        return float(np.square(inputs @ (tensor.dequantize() - weight).T).mean())

    assert error(careful) < 0.8 * error(plain)


def peak_growth(source: Path, destination: Path) -> int:
    """Bytes that an export adds to the most a fresh process ever held in anonymous memory."""
    import subprocess
    import sys

    code = (
        "import sys, threading, pathlib, re\n"
        "from edgeq.models.graphs.decoder_onnx import export_decoder\n"
        "from edgeq.models.huggingface import read_directory\n"
        "def held():\n"
        "    text = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(re.search(r'RssAnon:\\s+(\\d+)', text)[1]) * 1024\n"
        "source, to = map(pathlib.Path, sys.argv[1:])\n"
        "directory = read_directory(source, 'test')\n"
        "before, seen, done = held(), [0], threading.Event()\n"
        "def look():\n"
        "    while not done.wait(0.001):\n"
        "        seen.append(held())\n"
        "thread = threading.Thread(target=look); thread.start()\n"
        "export_decoder(directory, to); done.set(); thread.join()\n"
        "print(max(seen) - before)\n"
    )
    destination.mkdir()
    command = [sys.executable, "-c", code, str(source), str(destination)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read memory from")
def test_weights_pass_from_file_to_file_in_pieces(tmp_path: Path) -> None:
    big = tiny_decoders.make(tmp_path / "big", "smollm2", vocab_size=120_000)
    table = 120_000 * tiny_decoders.HIDDEN * 4
    assert peak_growth(big, tmp_path / "out") < table / 2
    assert (tmp_path / "out" / DATA_FILE).stat().st_size > table


def test_a_session_is_all_that_feeds_depend_on(make: Make) -> None:
    """Every input of every family is fed, and nothing else."""
    for family in tiny_decoders.FAMILIES:
        tiny = make(family)
        session: Session = open_session(tiny.graph / MODEL_FILE, threads=1)
        (feed,) = decoder_feeds(tiny.decoder, [tiny.ids(5).tolist()])
        assert {value.name for value in session.get_inputs()} == set(feed)
