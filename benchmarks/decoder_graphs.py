"""Why language models are the graph they are: each choice timed against the other, in one run.

    python benchmarks/decoder_graphs.py [DIRECTORY of a Hugging Face model]

Graphs: optimum's own export, and ours in float32 and from the same codes in 8 and 4 bits; with
inputs of products rounded to 8 bits (level 4) or not; queries, keys and values from one product or
from three; residual and norm in one operator or in two. A prompt of 128 tokens, then 64 tokens one
at a time, one thread, prepared copies as the runner uses them. Memory is what opening and running
adds to the anonymous memory of a fresh process, with a cache for 1,024 positions.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir

from edgeq.core.artifact import MODEL_FILE
from edgeq.formats.onnx import write as quantized_onnx
from edgeq.formats.onnx.decoder import BoundSession
from edgeq.formats.onnx.write import write_codes
from edgeq.measure import memory
from edgeq.models.graphs.decoder_onnx import export_decoder
from edgeq.models.graphs.rewriting import CONTRIB, save_model
from edgeq.models.graphs.rounding import find_codes
from edgeq.models.huggingface import read_directory
from edgeq.models.onnx_session import open_session, save_optimized
from edgeq.quantize.decide import SMALLEST_WEIGHT, Decision
from edgeq.quantize.model import Choice

PROMPT, GENERATED, CONTEXT, ROUNDS = 128, 64, 1024, 12
Step = Callable[[np.ndarray, int], None]


def in_number_format(number_format: str) -> Callable[[str, tuple[int, ...]], Decision]:
    """Every weight that is large enough, rounded to nearest."""

    def decide(name: str, shape: tuple[int, ...]) -> Decision:
        if len(shape) < 2 or np.prod(shape) < SMALLEST_WEIGHT:
            return Decision(None, "small")
        return Decision(Choice(number_format, "nearest", "float32", None), "default")

    return decide


def make_variants(source: Path, folder: Path) -> dict[str, Path]:
    """The graphs of ours, by what they are."""
    made = {"float32": folder / "float32"}
    made["float32"].mkdir()
    export_decoder(read_directory(source, str(source)), made["float32"])
    made["float32, skip norms"] = fuse_norms(made["float32"], folder / "skip")
    for number_format in ("int8-b32", "int4-b32"):
        codes = find_codes(made["float32"], in_number_format(number_format), [], lambda step: None)
        for name, joined in ((number_format, True), (f"{number_format}, q k v apart", False)):
            made[name] = folder / name.replace(" ", "-")
            made[name].mkdir()
            with contextlib.ExitStack() as stack:
                if not joined:
                    stack.enter_context(mock.patch.object(quantized_onnx, "join_products"))
                write_codes(made["float32"], made[name], in_number_format(number_format), codes)
        made[f"{number_format}, level 0"] = leave_inputs(
            made[number_format], folder / f"{number_format}-level0"
        )
    return made


def leave_inputs(source: Path, folder: Path) -> Path:
    """The same graph without `accuracy_level`: inputs of products stay float32."""
    shutil.copytree(source, folder)
    model = onnx.load(folder / MODEL_FILE, load_external_data=False)
    for node in model.graph.node:
        for attribute in [a for a in node.attribute if a.name == "accuracy_level"]:
            node.attribute.remove(attribute)
    onnx.save(model, folder / MODEL_FILE)
    return folder


def fuse_norms(source: Path, folder: Path) -> Path:
    """The same graph with SkipSimplifiedLayerNormalization for a sum and the norm behind it."""
    model = ir.load(source / MODEL_FILE)
    for node in list(model.graph):
        total = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
        if node.op_type != "SimplifiedLayerNormalization" or not total or total.op_type != "Add":
            continue
        epsilon = {"epsilon": node.attributes.get_float("epsilon", 0.0)}
        inputs = [*total.inputs, node.inputs[1]]
        fused = ir.node(
            "SkipSimplifiedLayerNormalization", inputs, epsilon, domain=CONTRIB, num_outputs=4
        )
        model.graph.insert_before(node, fused)
        node.outputs[0].replace_all_uses_with(fused.outputs[0])
        model.graph.remove(node, safe=True)
        total.outputs[0].replace_all_uses_with(fused.outputs[3])
        model.graph.remove(total, safe=True)
    folder.mkdir()
    save_model(model, folder / MODEL_FILE)
    return folder


def open_ours(folder: Path) -> Step:
    """One run of a prepared copy, with its cache in place."""
    session = open_session(folder / "prepared" / MODEL_FILE, threads=1, optimized=True)
    bound = BoundSession(session, CONTEXT)
    vocabulary = next(v for v in session.get_outputs() if v.name == "logits").shape[-1]
    logits = np.empty((1, vocabulary), np.float32)
    return lambda ids, past: bound.run(ids, past, past + len(ids), logits)


def open_optimum(folder: Path) -> Step:
    """One run of optimum's graph, whose cache is a new array each time."""
    session = open_session(folder / MODEL_FILE, threads=1)
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name: value.shape for value in session.get_inputs()}
    held: dict[str, np.ndarray] = {}

    def step(ids: np.ndarray, past: int) -> None:
        if past == 0:
            for name, shape in wanted.items():
                if name.startswith("past_key_values."):
                    held[name] = np.zeros((1, shape[1], 0, shape[3]), np.float32)
        feeds = {
            "input_ids": ids[None],
            "attention_mask": np.ones((1, past + len(ids)), np.int64),
            "position_ids": np.arange(past, past + len(ids))[None],
        }
        feeds = {name: array for name, array in feeds.items() if name in wanted}
        outputs = dict(zip(names, session.run(None, {**feeds, **held}), strict=True))
        held.update({name: outputs[name.replace("past_key_values", "present")] for name in held})

    return step


