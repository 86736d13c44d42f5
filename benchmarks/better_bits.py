"""Our files against the formats' own tools at the same bytes: mean KL divergence, in one run.

    python benchmarks/better_bits.py                         the small model's own texts
    python benchmarks/better_bits.py --only onnx coreml
    python benchmarks/better_bits.py --model my-model.gguf --only gguf --methods gptq
    python benchmarks/better_bits.py --calibration a.txt --evaluation b.txt --windows 80

llama.cpp rounds with an importance matrix of the same calibration text; onnxruntime's and
coremltools' quantizers get our float graph and package, since what they are asked for is rounding.
Ours: the same number format by GPTQ and by learned rounding, and number formats chosen for the very
bytes of the peer's file. Every file is run by its own runtime; Core ML packages by our executor.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.core.artifact import DATA_FILE, MODEL_FILE, read_artifact, record_files, write_artifact
from edgeq.core.store import Store
from edgeq.pipeline.build.build import Built, build, build_float
from edgeq.pipeline.compare.compare import compare
from edgeq.pipeline.plan.plan import make_plan
from edgeq.quantize.storage import Format

ROOT = Path(__file__).parent.parent / "recipes"
FORMATS: tuple[Format, ...] = ("gguf", "onnx", "coreml")
MIXES = ("Q4_0", "Q4_K_M", "Q3_K_M", "Q2_K")
METHODS = ("gptq", "learned")
TABLE = "model.embed_tokens.weight"


@dataclass(frozen=True)
class File:
    """One file of the comparison. ours: whether edgeq chose its codes.

    against: the peer of the same bytes; without one, every peer that is no smaller.
    """

    name: str
    path: Path
    bytes: int
    ours: bool
    against: str = ""


class Bench:
    """One model, its texts, and what is built of it."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self._asked, self._folder, self._store = asked, folder, Store()
        self.mixes, self.methods = tuple(asked.mixes), tuple(asked.methods)

    def built(self, format: Format, quantize: object) -> list[Built]:
        """The artifacts of a recipe with this block `quantize`."""
        planned = make_plan(self._recipe(format, quantize), weights=True)
        return build(planned, self._store, self._progress)

    def whole(self, format: Format) -> Path:
        """The model in full precision."""
        recipe = self._recipe(format, {"default": "int8"})
        planned = make_plan(recipe, weights=True)
        return build_float(planned, self._store, self._progress, format).path

    def peer(self, name: str, base: Path, folder: Path) -> File:
        """An artifact of a file that another tool wrote into `folder`, with what stands beside."""
        for item in base.iterdir():
            if not (folder / item.name).exists() and item.name not in (MODEL_FILE, DATA_FILE):
                (shutil.copytree if item.is_dir() else shutil.copy)(item, folder / item.name)
        artifact = read_artifact(base)
        names = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()]
        names = [each for each in names if each not in ("artifact.json", "stage.json")]
        files = record_files(folder, names)
        write_artifact(folder, artifact.model_copy(update={"name": name, "files": files}))
        return File(name, folder, sum(record.bytes for record in files.values()), False)

    def show(self, files: list[File], reference: Path) -> None:
        """A line for each file; the ratio is to the best of the peers that it stands against."""
        text, windows = self._asked.evaluation, self._asked.windows
        peers: list[tuple[File, float]] = []
        for file in sorted(files, key=lambda file: file.ours):
            found = compare(reference, file.path, text, windows=windows).kl
            if not file.ours:
                peers.append((file, found.mean))
            fair = (
                kl
                for peer, kl in peers
                if (peer.name == file.against if file.against else peer.bytes >= file.bytes)
            )
            best = min(fair, default=None)
            ratio = f"{found.mean / best:6.3f}" if file.ours and best else ""
            print(
                f"{file.name:28} {file.bytes:9}  {found.mean:.6f} ± {found.mean_se:.6f}  {ratio}",
                flush=True,
            )

    def temporary(self, name: str) -> Path:
        """An empty folder."""
        path = self._folder / name
        path.mkdir()
        return path

    def _recipe(self, format: Format, quantize: object) -> Path:
        wanted = {
            "edgeq": 1,
            "name": "bits",
            "model": {"source": str(self._asked.model.resolve()), "task": "text-generation"},
            "data": {"calibration": {"path": str(self._asked.calibration.resolve())}},
            "quantize": quantize,
            "targets": [{"format": format, "devices": [_DEVICES[format]]}],
            "workload": {"context": 512, "prompt": 128, "generate": 32},
        }
        path = self._folder / "recipe.yaml"
        path.write_text(json.dumps(wanted), encoding="utf-8")
        return path

    def _progress(self, step: str) -> None:
        if self._asked.verbose:
            print(f"  {step}", flush=True)


