"""The frontier: points on held-back text, found again, in a table, in data and in a picture."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="the extra 'fit' is not installed")
pytest.importorskip("vl_convert", reason="the extra 'report' is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.pipeline.allocate.sensitivity import Cost, Sensitivity
from edgeq.pipeline.frontier.records import Frontier, MadeBy, Point
from edgeq.report.console import make_console
from edgeq.report.frontier import frontier_picture, print_frontier
from edgeq.report.pictures import check_picture, save_picture
from edgeq.report.sensitivity import print_sensitivity, sensitivity_picture

POINTS: tuple[tuple[str, MadeBy, int, float, float], ...] = (
    ("gguf-Q2_K", "llama.cpp mix", 2734400, 0.05, 0.002),
    ("gguf-fit-at-q2_k", "allocation", 2734300, 0.012, 0.001),
    ("gguf-int4-b32", "preset", 3900000, 0.004, 0.0001),
    ("gguf-Q8_0", "llama.cpp mix", 6270000, 0.0002, 0.00001),
)


def made() -> Frontier:
    points = [
        Point(name=n, made_by=by, format="gguf", bytes=size, loss=loss, error=error)
        for n, by, size, loss, error in POINTS
    ]
    return Frontier(
        model="wren",
        device="here",
        measure="kl",
        data="held-back.txt",
        points=tuple(sorted(points, key=lambda point: point.bytes)),
    )


def sensitivity() -> Sensitivity:
    def cost(loss: float) -> Cost:
        return Cost(loss=loss, error=None, local=loss, how="interpolated")

    name = "model.layers.{}.self_attn.a_projection_with_a_long_name.weight"
    return Sensitivity(
        format="gguf",
        measure="kl",
        model_sha256="",
        data_sha256="",
        samples=8,
        whole_samples=24,
        tensors={
            name.format(i): {
                use: cost(10.0**-place / (i + 1))
                for place, use in enumerate(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0"))
            }
            for i in range(50)
        },
        wholes=(),
    )


def told(show: Any, what: Any) -> list[str]:
    file = io.StringIO()
    show(what, make_console(file))
    return file.getvalue().splitlines()


def test_what_a_smaller_file_beats_is_not_on_the_frontier() -> None:
    names = [point.name for point in made().best()]
    assert names == ["gguf-fit-at-q2_k", "gguf-int4-b32", "gguf-Q8_0"]


@pytest.mark.parametrize(
    ("show", "what"), [(print_frontier, made()), (print_sensitivity, sensitivity())]
)
def test_tables_fit_a_terminal(show: Any, what: Any) -> None:
    lines = told(show, what)
    assert len(lines) > 4
    assert max(map(len, lines)) <= 80


def test_the_table_names_every_point() -> None:
    text = "\n".join(told(print_frontier, made()))
    for name, by, *_ in POINTS:
        assert name in text
        assert by in text


def test_predictions_stand_beside_what_came_of_them() -> None:
    known = {"predicted": 0.0111, "held_back": 0.0101}
    points = [p.model_copy(update=known) if p.made_by == "allocation" else p for p in made().points]
    found = made().model_copy(update={"points": tuple(points)})
    assert found.shift() == pytest.approx(0.012 / 0.0101)
    text = "\n".join(told(print_frontier, found))
    assert all(word in text for word in ("0.0111", "0.0101", "1.19 times"))
    assert made().shift() is None


@pytest.mark.parametrize("suffix", [".html", ".svg", ".png"])
@pytest.mark.parametrize(
    "picture", [frontier_picture(made()), sensitivity_picture(sensitivity())], ids=["f", "s"]
)
def test_pictures_are_drawn(picture: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    save_picture(picture, path)
    content = path.read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
        assert len(content) > 10_000
        return
    text = content.decode()
    if suffix == ".svg":
        words = ["gguf-Q2_K"] if "wren" in str(picture) else ["a_projection_with"]
        assert text.startswith("<svg")
        assert all(word in text for word in words)
    else:
        assert "<script src=" not in text  # nothing is fetched
        assert json.dumps(picture["title"]) in text
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_drawn_is_told_before_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\.html, \.svg, \.png"):
        check_picture(tmp_path / "picture.gif", "--out")
    with pytest.raises(InvalidInput):
        check_picture(tmp_path / "missing" / "picture.svg", "--out")
