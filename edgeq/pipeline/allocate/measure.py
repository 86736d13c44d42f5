"""Sensitivities and losses of whole models, each in the store under all that it depends on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import edgeq
from edgeq.core import canonical
from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.steps import Steps
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats.registry import file_format
from edgeq.models.graphs.rounding import find_codes
from edgeq.pipeline.allocate.chain import Chain
from edgeq.pipeline.allocate.holdout import HeldBack, learnt_from
from edgeq.pipeline.allocate.inputs import kernels_of, shared_out, widest_of
from edgeq.pipeline.allocate.measure_sensitivity import tensor_costs
from edgeq.pipeline.allocate.options import Options, find_options, intent_of
from edgeq.pipeline.allocate.sensitivity import FILE, Cost, Sensitivity, Whole, read_sensitivity
from edgeq.pipeline.allocate.solve import best_within, total
from edgeq.pipeline.build.stages import Stages
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.presets import Method
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format

if TYPE_CHECKING:
    from edgeq.quantize.statistics import Feed

Build = Callable[[Intent], Path]
"""Makes an artifact, or finds it, and tells where it is."""

_TENSOR_SAMPLES = 8
_WHOLE_SAMPLES = 24
_LEARNT = 48  # samples that rounding learns from here; a build takes all
_LEARNT_WHOLE = 32
# Whole models that are measured: at these shares of the way from the smallest to the largest.
_SHARES = (0.12, 0.4)
_LOSS_FILE = "loss.json"


class Loss(Frozen):
    """What an artifact loses on held-back samples, by its own runtime; and the error of that."""

    loss: float
    error: float
    samples: int


class Ground:
    """One model and one format: what tensors cost, what whole artifacts lose."""

    def __init__(self, stages: Stages, format: Format, build: Build) -> None:
        self.stages, self.format, self._build = stages, format, build
        self.recipe, self.model = stages.planned.recipe, stages.planned.model
        self.options: Options = find_options(self.model, self.recipe, format)

    def key(self) -> dict[str, object]:
        """What a sensitivity depends on."""
        own = {name: [[o.use, o.method] for o in each] for name, each in self.options.items()}
        return {
            **self.stages.float_key(),
            "format": self.format,
            "calibration": self.stages.calibration_key(),
            "options": own,
        }

    def known(self) -> Sensitivity | None:
        """The sensitivity if it is given or in the store. Raises InvalidInput for another's."""
        given = self.recipe.data.sensitivity
        if given is not None:
            return self._given(self.stages.planned.path.parent / given.path)
        place = self.stages.store.find("sensitivity", self.key())
        return read_sensitivity(place / FILE) if place else None

    def sensitivity(self) -> Sensitivity:
        """What each tensor costs: given, found, or measured now."""
        found = self.known()
        if found is not None:
            return found
        place = self.stages.store.stage("sensitivity", self.key(), self._make)
        return read_sensitivity(place / FILE)

    def loss(self, intent: Intent) -> Loss:
        """What an artifact loses; it is built first."""
        path = self._build(intent)
        key = {"artifact": path.name, "calibration": self.stages.calibration_key()}

        def make(destination: Path) -> None:
            self.stages.progress(f"{intent.name}: measure on held-back calibration data")
            with self._held(_WHOLE_SAMPLES) as (_, held):
                found = held.of_model(edgeq.load(path))
            lost = Loss(loss=found.value, error=found.error, samples=len(held.feeds))
            (destination / _LOSS_FILE).write_text(lost.model_dump_json(), encoding="utf-8")

        place = self.stages.store.stage("loss", key, make, describe=intent.name)
        return Loss.model_validate_json((place / _LOSS_FILE).read_bytes())

    def _given(self, path: Path) -> Sensitivity:
        found = read_sensitivity(path)
        what = None
        if found.model_sha256 != self.stages.model_sha256:
            what = "was measured on another model"
        elif found.format != self.format:
            what = f"was measured for {found.format}, and the target is {self.format}"
        elif not set(found.tensors) <= set(self.options):
            what = "names tensors that this model has no choice for"
        if what:
            raise InvalidInput(Problem(str(path), what, "remove data.sensitivity, or measure anew"))
        return found

    @functools.cached_property
    def _feeds(self) -> list[Feed]:
        return self.stages.feeds(self.stages.float_graph())

    @contextlib.contextmanager
    def _held(self, count: int) -> Iterator[tuple[Chain, HeldBack]]:
        with TemporaryFolder() as folder:
            held = HeldBack(self._feeds, count, self.model.decoder)
            chain = Chain(self.stages.float_graph(), held.feeds)
            held.keep(chain, Path(folder))
            yield chain, held

    def _make(self, destination: Path) -> None:
        with self.stages.store.workplace("sensitivity", self.key()) as kept:
            done = self._measure(kept)
        text = canonical.to_json(done.model_dump(mode="json"))
        (destination / FILE).write_text(text, encoding="utf-8")

    def _measure(self, kept: Steps) -> Sensitivity:
        """kept: where finished tensors and layers are found again after an end."""
        directory, progress = self.stages.float_graph(), self.stages.progress
        with self._held(_TENSOR_SAMPLES) as (chain, held):
            learnt = learnt_from(self._feeds, _LEARNT)
            costs = tensor_costs(directory, chain, held, self.options, learnt, progress, kept)
        bare = Sensitivity(
            format=self.format,
            measure="kl" if self.model.decoder else "cosine",
            model_sha256=self.stages.model_sha256,
            data_sha256=str((self.stages.calibration_key() or {}).get("sha256")),
            samples=len(held.feeds),
            whole_samples=0,
            tensors=costs,
            wholes=(),
        )
        with self._held(_WHOLE_SAMPLES) as (chain, held):
            bare = bare.model_copy(update={"tensors": self._with_inputs(bare.tensors, chain, held)})
            wholes = self._wholes(bare, chain, held, kept)
        return bare.model_copy(update={"wholes": wholes, "whole_samples": len(held.feeds)})

    def _wholes(
        self, bare: Sensitivity, chain: Chain, held: HeldBack, kept: Steps
    ) -> tuple[Whole, ...]:
        """Whole models at a few sizes, with codes that know of each other."""
        choices = bare.choices({name: self.options[name] for name in bare.tensors})
        ends = [
            sum(pick(option.bytes for option in own) for own in choices.values())
            for pick in (min, max)
        ]
        found = []
        for index, share in enumerate(_SHARES):
            picked = best_within(choices, int(ends[0] + share * (ends[1] - ends[0])))
            chosen = {name: option.use for name, option in picked.items()}
            step = f"whole model {index + 1} of {len(_SHARES)}"
            lost = held.of_graph(chain, self._codes(chosen, step, kept.below(f"whole-{index}")))
            added = bare.additive(chosen)
            if added > 0 and lost.value > 0:
                size = total(picked)[1]
                found.append(Whole(additive=added, loss=lost.value, error=lost.error, bytes=size))
        return tuple(found)

    def _codes(
        self,
        chosen: Mapping[str, str],
        step: str,
        kept: Steps | None = None,
        method: Method | None = None,
    ) -> dict[str, Floats]:
        """What the weights of a whole model become. method: in place of the options' own."""
        decisions: dict[str, Decision] = {}
        for name, use in chosen.items():
            option = next(o for o in self.options[name] if o.use == use)
            choice = Choice(option.grid, method or option.method, "float32", None)
            decisions[name] = Decision(None if option.method == "none" else choice, "fit")
        codes = find_codes(
            self.stages.float_graph(),
            lambda name, shape: decisions.get(name, Decision(None, "no choice")),
            learnt_from(self._feeds, _LEARNT_WHOLE),
            lambda text: self.stages.progress(f"{step}: {text}"),
            file_format(self.format).settle,
            kept,
        )
        return {name: code.dequantize() for name, code in codes.items()}

    def _with_inputs(
        self, costs: Mapping[str, Mapping[str, Cost]], chain: Chain, held: HeldBack
    ) -> dict[str, dict[str, Cost]]:
        """`costs` with what the runtime's rounding of inputs adds, kernel by kernel."""
        products = [name for name in costs if chain.weights[name].product is not None]
        options = {name: self.options[name] for name in products}
        losses = {kernel: self._of_kernel(kernel, chain, held) for kernel in kernels_of(options)}
        return shared_out(costs, options, losses)

    def _of_kernel(self, kernel: str, chain: Chain, held: HeldBack) -> float:
        """What an artifact of one kernel loses by its runtime and not in the float graph."""
        widest = widest_of(self.options, kernel)
        seen = self.loss(intent_of(self.recipe, self.format, f"fit-{kernel}", widest, NEAREST.name))
        codes = self._codes(widest, kernel, method=NEAREST.name)
        known = {name: codes[name] for name in codes if name in chain.weights}
        return max(0.0, seen.loss - held.of_graph(chain, known).value)
