"""Training of an adapter for weights that are frozen at the values the runtime computes with.

After QLoRA (Dettmers et al. 2023). The adapter that does best on held-out text is kept, or none if
no adapter is an improvement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.models.architectures import Decoder
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.reproducible import reproducible
from edgeq.pipeline.distil.network import Predictions
from edgeq.pipeline.distil.training import Distillation, Lessons
from edgeq.pipeline.recover.low_rank import adapt, factors_of
from edgeq.pipeline.recover.record import Recovery, versions
from edgeq.quantize.adapter import Factors
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.recover_spec import RecoverSpec
from edgeq.quantize.statistics import Feed

_WHAT = "recover"


def train(
    directory: ModelDirectory,
    decoder: Decoder,
    values: Iterable[tuple[str, Floats]],
    names: Sequence[str],
    samples: Sequence[Feed],
    spec: RecoverSpec,
    steps: Steps,
    progress: Progress,
    threads: int,
) -> tuple[dict[str, Factors], Recovery]:
    """Train an adapter for the weights `names`, by name; empty if none is an improvement.

    values: weights that differ from the model's, as the runtime has them. samples: windows of
    calibration text, eight or more. steps: of this very run; a run that was interrupted is resumed
    from them, and gives the same bytes as an uninterrupted one with as many threads.
    """
    with reproducible(threads):
        network = Predictions(directory, decoder)
        lessons = Lessons(network, samples, steps, progress, _WHAT)
        network.freeze(values)
        before = lessons.held_back(network)
        progress(f"{_WHAT}: KL {before:.6f} on held-out text without an adapter")
        adapted = adapt(network, names, spec.rank)
        parameters = {
            f"{name}.{part}": (getattr(layer, part), spec.learning_rate)
            for name, layer in adapted.items()
            for part in ("down", "up")
        }
        training = Distillation(
            network, lessons, parameters, spec.steps, spec.seed, steps, progress, _WHAT
        )
        state = training.run()
        after = state.seen[state.best_step]
        record = Recovery(
            **spec.model_dump(),
            tokens=training.tokens,
            held_back_tokens=lessons.tokens(lessons.judges),
            kl_before=before,
            kl_after=after,
            best_step=state.best_step,
            is_kept=after < before,
            trained_with=versions(),
        )
        return factors_of(adapted) if record.is_kept else {}, record
