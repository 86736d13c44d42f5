"""The onnx project's own backend tests through edgeq's import and quantization, one row a fault.

    python benchmarks/onnx_backend_tests.py [WORD of the tests' names]

Every test's model is taken as it is, and once more with all inputs but the first as stored weights.
The import must equal the untouched model in onnxruntime without optimizations; then weights of any
size are quantized, and the answers must stay near. What edgeq does not take it must refuse by name.
"""

from __future__ import annotations

import collections
import functools
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.model import collect_testcases as collect_models
from onnx.backend.test.case.node import collect_testcases

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.write import write_quantized
from edgeq.models.graphs import weights
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.onnx_session import open_session
from edgeq.pipeline.proof.onnx_original import open_original
from edgeq.pipeline.proof.onnx_prove import prove_onnx
from edgeq.quantize import decide
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import preset

VARIANTS = ("int8-dynamic", "int8-static", "int8-stored", "int4-b32")
LIMIT = 0.5  # of a relative difference; weights of a few values are rounded coarsely
Feed = dict[str, np.ndarray]


def cases(word: str) -> Iterator[tuple[str, onnx.ModelProto, Feed]]:
    """Name, model and inputs of every test."""
    data = Path(onnx.__file__).parent / "backend/test/data"
    for folder in sorted(data.glob("*/*")):
        if word in folder.name and (folder / "model.onnx").exists():
            model = onnx.load(folder / "model.onnx")
            files = sorted(folder.glob("test_data_set_0/input_*.pb"))
            values = [onnx.TensorProto.FromString(file.read_bytes()) for file in files]
            names = _open_inputs(model)
            yield (
                folder.name,
                model,
                dict(zip(names, map(numpy_helper.to_array, values), strict=False)),
            )
    for case in (*collect_testcases(""), *collect_models()):
        if word in case.name and case.model is not None and case.data_sets:
            arrays = case.data_sets[0][0]
            if all(isinstance(array, np.ndarray) for array in arrays):
                yield (
                    case.name,
                    case.model,
                    dict(zip(_open_inputs(case.model), arrays, strict=False)),
                )


def _open_inputs(model: onnx.ModelProto) -> list[str]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in stored]


def with_weights(model: onnx.ModelProto, feed: Feed) -> tuple[onnx.ModelProto, Feed] | None:
    """The model with every input but the first as a constant."""
    names = list(feed)[1:]
    if not names:
        return None
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.ir_version = max(copy.ir_version, 4)  # before, constants were inputs too
    kept = [value for value in copy.graph.input if value.name not in names]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    for name in names:
        copy.graph.initializer.append(numpy_helper.from_array(feed[name], name))
    return copy, {name: array for name, array in feed.items() if name not in names}


def outcome(model: onnx.ModelProto, feed: Feed, folder: Path) -> Iterator[tuple[str, str]]:
    """What became of one model: a word, and the reason."""
    path, graph = folder / "source.onnx", folder / "float"
    onnx.save(model, path)
    graph.mkdir()
    import_onnx(path, graph)
    try:
        original = open_original(path)
        wanted = original.run(feed)
    except InvalidInput as error:
        yield "onnxruntime does not run it", str(error)
        return
    prove_onnx(path, graph, [feed])
    yield "import equals the original", ""
    for variant in VARIANTS:
        intent = Intent(preset(variant, "onnx", "tensor"), "onnx", "tensor", ())
        target = folder / variant
        target.mkdir()
        try:
            chosen = functools.partial(decide.decide, intent=intent)
            write_quantized(graph, target, chosen, [feed], lambda _: None)
        except InvalidInput as error:
            yield "refused to quantize", str(error)
            continue
        session = open_session(target / MODEL_FILE, threads=1)
        yield _near(session.run(None, feed), wanted), variant


def _near(found: list[Any], wanted: list[Any]) -> str:
    for a, b in zip(found, wanted, strict=True):
        if a.dtype != b.dtype or a.shape != b.shape:
            return "WRONG shape or type"
        if b.dtype.kind == "f" and b.size:
            size = max(float(np.linalg.norm(b)), 1e-6)
            if not float(np.linalg.norm(a - b)) / size <= LIMIT and np.isfinite(b).all():
                return "WRONG values"
    return "quantized"


def run(name: str, model: onnx.ModelProto, feed: Feed) -> Iterator[tuple[str, str]]:
    """`outcome`, with whatever it raises as an outcome."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield from outcome(model, feed, Path(folder))
        except InvalidInput as error:
            yield "refused to import", str(error)
        except Exception:
            yield "TRACEBACK", traceback.format_exc(limit=-2)


def main(word: str) -> None:
    """Print faults, and how often each outcome was seen."""
    for module in (weights, decide):
        mock.patch.object(module, "SMALLEST_WEIGHT", 1).start()
    seen: collections.Counter[str] = collections.Counter()
    reasons: Mapping[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, model, feed in cases(word):
        both = [(name, model, feed)]
        fixed = with_weights(model, feed)
        if fixed is not None:
            both.append((f"{name} with weights", *fixed))
        for each in both:
            for word_, why in run(*each):
                seen[word_] += 1
                reasons[word_][" ".join(why.split()[1:])[:110]] += 1
                if word_.isupper() or word_.startswith("WRONG"):
                    print(f"{each[0]}: {word_}: {why}", flush=True)
    for word_, count in seen.most_common():
        print(f"{count:5d} {word_}")
    for word_ in ("refused to import", "refused to quantize"):
        for reason, count in reasons[word_].most_common(40):
            print(f"{count:5d} {word_}: {reason}")


if __name__ == "__main__":
    main(*sys.argv[1:] or [""])
