"""Reports with chosen numbers, for the tests of the page that is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.core.artifact import Artifact, FileRecord, ModelRecord, TensorRecord
from edgeq.devices.catalogue import load_device
from edgeq.estimate.devices import Estimates
from edgeq.estimate.interval import Interval
from edgeq.estimate.memory import MemoryEstimate
from edgeq.measure.disagreement import Candidate, Disagreement, histogram
from edgeq.measure.divergence import Divergence
from edgeq.measure.neighbours import Change, Neighbour, Neighbours
from edgeq.measure.records import LanguageQuality, Measurement
from edgeq.pipeline.frontier.records import Frontier, MadeBy, Point
from edgeq.pipeline.recover.record import Recovery
from edgeq.quantize.adapter import METHOD, NUMBER_FORMAT
from edgeq.report.page.gather import _device
from edgeq.report.page.record import (
    BudgetResult,
    ContextMemory,
    Report,
    ReportedArtifact,
    TensorLoss,
)
from tests.support import verdicts

HOSTILE = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 1'>&"
MIB = 1 << 20
BUDGETS: dict[str, Any] = {
    "memory": {"peak": 256 * MIB},
    "latency": {"first_token": 0.5},
    "size": {"download": 8 * MIB},
    "quality": {"kl": 0.03},
}
_BITS = {"int8": 8.0, "int8-b32": 8.5, "int4-b32": 4.5, "float32": 32.0}


_ADAPTER = TensorRecord(
    shape=(8, 128), number_format=NUMBER_FORMAT, method=METHOD, bytes=2048, note="recover"
)


def tensors(number_format: str, layers: int) -> dict[str, TensorRecord]:
    """Of a decoder whose token table has eight bits at least."""
    found = {
        "model.embed_tokens.weight": _tensor((512, 64), max("int8-b32", number_format), "nearest")
    }
    for layer in range(layers):
        for kind in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"):
            found[f"model.layers.{layer}.{kind}.weight"] = _tensor((64, 64), number_format, "gptq")
        found[f"model.layers.{layer}.input_layernorm.weight"] = _tensor((64,), "float32", "none")
    return found


def _tensor(shape: tuple[int, ...], number_format: str, method: str) -> TensorRecord:
    size = int(np.prod(shape)) * _BITS[number_format] / 8
    return TensorRecord(
        shape=shape, number_format=number_format, method=method, bytes=int(size), note="default"
    )


def artifact(
    name: str, number_format: str, *, layers: int = 4, task: str = "text-generation"
) -> Artifact:
    """A record of one file."""
    held = tensors(number_format, layers)
    return Artifact(
        name=name,
        format="gguf" if name.startswith("gguf") else "onnx",
        variant=name.partition("-")[2],
        task=task,
        model=ModelRecord(source="./model", licence="apache-2.0", sha256="0" * 64),
        inputs=(),
        outputs=(),
        weight_bytes=sum(record.bytes for record in held.values()),
        tensors=held,
        files={"model.bin": FileRecord(bytes=1000, sha256="1" * 64)},
        sources={"calibration": "2" * 64},
        tools={"numpy": "2.0"},
    )


def divergence(mean: float, *, seed: int = 0, follows: str = " cat") -> LanguageQuality:
    """Of tokens whose divergences are log-normal about `mean`, with one place shown."""
    told = verdicts.divergence(kl=mean, error=mean / 20)
    kl = mean * np.exp(np.random.default_rng(seed).normal(-0.5, 1, told.divergence.tokens))
    place = Disagreement(
        window=3,
        position=200,
        before="The dog chased the",
        follows=follows,
        kl=1.25,
        candidates=(
            Candidate(text=" cat", reference=0.5, candidate=0.125),
            Candidate(text="\n", reference=0.25, candidate=0.75),
            Candidate(text=follows, reference=0.0001, candidate=0.0002),
        ),
    )
    found: Divergence = told.divergence.model_copy(
        update={"histogram": histogram(kl), "worst": (place,)}
    )
    return told.model_copy(update={"divergence": found})


def language_model(name: str, mib: float, mean: float, **changes: Any) -> Measurement:
    """One artifact's measurement, quick and near enough unless `changes` say otherwise."""
    facts: dict[str, Any] = {
        "artifact": name,
        "format": "gguf" if name.startswith("gguf") else "onnx",
        "download_bytes": int(mib * MIB),
        "language": divergence(mean),
        "artifact_sha256": f"{len(name):x}".zfill(64),
    }
    return verdicts.language_model(**{**facts, **changes})


def expected(footprint_mib: float) -> Estimates:
    """Of an app whose memory is mostly mapped weights."""
    size = footprint_mib * MIB
    about = Interval(value=size, low=size / 2, high=2 * size, basis="sizes")
    parts = {"weights and code, mapped": 2 * size, "keys and values": size / 4, "activations": size}
    told = MemoryEstimate(peak=about, footprint=about, growth=about, parts=parts)
    return Estimates(memory=told, backend="CPU")


