"""The stages that artifacts share: the float graph, what flows through it, and codes.

Each is in the store under the hash of all that went in, so that two formats take the same codes
from one rounding, and a build that was stopped goes on where it was.
"""

from __future__ import annotations

import functools
import importlib.metadata
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgeq.core import canonical
from edgeq.core.artifact import ImportProof
from edgeq.core.store import Store
from edgeq.core.tasks import TASKS, Task, task_of
from edgeq.core.terms import Progress
from edgeq.formats.registry import FILE_FORMATS
from edgeq.models.architectures import DEFAULT_CONTEXT
from edgeq.models.model import DescribedModel
from edgeq.pipeline.build.calibration import Calibration
from edgeq.pipeline.plan.plan import Planned
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods import ROUNDING_METHODS, rounding_method
from edgeq.quantize.number_formats import NUMBER_FORMATS
from edgeq.quantize.statistics import Feed, Observed

if TYPE_CHECKING:
    from edgeq.core.steps import Steps
    from edgeq.formats.gguf.imatrix import Importance
    from edgeq.models.graphs.weights import Weight
    from edgeq.quantize.number_formats import QuantizedTensor

Decide = Callable[[str, tuple[int, ...]], Decision]
Settle: TypeAlias = "Callable[[Weight, Decide], Decision]"

# Whatever one of these computes can change a built file.
_ENCODER_TOOLS = (
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "torch",
    "transformers",
    "tokenizers",
)
_FILE_TOOLS = ("gguf", "numpy", "xllamacpp")
_DECODER_TOOLS = ("numpy", "onnx", "onnx-ir", "onnxruntime", "tokenizers")
_IMATRIX_FILE = "imatrix.gguf"
_CODES_FILE = "codes.npz"
_PROOF_FILE = "proof.json"
_MOST_MOMENTS = 8 << 30
"""Bytes of a GGUF source's moments in the store: those of two billion weights."""


