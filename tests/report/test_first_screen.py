"""The first screen: the figures of the artifact to ship, as the record has them."""

from __future__ import annotations

import re

from edgeq.core.units import format_bytes
from edgeq.pipeline.check.remedies import format_value
from edgeq.report.page import words
from edgeq.report.page.first_screen import first_screen
from edgeq.report.page.render import render
from tests.support import report_samples, verdicts


def test_its_figures_are_those_of_the_artifact_to_ship() -> None:
    report = report_samples.report()
    card, verdict = words.foremost(report)
    found = first_screen(report)
    assert found is not None
    assert found.what == f"Ships: {card.best}, for {card.device.name}"
    own, original = verdict.measurement, verdict.float_measurement
    size, close, *rest = found.tiles
    assert size.figure == f"{original.download_bytes / own.download_bytes:.1f} × smaller"
    assert format_bytes(own.download_bytes) in size.words
    assert own.language is not None
    assert close.figure == f"{own.language.divergence.same_top1:.1%}"
    lines = {line.budget: line for line in verdict.lines}
    for tile in rest:
        named = re.search(r"\((\S+?)[,)]", tile.words)
        assert named
        line = lines[named.group(1)]
        assert line.value is not None
        assert tile.figure == format_value(line.value, line.unit)
        assert tile.status == line.status
        assert format_value(line.limit, line.unit) in tile.words
    assert verdict.device_name in found.where


def test_an_encoder_is_compared_by_its_vectors() -> None:
    report = report_samples.encoder_report()
    _, verdict = words.foremost(report)
    quality = verdict.measurement.quality
    found = first_screen(report)
    assert found is not None
    assert quality is not None
    cosine = min(output.cosine_mean for output in quality.outputs.values())
    assert found.tiles[1].figure == f"{cosine:.4f}"


def test_what_only_came_nearest_is_not_said_to_ship() -> None:
    report = report_samples.report()
    measured = report.verdicts[0].measurement
    failing = verdicts.verdict({"size": {"download": "1 KiB"}}, measured=measured)
    failing = failing.model_copy(update={"device": report.devices[0].id})
    failed = report.model_copy(update={"verdicts": (failing,)})
    found = first_screen(failed)
    assert found is not None
    assert found.what.startswith("Came nearest")
    assert found.tiles[0].status == "fail"
    header = render(failed).partition("<header>")[2].partition("<main")[0]
    assert found.what in header
    assert "Ships" not in header


def test_without_a_verdict_there_is_none() -> None:
    report = report_samples.report().model_copy(update={"verdicts": ()})
    assert first_screen(report) is None