def report(**changes: Any) -> Report:
    """Two artifacts of a language model on this machine and a phone; the larger is too large."""
    baseline = verdicts.full_precision(
        artifact="gguf-float32", latency=None, generation=verdicts.spoken(first=0.4, token=0.1)
    )
    measured = [
        language_model("gguf-int8-b32", 9.0, 0.0002),
        language_model("gguf-int4-b32", 4.5, 0.005),
    ]
    devices = [load_device(id) for id in ("here", "iphone-14")]
    found = [
        verdicts.verdict(BUDGETS, measured=each, baseline=baseline, device=device)
        for each in measured
        for device in devices
    ]
    facts: dict[str, Any] = {
        "version": "0.1.0",
        "name": "sample",
        "command": "edgeq report sample.yaml --out report.html",
        "recipe": "edgeq: 1\nname: sample\n",
        "task": "text-generation",
        "devices": tuple(map(_device, devices)),
        "artifacts": tuple(
            ReportedArtifact(
                record=artifact(each.artifact, each.artifact[5:]),
                sha256="a" * 64,
                estimates={"iphone-14": expected(20.0)},
                contexts=(
                    ContextMemory(context=512, parts={"keys and values": 2.0 * MIB}),
                    ContextMemory(context=1024, parts={"keys and values": 4.0 * MIB}),
                ),
            )
            for each in measured
        ),
        "verdicts": tuple(found),
    }
    return Report(**{**facts, **changes})


def allocated_report() -> Report:
    """The language model with a third artifact, made for a budget, and all that is known of it."""
    whole = report()
    baseline = verdicts.full_precision(
        artifact="gguf-float32", latency=None, generation=verdicts.spoken(first=0.4, token=0.1)
    )
    measured = language_model("gguf-fit-4.5mib", 4.4, 0.002)
    found = verdicts.verdict(BUDGETS, measured=measured, baseline=baseline)
    mixed = _allocated(artifact(measured.artifact, "int4-b32"))
    made = ReportedArtifact(
        record=mixed,
        sha256="c" * 64,
        estimates={},
        losses={name: sensed(name) for name, t in mixed.tensors.items() if len(t.shape) > 1},
        fitted=BudgetResult(
            asked={"size": "4.5 MiB"},
            measure="kl",
            predicted=0.0021,
            measured=0.0019,
            error=0.0001,
            samples=24,
            trials=2,
        ),
    )
    other = whole.artifacts[1].model_copy(update={"losses": made.losses})
    return whole.model_copy(
        update={
            "artifacts": (whole.artifacts[0], other, made),
            "verdicts": (*whole.verdicts, found),
            "recipe_path": "sample.yaml",
            "frontier": frontier(),
        }
    )


def recovered_report() -> Report:
    """The language model, whose artifacts have an adapter beside one of their weights."""
    whole = report()
    recovery = Recovery(
        rank=8,
        steps=300,
        seed=0,
        learning_rate=0.002,
        tokens=4096,
        held_back_tokens=2048,
        kl_before=0.025,
        kl_after=0.02,
        best_step=280,
        is_kept=True,
        trained_with={},
    )

    def baseline(artifact: ReportedArtifact) -> ReportedArtifact:
        record = artifact.record
        tensors = {**record.tensors, "model.layers.0.self_attn.v_proj.weight.adapter": _ADAPTER}
        settings = {**record.settings, "recovery": recovery.model_dump(mode="json")}
        changed = record.model_copy(update={"tensors": tensors, "settings": settings})
        return artifact.model_copy(update={"record": changed})

    return whole.model_copy(update={"artifacts": tuple(map(baseline, whole.artifacts))})


def _allocated(record: Artifact) -> Artifact:
    """With a layer's value projection in eight bits."""
    name = "model.layers.0.self_attn.v_proj.weight"
    tensors = {n: t.model_copy(update={"note": "fit"}) for n, t in record.tensors.items()}
    tensors[name] = _tensor((64, 64), "int8-b32", "gptq").model_copy(update={"note": "fit"})
    return record.model_copy(update={"tensors": tensors, "variant": "fit-4.5mib"})


def sensed(name: str) -> TensorLoss:
    """What a tensor costs: most of all the token table and the first layer's values."""
    loss = 0.04 if "embed" in name else 0.02 if "layers.0.self_attn.v_proj" in name else 0.001
    return TensorLoss(
        least="Q2_K", loss=loss, error=loss / 10, here=loss / 20, here_error=loss / 99, measure="kl"
    )


def frontier() -> Frontier:
    """Two standard files, and what was chosen for the size of one of them."""
    points: list[tuple[str, MadeBy, float, float]] = [
        ("gguf-Q3_K_M", "llama.cpp mix", 3.3, 0.015),
        ("gguf-fit-at-q3_k_m", "allocation", 3.3, 0.006),
        ("gguf-int4-b32", "preset", 3.9, 0.0047),
    ]
    return Frontier(
        model="sample",
        device="here",
        measure="kl",
        data="held-back.txt",
        points=tuple(
            Point(
                name=name,
                made_by=made,
                format="gguf",
                bytes=int(mib * MIB),
                loss=loss,
                error=loss / 30,
            )
            for name, made, mib, loss in points
        ),
    )


def encoder_report() -> Report:
    """One sentence encoder on this machine, with a neighbour that changed."""
    quality = verdicts.quality().model_copy(
        update={
            "neighbours": Neighbours(
                texts=40,
                changed=1,
                changes=(
                    Change(
                        text="How do I reset it?",
                        was=Neighbour(text="Changing a login", reference=0.81, candidate=0.79),
                        now=Neighbour(text="Rain tomorrow", reference=0.80, candidate=0.82),
                        lost=0.01,
                    ),
                ),
            )
        }
    )
    measured = verdicts.measurement(quality=quality)
    budgets = {"latency": {"p90": 0.1}, "quality": {"cosine": 0.98}}
    record = artifact(measured.artifact, "int8-b32", task="sentence-embedding")
    return report(
        name="encoder",
        task="sentence-embedding",
        devices=(_device(load_device("here")),),
        artifacts=(ReportedArtifact(record=record, sha256="b" * 64, estimates={}),),
        verdicts=(verdicts.verdict(budgets, measured=measured),),
    )
