"""Sensitivities and losses of whole models, each in the store under all that it depends on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.steps import Steps
from edgeq.formats.registry import file_format
from edgeq.models.graphs.rounding import find_codes
from edgeq.pipeline.allocate.chain import Chain
from edgeq.pipeline.allocate.holdout import Holdout, learnt_from
from edgeq.pipeline.allocate.inputs import kernels_of, shared_out, widest_of
from edgeq.pipeline.allocate.loss import Loss, held_out, kept_loss, loss_in_runtime
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
"""Builds an artifact, or finds it, and returns its directory."""

_TENSOR_SAMPLES = 8
_LEARNT = 48  # samples for rounding here; a build uses all
_LEARNT_WHOLE = 32
# Whole models to measure: at these fractions of the range from smallest to largest.
_SHARES = (0.12, 0.4)


class Ground:
    """One model and one file format: costs of tensors, losses of whole artifacts."""

    def __init__(self, stages: Stages, format: Format, build: Build) -> None:
        self.stages, self.format, self._build = stages, format, build
        self.recipe, self.model = stages.planned.recipe, stages.planned.model
        self.options: Options = find_options(self.model, self.recipe, format)

    def key(self) -> dict[str, object]:
        """Everything that a sensitivity depends on."""
        own = {name: [[o.use, o.method] for o in each] for name, each in self.options.items()}
        return {
            **self.stages.float_key(),
            "format": self.format,
            "calibration": self.stages.calibration.key(),
            "options": own,
        }

    def known(self) -> Sensitivity | None:
        """The sensitivity if given or in the store. Raises InvalidInput for another model's."""
        given = self.recipe.data.sensitivity
        if given is not None:
            return self._given(self.stages.planned.path.parent / given.path)
        place = self.stages.store.find("sensitivity", self.key())
        return read_sensitivity(place / FILE) if place else None

    def sensitivity(self) -> Sensitivity:
        """Each tensor's costs: given, stored, or measured now."""
        found = self.known()
        if found is not None:
            return found
        place = self.stages.store.stage("sensitivity", self.key(), self._make)
        return read_sensitivity(place / FILE)

    def loss(self, intent: Intent) -> Loss:
        """An artifact's loss; it is built first."""
        path = self._build(intent)
        return kept_loss(self.stages, path, intent.name, self.of_artifact)

    def of_artifact(self, path: Path) -> Loss:
        """The loss of an artifact in its runtime."""
        return loss_in_runtime(self.stages, self._feeds, path)

    def _given(self, path: Path) -> Sensitivity:
        sensitivity = read_sensitivity(path)
        what = None
        if sensitivity.model_sha256 != self.stages.model_sha256:
            what = "was measured on another model"
        elif sensitivity.format != self.format:
            what = f"was measured for {sensitivity.format}, and the target is {self.format}"
        elif not set(sensitivity.tensors) <= set(self.options):
            what = "names tensors without a choice in this model"
        if what:
            raise InvalidInput(
                Problem(str(path), what, "remove data.sensitivity, or measure again")
            )
        return sensitivity

    @functools.cached_property
    def _feeds(self) -> list[Feed]:
        return self.stages.feeds(self.stages.float_graph())

    def _make(self, destination: Path) -> None:
        with self.stages.store.workplace("sensitivity", self.key()) as kept:
            done = self.measure(kept)
        text = canonical.to_json(done.model_dump(mode="json"))
        (destination / FILE).write_text(text, encoding="utf-8")

    def measure(self, kept: Steps) -> Sensitivity:
        """Measure each tensor's costs.

        kept: where finished tensors and layers are found after an interruption.
        """
        directory, progress = self.stages.float_graph(), self.stages.progress
        with held_out(self.stages, self._feeds, _TENSOR_SAMPLES, self.options) as (chain, holdout):
            learnt = learnt_from(self._feeds, _LEARNT)
            costs = tensor_costs(directory, chain, holdout, self.options, learnt, progress, kept)
        bare = Sensitivity(
            format=self.format,
            measure="kl" if self.model.decoder else "cosine",
            model_sha256=self.stages.model_sha256,
            data_sha256=str((self.stages.calibration.key() or {}).get("sha256")),
            samples=len(holdout.feeds),
            whole_samples=0,
            tensors=costs,
            wholes=(),
        )
        with held_out(self.stages, self._feeds, given=self.options) as (chain, holdout):
            bare = bare.model_copy(
                update={"tensors": self._with_inputs(bare.tensors, chain, holdout)}
            )
            wholes = self._wholes(bare, chain, holdout, kept)
        return bare.model_copy(update={"wholes": wholes, "whole_samples": len(holdout.feeds)})

    def _wholes(
        self, bare: Sensitivity, chain: Chain, holdout: Holdout, kept: Steps
    ) -> tuple[Whole, ...]:
        """Whole models at a few sizes, whose layers are rounded in sequence."""
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
            lost = holdout.of_graph(chain, self._codes(chosen, step, kept.below(f"whole-{index}")))
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
        """The codes of a whole model's weights. method: instead of the options' own."""
        decisions: dict[str, Decision] = {}
        for name, use in chosen.items():
            option = next(o for o in self.options[name] if o.use == use)
            choice = Choice(option.number_format, method or option.method, "float32", None)
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
        self, costs: Mapping[str, Mapping[str, Cost]], chain: Chain, holdout: Holdout
    ) -> dict[str, dict[str, Cost]]:
        """`costs` plus the loss from rounding activations at runtime, kernel by kernel."""
        products = [name for name in costs if chain.weights[name].product is not None]
        options = {name: self.options[name] for name in products}
        losses = {kernel: self._of_kernel(kernel, chain, holdout) for kernel in kernels_of(options)}
        return shared_out(costs, options, losses)

    def _of_kernel(self, kernel: str, chain: Chain, holdout: Holdout) -> float:
        """The loss of an artifact of one kernel in its runtime beyond that in the float graph."""
        widest = widest_of(self.options, kernel)
        seen = self.loss(intent_of(self.recipe, self.format, f"fit-{kernel}", widest, NEAREST.name))
        codes = self._codes(widest, kernel, method=NEAREST.name)
        known = {name: codes[name] for name in codes if name in chain.weights}
        return max(0.0, seen.loss - holdout.of_graph(chain, known).value)
