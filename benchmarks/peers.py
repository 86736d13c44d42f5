"""Our INT8 and INT4 against onnxruntime's own quantizers, in one run on one machine.

    python benchmarks/peers.py                        the recipe's evaluation pairs
    python benchmarks/peers.py --pairs stsb-test.csv  sentence, sentence, score, without a header

All start from the same model; onnxruntime's quantizers get optimum's plain export, as their users
give it to them. Latency: blocks of all variants alternate, 128 tokens, the ratio is to the fastest
of onnxruntime's INT8 variants.
"""

from __future__ import annotations

import argparse
import csv
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import edgeq
from edgeq.core.threads import default_threads
from edgeq.formats.base import Model
from edgeq.formats.text import TextEncoder
from edgeq.measure.quality import spearman
from edgeq.models.onnx_session import open_session
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import build_recipe
from edgeq.recipe.data_sets import read_pairs, read_texts

RECIPE = Path(__file__).parent.parent / "recipes" / "minilm.yaml"
TOKENS, RUNS_PER_BLOCK = 128, 5

Embed = Callable[[str], np.ndarray]
Run = Callable[[dict[str, np.ndarray]], object]


def peers(folder: Path, encoder: TextEncoder, texts: list[str]) -> dict[str, Path]:
    """onnxruntime's dynamic and static INT8 of optimum's export, and the export itself."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from optimum.exporters.onnx import main_export

    model = make_plan(RECIPE, weights=True).model.located.path
    main_export(str(model), folder, task="feature-extraction", library_name="transformers")
    plain = folder / "model.onnx"
    names = [value.name for value in open_session(plain, threads=1).get_inputs()]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, np.ndarray]] = iter(
                [padded(encoder.feeds(text, names)) for text in texts[:128]]
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    made = {"ORT float": plain, "ORT INT8 dynamic": folder / "dynamic.onnx"}
    quantize_dynamic(plain, made["ORT INT8 dynamic"], per_channel=True, weight_type=QuantType.QInt8)
    for label, operators in (("MatMul+Gather", ["MatMul", "Gather"]), ("all", None)):
        path = made[f"ORT INT8 static, {label}"] = folder / f"static-{label}.onnx"
        quantize_static(
            plain,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=operators,
        )
    return made


def padded(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Padded to one length, as onnxruntime's calibration wants it."""
    return {
        name: np.pad(array[:, :TOKENS], ((0, 0), (0, max(0, TOKENS - array.shape[1]))))
        for name, array in feed.items()
    }


def pooled(session: Any, encoder: TextEncoder) -> Embed:
    """Mean pooling and unit length on the output of a plain export."""
    names = [value.name for value in session.get_inputs()]

    def embed(text: str) -> np.ndarray:
        tokens = session.run(None, encoder.feeds(text, names))[0][0].mean(0)
        return np.asarray(tokens / np.linalg.norm(tokens))

    return embed


def _embed(model: Model, text: str) -> np.ndarray:
    return np.asarray(model.embed([text])[0])


def latencies(runs: dict[str, Run], blocks: int, vocabulary: int) -> dict[str, list[float]]:
    """Seconds of every run; variants take turns so that noise meets all alike."""
    ids = np.random.default_rng(0).integers(1000, vocabulary, (1, TOKENS))
    feed = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(feed)
    for _ in range(blocks):
        for name, run in runs.items():
            # The threads of the session before spin for a while, and would take this one's cores.
            time.sleep(0.05)
            run(feed)
            for _ in range(RUNS_PER_BLOCK):
                start = time.perf_counter()
                run(feed)
                times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    """Build, measure, print one line a variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, help="scored pairs, .csv without a header")
    parser.add_argument("--blocks", type=int, default=60, help="turns of 5 runs a variant")
    arguments = parser.parse_args()
    data = RECIPE.parent / "data"
    if arguments.pairs:
        rows = list(csv.reader(arguments.pairs.open(encoding="utf-8")))
        first, second, written = zip(*rows, strict=True)
        scores = [float(each) for each in written]
    else:
        pairs = read_pairs(data / "evaluation.tsv")
        first, second, scores = pairs.first, pairs.second, list(pairs.scores or ())

    built = build_recipe(RECIPE, None, str)
    tokenizer = (built[0].path / "tokenizer.json").read_bytes()
    encoder = TextEncoder(tokenizer, 256)
    with tempfile.TemporaryDirectory() as folder:
        made = peers(Path(folder), encoder, read_texts(data / "calibration.txt"))
        embeds: dict[str, Embed] = {}
        runs: dict[str, Run] = {}
        sizes: dict[str, float] = {}
        for name, path in made.items():
            session = open_session(path, threads=default_threads())
            embeds[name] = pooled(session, encoder)
            runs[name] = functools.partial(session.run, None)
            sizes[name] = path.stat().st_size
        for item in built:
            model = edgeq.load(item.path)
            embeds[item.artifact.name] = functools.partial(_embed, model)
            runs[item.artifact.name] = model.run
            sizes[item.artifact.name] = item.artifact.bytes
        times = latencies(runs, arguments.blocks, 20000)
    best = min(statistics.median(times[name]) for name in made if name.startswith("ORT INT8"))
    reference = [np.stack([embeds["ORT float"](text) for text in side]) for side in (first, second)]
    print(f"{len(scores)} pairs; {TOKENS} tokens, {default_threads()} threads")
    for name, embed in embeds.items():
        sides = [np.stack([embed(text) for text in side]) for side in (first, second)]
        similarity = (sides[0] * sides[1]).sum(1)
        cosines = np.concatenate([(a * b).sum(1) for a, b in zip(sides, reference, strict=True)])
        median = statistics.median(times[name])
        score = spearman(similarity, scores)
        print(
            f"{name:28} {sizes[name] / 1e6:6.2f} MB  Spearman {score:.3f}  "
            f"cosine {cosines.mean():.5f} (min {cosines.min():.3f})  "
            f"p50 {median * 1e3:.2f} ms  ratio {median / best:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