def export_optimum(source: Path, folder: Path) -> Path:
    """optimum's text-generation-with-past."""
    from optimum.exporters.onnx import main_export

    main_export(str(source), folder, task="text-generation-with-past", do_validation=False)
    return folder


def race(steps: dict[str, Step]) -> dict[str, tuple[float, float]]:
    """Tokens a second of prompt and generation, medians over rounds in which all take turns."""
    ids = np.random.default_rng(0).integers(3, 1000, PROMPT + GENERATED)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            step(ids[:PROMPT], 0)
            middle = time.perf_counter()
            for position in range(PROMPT, PROMPT + GENERATED):
                step(ids[position : position + 1], position)
            times[name].append((middle - start, time.perf_counter() - middle))
    medians = {n: np.median(np.array(seen[1:]), axis=0) for n, seen in times.items()}
    return {n: (PROMPT / prompt, GENERATED / rest) for n, (prompt, rest) in medians.items()}


def anonymous_growth(kind: str, folder: Path) -> int:
    """Bytes of anonymous memory that a fresh process gains by opening a graph and running it."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory", kind, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def print_growth(kind: str, folder: Path) -> None:
    """What `anonymous_growth` starts."""
    ids = np.random.default_rng(0).integers(3, 1000, PROMPT + 1)
    before = memory.read().anonymous_bytes
    step = (open_optimum if kind == "optimum" else open_ours)(folder)
    step(ids[:PROMPT], 0)
    step(ids[PROMPT:], PROMPT)
    print(memory.read().anonymous_bytes - before)


def main() -> None:
    """Make every graph, race them, and print figures and ratios to optimum's."""
    default = Path(__file__).parent.parent / "recipes" / "wren"
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    with tempfile.TemporaryDirectory(prefix="decoder-graphs-") as scratch:
        folder = Path(scratch)
        optimum = export_optimum(source, folder / "optimum")
        variants = make_variants(source, folder)
        for variant in variants.values():
            (variant / "prepared").mkdir()
            save_optimized(variant / MODEL_FILE, variant / "prepared" / MODEL_FILE)
        steps = {"optimum": open_optimum(optimum)}
        steps.update({name: open_ours(variant) for name, variant in variants.items()})
        speeds = race(steps)
        print(f"{'':28}{'prompt tok/s':>14}{'ratio':>7}{'generation':>14}{'ratio':>7}{'MiB':>8}")
        for name, (prompt, rest) in speeds.items():
            kind = "optimum" if name == "optimum" else "ours"
            growth = anonymous_growth(kind, variants.get(name, optimum)) / 2**20
            ratios = prompt / speeds["optimum"][0], rest / speeds["optimum"][1]
            print(
                f"{name:28}{prompt:14.0f}{ratios[0]:7.2f}{rest:14.0f}{ratios[1]:7.2f}{growth:8.1f}"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print_growth(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