class Stages:
    """The inputs of one plan's artifacts, each made once.

    observed: statistics of the float graph on the calibration data, which variants share.
    calibration: the calibration data as the model reads them.
    """

    def __init__(self, planned: Planned, store: Store, progress: Progress) -> None:
        self.planned = planned
        self.store = store
        self.progress = progress
        planned.model.check_values()
        self.model_sha256 = planned.model.sha256()
        self.observed: Observed = {}
        self.calibration = Calibration(planned, store, progress, self.float_graph)

    @property
    def model(self) -> DescribedModel:
        """The model, its weights unread."""
        return self.planned.model

    @property
    def task(self) -> Task:
        """The model's task."""
        return task_of(self.planned.recipe.model.task)

    @property
    def source(self) -> str:
        """The source as in the recipe; only the last part of an absolute path."""
        source = self.planned.recipe.model.source
        if source.is_path and Path(source.value).is_absolute():
            return Path(source.value).name
        return str(source)

    @functools.cached_property
    def tools(self) -> dict[str, str]:
        """Name and version of every package that the float graph and its codes depend on."""
        names: tuple[str, ...] = _FILE_TOOLS
        if self.model.unread is None:
            names = _DECODER_TOOLS if self.planned.model.decoder else _ENCODER_TOOLS
        return {name: importlib.metadata.version(name) for name in names}

    @property
    def extensions(self) -> dict[str, str]:
        """Name and version of every package that adds to what decides about files."""
        registries = (NUMBER_FORMATS, ROUNDING_METHODS, FILE_FORMATS, TASKS)
        return {name: version for each in registries for name, version in each.packages.items()}

    def float_graph(self) -> Path:
        """A directory with the model as an ONNX graph in float32."""
        return self.store.stage(
            "float", self.float_key(), self._make_float, describe=self.planned.plan.source
        )

    def proof(self) -> ImportProof | None:
        """How the float graph compares with the original; None where nothing is translated.

        Raises InvalidInput where it is not the same model: nothing may be quantized from it.
        """
        from edgeq.pipeline.proof.original import proof_request, run_original, versions

        model = self.planned.model
        by = versions(model)
        if model.unread is not None:
            return None
        if model.directory is None:
            return ImportProof.model_validate_json((self.onnx_proof() / _PROOF_FILE).read_bytes())
        needed = ("onnx_ir",) if model.decoder else ("onnx_ir", "optimum")
        if not by or not all(map(find_spec, needed)):
            return self._read_twice()
        graph, reference = self.float_graph(), self.planned.recipe.data.calibration
        calibration = self.planned.path.parent / reference.path if reference else None

        def make(destination: Path) -> None:
            self.progress("compare the float model with the original")
            found = run_original(proof_request(model, self.task.name, graph, calibration))
            (destination / _PROOF_FILE).write_text(canonical.to_json(found), encoding="utf-8")

        key = {**self.float_key(), "by": by, "calibration": self.calibration.key()}
        place = self.store.stage("proof", key, make, describe=self.planned.plan.source)
        return ImportProof.model_validate_json((place / _PROOF_FILE).read_bytes())

    def _read_twice(self) -> ImportProof:
        """All that can be proven without the model's own library."""
        from edgeq.measure.reference import OWN_READING
        from edgeq.models.second_reading import require_second_reading

        directory, decoder = self.planned.model.directory, self.planned.model.decoder
        if directory is None or decoder is None:
            return ImportProof(reference=OWN_READING, compared="")
        where = str(directory.path / "config.json")
        require_second_reading(directory.config, decoder, where)
        return ImportProof(reference=OWN_READING, compared="two readings of config.json")

    def onnx_proof(self) -> Path:
        """How the import of an .onnx file compares with it, and a sample that it runs on."""
        from edgeq.pipeline.proof.onnx_request import OnnxProofRequest
        from edgeq.pipeline.proof.onnx_run import run_onnx
        from edgeq.pipeline.proof.samples import proof_texts

        graph, reference = self.float_graph(), self.planned.recipe.data.calibration
        given: dict[str, Any] = {}
        if self.planned.model.tokenizer is not None:
            texts = self.calibration.texts(reference) if reference else ()
            given = {
                "task": self.task.name,
                "dimension": self.planned.model.tokenizer.head.truncate,
                "tokenizer": self.planned.model.tokenizer.path.absolute(),
                "texts": proof_texts(texts, self.planned.model.tokenizer.max_tokens, self.task),
            }
        elif reference is not None:
            path, samples = self.calibration.arrays(reference)
            state = self.planned.recipe.model.carried
            given = {"arrays": path.absolute(), "samples": samples, "state": state}
        if self.planned.model.images is not None:
            given["images"] = self.planned.model.images.path.absolute()
            given["task"] = self.task.name

        def make(destination: Path) -> None:
            self.progress("compare the import with the original")
            model = self.planned.model.located.path.absolute()
            paths = {"model": model, "graph": graph.absolute(), "outputs": destination.absolute()}
            found = run_onnx(OnnxProofRequest(**paths, **given))
            (destination / _PROOF_FILE).write_text(canonical.to_json(found), encoding="utf-8")

        key = {**self.float_key(), "calibration": self.calibration.key()}
        return self.store.stage("proof", key, make, describe=self.planned.plan.source)

    def float_key(self) -> dict[str, Any]:
        """The store key of the float graph: all that it depends on."""
        recipe = self.planned.recipe
        return {
            "model": self.model_sha256,
            "task": recipe.model.task,
            "context": self._context if self.planned.model.decoder else None,
            "tools": self.tools,
            **({"state": recipe.model.carried} if recipe.model.carried else {}),
            **({"dimension": recipe.model.dimension} if recipe.model.dimension else {}),
        }

    @property
    def _context(self) -> int:
        """Positions the graph of a language model has rotary tables for.

        Not fewer than a runner opens by default: each recipe's own would be another graph.
        """
        return max(self.planned.recipe.workload.context, DEFAULT_CONTEXT)

    def importance_key(self) -> str | None:
        """SHA-256 of the importance matrix that the recipe names; None if it is to be computed."""
        given = self.planned.recipe.data.importance
        return canonical.sha256_of_file(self.planned.path.parent / given.path) if given else None

    def importance(self) -> Importance:
        """The importance matrix that the recipe names, or one from its calibration data, made
        once."""
        from edgeq.formats.gguf.imatrix import read_imatrix

        given = self.planned.recipe.data.importance
        if given is not None:
            return read_imatrix(self.planned.path.parent / given.path)
        key = {**self.float_key(), "calibration": self.calibration.key()}
        place = self.store.stage(
            "importance", key, self._make_importance, describe=self.planned.plan.source
        )
        return read_imatrix(place / _IMATRIX_FILE)

    def codes(
        self, decisions: dict[str, Decision], describe: str, settle: Settle | None = None
    ) -> dict[str, QuantizedTensor]:
        """Codes of every weight that `decisions` put in a number format of ours, by name.

        settle: what a format makes of a decision once it sees the weight's operators; without it,
        what every format does. The key holds what decides about codes and nothing else: formats
        that want the same share.
        """
        from edgeq.quantize.codes import load_codes

        trained = frozenset(name for name, decision in decisions.items() if decision.is_trained)
        if trained:
            started = {name: decision.started() for name, decision in decisions.items()}
            return self.trained(self.codes(started, describe, settle), trained, describe)
        chosen = {
            name: [decision.number_format, decision.method]
            for name, decision in decisions.items()
            if decision.choice is not None
        }
        needs_data = any(
            rounding_method(method).reads != "nothing" for _, method in chosen.values()
        )
        key = {
            **self.float_key(),
            "number_formats": chosen,
            "calibration": self.calibration.key() if needs_data else None,
            **({"settled by": settle.__name__} if settle else {}),
            **self.extensions,
        }

        def make(destination: Path) -> None:
            with self.store.workplace("codes", key) as steps:
                self._make_codes(destination, decisions, describe, needs_data, settle, steps)

        return load_codes(self.store.stage("codes", key, make, describe=describe) / _CODES_FILE)

    def trained(
        self, start: Mapping[str, QuantizedTensor], names: frozenset[str], describe: str
    ) -> dict[str, QuantizedTensor]:
        """`start` with the codes of the weights `names` learned."""
        from edgeq.pipeline.learn.stage import digest, learn
        from edgeq.pipeline.recover.record import versions
        from edgeq.quantize.codes import load_codes, save_codes

        key = {
            **self.float_key(),
            "start": digest(start),
            "trained": sorted(names),
            "calibration": self.calibration.key(),
            "tools": {**self.tools, **versions()},
        }

        def make(destination: Path) -> None:
            feeds = self.feeds(self.float_graph())
            with self.store.workplace("learned", key) as steps:
                found = learn(
                    self.model,
                    self.task,
                    feeds,
                    start,
                    names,
                    steps,
                    lambda step: self.progress(f"{describe}: {step}"),
                )
            save_codes(destination / _CODES_FILE, found)

        return load_codes(self.store.stage("learned", key, make, describe=describe) / _CODES_FILE)

    def _keep_moments(self, names: Sequence[str], make: Callable[[Path], None]) -> Path:
        """Where the moments of a GGUF source's weights lie, made once for all trials of a fit."""
        key = {**self.float_key(), "calibration": self.calibration.key(), "weights": list(names)}
        return self.store.stage("moments", key, make, describe=self.planned.plan.source)

    def feeds(self, graph: Path) -> list[Feed]:
        """See `Calibration.feeds`; also what a file format of another package calls."""
        return self.calibration.feeds(graph)

    def _make_float(self, destination: Path) -> None:
        model = self.planned.model
        if model.directory is None:
            from edgeq.models.graphs.imported import import_onnx

            self.progress(f"import {model.located.path.name}")
            head = model.tokenizer.head if model.tokenizer and self.task.has_sentence_head else None
            import_onnx(model.located.path, destination, head)
        elif model.decoder is not None:
            from edgeq.models.graphs.decoder_onnx import export_decoder

            self.progress("write the ONNX graph in float32")
            export_decoder(model.directory, destination, self._context)
        else:
            from edgeq.models.graphs.float_onnx import export_encoder

            self.progress("export to ONNX in float32")
            export_encoder(model.directory, destination, self.task)

    def _make_importance(self, destination: Path) -> None:
        from edgeq.formats.gguf.imatrix import write_imatrix
        from edgeq.pipeline.build.importance import importance_of

        reference = self.planned.recipe.data.calibration
        if self.model.unread is not None:
            from edgeq.pipeline.build.unread import importance_of_file

            assert reference is not None
            name, windows = Path(reference.path).name, self.calibration.windows()
            made = importance_of_file(self.model.unread, windows, name, self.progress)
            write_imatrix(destination / _IMATRIX_FILE, made)
            return
        graph = self.float_graph()
        directory = self.planned.model.directory
        assert directory is not None and reference is not None
        self.progress("importance matrix: run the calibration data")
        found = importance_of(graph, directory, self.feeds(graph), Path(reference.path).name)
        write_imatrix(destination / _IMATRIX_FILE, found)

    def _make_codes(
        self,
        destination: Path,
        decisions: dict[str, Decision],
        describe: str,
        needs_data: bool,
        settle: Settle | None,
        steps: Steps,
    ) -> None:
        from edgeq.models.graphs.rounding import find_codes
        from edgeq.models.graphs.weights import settle as settle_everywhere
        from edgeq.quantize.codes import save_codes

        if self.model.unread is not None:
            from edgeq.pipeline.build.unread import Known, codes_of_file

            windows = self.calibration.windows() if needs_data and self.calibration.key() else None
            known = Known(
                self.model.unread,
                windows,
                self.importance,
                lambda step: self.progress(f"{describe}: {step}"),
                self._keep_moments if self.planned.recipe.quantize.fit else None,
                min(_MOST_MOMENTS, shutil.disk_usage(self.store.root).free // 4),
            )
            save_codes(destination / _CODES_FILE, codes_of_file(known, decisions, steps))
            return
        graph = self.float_graph()
        found = find_codes(
            graph,
            lambda name, shape: decisions.get(name, Decision(None, "not asked for")),
            self.feeds(graph) if needs_data else [],
            lambda step: self.progress(f"{describe}: {step}"),
            settle or settle_everywhere,
            kept=steps,
        )
        save_codes(destination / _CODES_FILE, found)