_DEVICES = {"gguf": "here", "onnx": "here", "coreml": "iphone-15-pro"}


def gguf(bench: Bench) -> None:
    """llama.cpp's mixes with importance matrix, and ours at their sizes."""
    theirs = [_variant(mix, "importance", f"llama-{mix.lower()}") for mix in bench.mixes]
    peers = [file_of(each, False) for each in bench.built("gguf", {"default": theirs})]
    same = [
        _variant(mix, method, f"{method}-{mix.lower()}")
        for method in bench.methods
        for mix in bench.mixes
    ]
    fits = [
        {"name": f"fit-{mix.lower()}", "size": f"{peer.bytes} B"}
        for mix, peer in zip(bench.mixes, peers, strict=True)
        if mix != "Q4_0"
    ]
    ours = bench.built("gguf", {"default": same, "fit": fits})
    named = [file_of(each, True) for each in ours]
    if "learned" in bench.methods:
        for each in bench.built("gguf", {"fit": [{**fit, "method": "learned"} for fit in fits]}):
            named.append(replace(file_of(each, True), name=f"{each.artifact.name}-learned"))
    against = [f"gguf-llama-{file.name.split('-')[2]}" for file in named]
    named = [replace(file, against=peer) for file, peer in zip(named, against, strict=True)]
    bench.show([*peers, *named], bench.whole("gguf"))


def onnx(bench: Bench) -> None:
    """Every INT4 method of onnxruntime, its tables in float and in INT4, and ours."""
    float_graph = bench.whole("onnx")
    peers = [
        bench.peer(name, float_graph, folder)
        for name, folder in _onnxruntime(bench, float_graph / MODEL_FILE)
    ]
    rules = [{"match": TABLE, "use": "int8-b32"}]
    ours = bench.built(
        "onnx", {"default": {"weights": "int4-b32", "name": "int4-table8"}} | {"rules": rules}
    )
    ours += bench.built("onnx", {"default": {"weights": "int4-b32", "name": "int4-all"}})
    trained = {"weights": "int4-b32", "method": "learned", "name": "int4-all-learned"}
    ours += bench.built("onnx", {"default": trained})
    smallest = min(peer.bytes for peer in peers)
    ours += bench.built("onnx", {"fit": {"name": "fit-smallest-peer", "size": f"{smallest} B"}})
    bench.show([*peers, *(file_of(each, True) for each in ours)], float_graph)


def _onnxruntime(bench: Bench, graph: Path) -> Iterator[tuple[str, Path]]:
    import onnxruntime.quantization.matmul_nbits_quantizer as tools

    def plain(tables: bool, symmetric: bool) -> object:
        operators = ("MatMul", "Gather") if tables else ("MatMul",)
        axes = (("MatMul", 0), ("Gather", 1))
        return tools.DefaultWeightOnlyQuantConfig(
            block_size=32,
            is_symmetric=symmetric,
            accuracy_level=4,
            op_types_to_quantize=operators,
            quant_axes=axes,
        )

    methods = {
        "ort symmetric": plain(False, True),
        "ort asymmetric": plain(False, False),
        "ort symmetric, table": plain(True, True),
        "ort asymmetric, table": plain(True, False),
        "ort HQQ": tools.HQQWeightOnlyQuantConfig(block_size=32),
        "ort k-quant": tools.KQuantWeightOnlyQuantConfig(),
    }
    for name, config in methods.items():
        folder = bench.temporary(name.replace(" ", "-").replace(",", ""))
        quantizer = tools.MatMulNBitsQuantizer(
            _with_matmuls(graph), block_size=32, accuracy_level=4, algo_config=config
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(folder / MODEL_FILE), use_external_data_format=True)
        yield name, folder


