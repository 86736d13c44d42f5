"""What was interpolated and not measured is marked wherever losses of tensors are shown."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.pipeline.allocate.sensitivity import Cost, Sensitivity
from edgeq.report.console import make_console
from edgeq.report.page.record import ReportedArtifact, TensorLoss
from edgeq.report.page.tensors import tensor_tables
from edgeq.report.sensitivity import print_sensitivity, sensitivity_picture
from tests.support.properties import examples
from tests.support.report_samples import allocated_report

USES = ("Q2_K", "Q3_K", "Q4_K")


def cost(loss: float, is_measured: bool) -> Cost:
    if is_measured:
        return Cost(loss=loss, error=loss / 10, local=loss, how="measured")
    return Cost(loss=loss, error=None, local=loss, how="interpolated")


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
@examples(40)
def test_table_and_picture_mark_what_was_not_measured(measured: list[list[bool]]) -> None:
    found = Sensitivity(
        format="gguf",
        measure="kl",
        model_sha256="",
        data_sha256="",
        samples=8,
        whole_samples=24,
        tensors={
            f"model.layers.{i}.mlp.up_proj.weight": {
                use: cost((i + 1) * 10.0**-place, is_measured)
                for place, (use, is_measured) in enumerate(zip(USES, own, strict=True))
            }
            for i, own in enumerate(measured)
        },
        wholes=(),
    )
    file = io.StringIO()
    print_sensitivity(found, make_console(file))
    text = file.getvalue()
    for i, own in enumerate(measured):
        (row,) = re.findall(rf"^{i}\.mlp\.up_proj +(.*)$", text, re.MULTILINE)
        assert [not cell.startswith("~") for cell in row.split()] == own
    is_marked = not all(map(all, measured))
    assert ("~: interpolated between" in text) == is_marked
    assert ("~: interpolated" in sensitivity_picture(found)["title"]) == is_marked


@pytest.mark.parametrize("is_measured", [True, False])
@pytest.mark.parametrize("is_here_measured", [True, False])
def test_the_report_s_table_marks_it_too(is_measured: bool, is_here_measured: bool) -> None:
    report = allocated_report()
    artifact = next(each for each in report.artifacts if each.losses)
    sensed = TensorLoss(
        least="Q2_K",
        loss=0.02,
        error=0.001 if is_measured else None,
        here=0.01,
        here_error=0.001 if is_here_measured else None,
        measure="kl",
    )
    losses = dict.fromkeys(artifact.losses, sensed)
    one: ReportedArtifact = artifact.model_copy(update={"losses": losses})
    (table,) = tensor_tables(report.model_copy(update={"artifacts": (one,)}))
    least, here = (
        table.columns.index(f"loss alone, {what}") for what in ("fewest bits", "as here")
    )
    rows = [row for row in table.rows if row[0] in losses]
    assert rows
    for row in rows:
        assert row[least].startswith("~") == (not is_measured)
        assert row[here].startswith("~") == (not is_here_measured)
    assert ("interpolated" in table.caption) == (not (is_measured and is_here_measured))