def _with_matmuls(graph: Path) -> object:
    """The float graph with plain products of its own weights, as onnxruntime's tools read them."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(graph)
    held = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "FusedMatMul":
            attributes = {
                each.name: onnx.helper.get_attribute_value(each) for each in node.attribute
            }
            assert attributes.get("transB") == 1 and attributes.get("alpha", 1.0) == 1.0
            turned = np.ascontiguousarray(numpy_helper.to_array(held[node.input[1]]).T)
            name = f"{node.input[1]}.turned"
            model.graph.initializer.append(numpy_helper.from_array(turned, name))
            node.op_type, node.domain, node.input[1] = "MatMul", "", name
            del node.attribute[:]
    used = {name for node in model.graph.node for name in node.input}
    for name in held:
        if name not in used:
            model.graph.initializer.remove(held[name])
    return model


def coreml(bench: Bench) -> None:
    """coremltools' linear_quantize_weights on blocks of 32, and ours."""
    package = bench.whole("coreml")
    peers = [bench.peer(name, package, folder) for name, folder in _coremltools(bench, package)]
    everything = bench.built("coreml", {"default": {"weights": "int4-b32", "name": "int4-all"}})
    trained = {"weights": "int4-b32", "method": "learned", "name": "int4-all-learned"}
    everything += bench.built("coreml", {"default": trained})
    rules = [{"match": TABLE, "use": "int8"}]
    wide = {"default": {"weights": "int4-b32", "name": "int4-table8"}, "rules": rules}
    smallest = min(peer.bytes for peer in peers)
    fit = {"fit": {"name": "fit-smallest-peer", "size": f"{smallest} B"}}
    ours = [*everything, *bench.built("coreml", wide), *bench.built("coreml", fit)]
    bench.show([*peers, *(file_of(each, True) for each in ours)], package)


def _coremltools(bench: Bench, package: Path) -> Iterator[tuple[str, Path]]:
    import coremltools
    import coremltools.optimize.coreml as tools

    for mode in ("linear_symmetric", "linear"):
        folder = bench.temporary(f"coremltools-{mode}")
        how = tools.OpLinearQuantizerConfig(
            mode=mode, dtype="int4", granularity="per_block", block_size=32, weight_threshold=8192
        )
        config = tools.OptimizationConfig(
            op_type_configs={"linear": how, "gather": how, "matmul": how}
        )
        (found,) = package.glob("*.mlpackage")
        copied = bench.temporary(f"opened-{mode}") / found.name
        shutil.copytree(found, copied)  # coremltools writes into what it opens
        model = coremltools.models.MLModel(str(copied), skip_model_load=True)
        tools.linear_quantize_weights(model, config).save(str(folder / found.name))
        yield f"coremltools {mode}", folder


def file_of(built: Built, ours: bool) -> File:
    """A file of ours, or one that llama.cpp's own library rounded for a recipe."""
    return File(built.artifact.name, built.path, built.artifact.bytes, ours)


def _variant(mix: str, method: str, name: str) -> dict[str, str]:
    return {"weights": mix, "method": method, "name": name}


def main() -> None:
    """Build and compare format by format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "wren")
    parser.add_argument("--calibration", type=Path, default=ROOT / "data/wren-calibration.txt")
    parser.add_argument("--evaluation", type=Path, default=ROOT / "data/wren-evaluation.txt")
    parser.add_argument("--windows", type=int, default=40, help="of 256 tokens")
    parser.add_argument("--only", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--mixes", nargs="+", choices=MIXES, default=MIXES, help="of GGUF")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="of GGUF")
    parser.add_argument("--verbose", action="store_true", help="tell every step")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # onnxruntime's tools tell of every node
    sections = {"gguf": gguf, "onnx": onnx, "coreml": coreml}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked, Path(folder))
        for format in asked.only:
            begun = time.monotonic()
            print(f"\n{format}: mean KL on {asked.windows} windows; ratio to the peer of its size")
            sections[format](bench)
            print(f"{time.monotonic() - begun:.0f} s, with what the store already had", flush=True)


if __name__ == "__main__":
    main()
