"""The page of a report as text: what it says, what it carries, and that nothing breaks out."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.measure.cross_cpu.records import Differences, PlaceDifferences
from edgeq.measure.records import Memory
from edgeq.report.page import cpus, figures, frontier, memory, record, words
from edgeq.report.page.distance import distance_figures
from edgeq.report.page.frontier import Point, best
from edgeq.report.page.tensors import bits_of, fitted_table, place_of, tensor_figure
from edgeq.report.page.times import time_figures
from tests.support import report_samples as samples
from tests.support import verdicts

vl_convert = pytest.importorskip("vl_convert", reason="the extra [report] is not installed")
MOST_BYTES = 3_000_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def page() -> str:
    from edgeq.report.page.render import render

    return render(samples.report())


def values(figure: figures.Figure) -> list[dict[str, object]]:
    found: list[dict[str, object]] = figure.spec["data"]["values"]
    return found


def markup(page: str) -> str:
    """The page without its scripts and styles, which end where a browser sees them end."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_a_page_carries_its_report_and_is_small(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    assert record.read_report(path) == samples.report()
    assert len(page.encode()) < MOST_BYTES


def test_the_page_of_a_large_model_is_small_too() -> None:
    from edgeq.report.page.render import render

    report = samples.report()
    large = [
        each.model_copy(
            update={"record": samples.artifact(each.record.name, "int4-b32", layers=800)}
        )
        for each in report.artifacts
    ]
    page = render(report.model_copy(update={"artifacts": tuple(large)}))
    assert len(page.encode()) < MOST_BYTES
    assert "Tensors of gguf-int4-b32" in page  # what to ship
    assert "Tensors of gguf-int8-b32" not in page


def test_a_page_names_nothing_to_fetch(page: str) -> None:
    text = markup(page)
    for address in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert address.startswith(("#", "data:"))
    assert "default-src 'none'" in text
    assert "url(" not in page[page.index("<style>") : page.index("</style>")]


def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'href="#([^"]+)"', page):
        assert target in ids


def test_every_chart_has_tables_or_repeats_one_that_has() -> None:
    report = samples.report()
    every = [*memory.memory_figures(report), *time_figures(report), *distance_figures(report)]
    assert {each.id for each in every} >= {
        "memory-here", "memory-iphone-14", "memory-lengths", "time-first", "time-token", "tokens",
        "frontier",
    }  # fmt: skip
    for each in every:
        assert each.tables
        for table in each.tables:
            assert table.rows
            assert all(len(row) == len(table.columns) for row in table.rows)


def test_charts_are_vega_lite_that_compiles() -> None:
    for report in (samples.report(), samples.encoder_report(), samples.allocated_report()):
        tensors = tensor_figure(report)
        assert tensors is not None
        for each in (
            *memory.memory_figures(report), *time_figures(report), *distance_figures(report),
            tensors,
        ):  # fmt: skip
            compiled = vl_convert.vegalite_to_vega(figures.vega_lite(each))
            assert figures.DATA in [data["name"] for data in compiled["data"]]


def test_what_the_texts_hold_is_shown_not_run() -> None:
    from edgeq.report.page.render import render

    report = samples.report(name=samples.HOSTILE, recipe=samples.HOSTILE)
    language = samples.divergence(0.001, follows=samples.HOSTILE)
    verdict = report.verdicts[0]
    hostile = verdict.measurement.model_copy(update={"language": language})
    changed = verdict.model_copy(
        update={
            "device_name": samples.HOSTILE,
            "notes": (samples.HOSTILE,),
            "measurement": hostile,
        }
    )
    page = render(report.model_copy(update={"verdicts": (changed, *report.verdicts[1:])}))
    text = markup(page)
    assert "window.hurt" in text
    assert not re.search("<(script|img)", text)


@given(st.text())
def test_no_text_ends_the_script_of_a_chart(text: str) -> None:
    figure = figures.Figure("a", "b", "c", {"data": {"values": [{"x": text + "</script>"}]}}, ())
    written = figures.chart(figure)
    assert "<" not in written
    assert json.loads(written)["data"]["values"][0]["x"] == text + "</script>"


def test_the_parts_of_memory_are_all_of_it() -> None:
    held: Memory = verdicts.memory(high_water=120).model_copy(update={"cache_bytes": 6 * MIB})
    parts = memory.measured_parts(held)
    assert sum(parts.values()) == held.high_water_bytes
    assert parts[memory.CACHE] == 6 * MIB
    assert parts[memory.MAPPED] == 32 * MIB  # 62 of 110 MiB after running, 30 of 70 before


@given(st.dictionaries(st.text(max_size=20), st.floats(0, 1e12)))
def test_no_part_of_an_estimate_is_lost(parts: dict[str, float]) -> None:
    assert sum(memory.estimated_parts(parts).values()) == pytest.approx(sum(parts.values()))


def test_every_sample_is_in_the_hills() -> None:
    report = samples.report()
    for figure in time_figures(report):
        counted: dict[tuple[object, object], int] = {}
        for value in values(figure):
            key = value["row"], value["kind"]
            counted[key] = counted.get(key, 0) + int(str(value["count"]))
        seen = report.verdicts[0].measurement.generation
        assert seen is not None
        every = {"time-first": seen.first_token_seconds, "time-token": seen.token_seconds}
        assert set(counted.values()) == {len(every[figure.id])}
        assert len(counted) == 4  # two artifacts, full precision beside each


def test_every_token_is_in_the_hills_of_divergence() -> None:
    report = samples.report()
    (figure,) = (each for each in distance_figures(report) if each.id == "tokens")
    counted = sum(int(str(value["count"])) for value in values(figure))
    told = [m.language.divergence for m, _ in report.measurements() if m.language is not None]
    assert counted == sum(each.tokens - (each.histogram.below if each.histogram else 0)
                          for each in told)  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_what_is_joined_beats_all_the_rest(pairs: list[tuple[int, int]]) -> None:
    points = [Point(f"{i}", "onnx", *pair, 0.0, 0.0) for i, pair in enumerate(pairs)]
    front = best(points)
    for point in points:
        assert any(other.bytes <= point.bytes and other.loss <= point.loss for other in front)
    for one in front:
        beaten = [o for o in points if o.bytes <= one.bytes and o.loss <= one.loss]
        assert {(o.bytes, o.loss) for o in beaten} == {(one.bytes, one.loss)}


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 999)), min_size=2, max_size=12))
def test_names_on_the_plane_do_not_cover_each_other(pairs: list[tuple[int, int]]) -> None:
    points = [
        Point(f"gguf-Q{i}", "gguf", x * MIB, y / 1000, 0, 0) for i, (x, y) in enumerate(pairs)
    ]
    places = frontier._places(points, (0.0, 31.0), (0.0005, 2.0))
    boxes = []
    for point, place in zip(points, places, strict=True):
        if place is not None:
            align, right, down = frontier._PLACES[place]
            x = 255 * point.bytes / MIB / 31 + right
            y = 340 * (1 - math.log(point.loss / 0.0005) / math.log(2.0 / 0.0005)) + down
            wide = 6 * len(point.name)
            boxes.append((x - wide if align == "right" else x, y, wide))
    for i, (left, y, wide) in enumerate(boxes):
        assert left >= 0
        assert left + wide <= 255
        for other, at, length in boxes[:i]:
            apart = left >= other + length or other >= left + wide
            assert apart or abs(y - at) >= 12


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.11.mlp.down_proj.weight", ("11", "down_proj")),
        ("encoder.layer.0.attention.self.query.weight", ("0", "query")),
        ("encoder.layer.2.attention.output.dense.weight", ("2", "attention.output")),
        ("blk.3.ffn_up.weight", ("3", "ffn_up")),
        ("embeddings.word_embeddings.weight", ("–", "word_embeddings")),
    ],
)
def test_tensors_have_a_layer_and_a_kind(name: str, place: tuple[str, str]) -> None:
    assert place_of(name) == place


def test_the_map_of_tensors_tells_what_is_in_the_file() -> None:
    report = samples.report()
    figure = tensor_figure(report)
    assert figure is not None
    told = {(v["artifact"], v["tensor"]): v["exact"] for v in values(figure)}
    for artifact in report.artifacts:
        matrices = {n: t for n, t in artifact.record.tensors.items() if len(t.shape) > 1}
        for name, tensor in matrices.items():
            assert told.pop((artifact.record.name, name)) == bits_of(tensor)
    assert not told


def test_what_rounding_alone_loses_decides_the_size_of_a_square() -> None:
    report = samples.allocated_report()
    figure = tensor_figure(report, ["gguf-fit-4.5mib"])
    assert figure is not None
    lost = report.artifact("gguf-fit-4.5mib").losses
    drawn = {str(v["tensor"]): v for v in values(figure)}
    assert set(drawn) == set(lost)
    for name, other in itertools.pairwise(sorted(drawn, key=lambda n: lost[n].loss)):
        sizes = [float(str(drawn[n]["weight"])) for n in (name, other)]
        assert sizes[0] <= sizes[1]
        assert (sizes[0] < sizes[1]) == (lost[name].loss < lost[other].loss)
    assert max(float(str(v["weight"])) for v in values(figure)) == 1
    for name, value in drawn.items():
        assert f"rounded alone to Q2_K: mean KL, nats {lost[name].loss:.2e}" in str(value["tip"])
        assert f"as here: {lost[name].here:.2e}" in str(value["tip"])
    assert "loses when this tensor alone is rounded to Q2_K" in figure.text
    assert "edgeq sensitivity" not in figure.text


def test_where_no_sensitivity_was_measured_the_command_is_named() -> None:
    report = samples.report(recipe_path="my/recipe.yaml")
    figure = tensor_figure(report)
    assert figure is not None
    assert "not measured; run: edgeq sensitivity my/recipe.yaml --target gguf." in figure.text
    assert "share of the file" in figure.text
    sizes = {float(str(v["weight"])) for v in values(figure) if v["kind"] == "q_proj"}
    assert len(sizes) == 2  # by their bytes, in two artifacts


def test_a_budget_is_told_with_what_was_foreseen_and_measured() -> None:
    assert fitted_table(samples.report()) is None
    table = fitted_table(samples.allocated_report())
    assert table is not None
    (row,) = table.rows
    assert len(row) == len(table.columns)
    assert {"gguf-fit-4.5mib", "size 4.5 MiB", "2.10e-03", "1.90e-03 ± 1.0e-04"} <= {*row}


def test_the_frontier_holds_what_edgeq_frontier_measured() -> None:
    report = samples.allocated_report()
    figure = frontier.frontier_figure(report)
    assert figure is not None
    drawn = {str(v["name"]): v for v in values(figure)}
    own = {m.artifact: m for m, _ in report.measurements()}
    assert {name for name, v in drawn.items() if v["own"]} == set(own)
    assert drawn["gguf-fit-4.5mib"]["made"] == "allocation"
    assert report.frontier is not None
    for point in report.frontier.points:
        # The recipe's file of the same name has rules, so it is another.
        shown = drawn[f"{point.name}, no rules" if point.name in own else point.name]
        assert shown["loss"] == point.loss
        assert shown["mib"] == point.bytes / MIB
        assert shown["made"] == point.made_by
        assert shown["high"] == pytest.approx(point.loss + 1.96 * point.error, rel=1e-3)
        assert shown["low"] == pytest.approx(point.loss - 1.96 * point.error, rel=1e-3)
    assert len(drawn) == len(own) + 3
    assert frontier.frontier_note(report) == ""
    bare = report.model_copy(update={"frontier": None})
    assert frontier.frontier_note(bare).endswith("run: edgeq frontier sample.yaml")
    assert "Ringed" in figure.text


def test_a_file_that_both_measured_is_drawn_once() -> None:
    report = samples.allocated_report()
    measured = report.verdicts[-1].measurement
    assert report.frontier is not None
    same = report.frontier.points[1].model_copy(
        update={"name": measured.artifact, "bytes": measured.download_bytes}
    )
    changed = report.frontier.model_copy(update={"points": (same,)})
    figure = frontier.frontier_figure(report.model_copy(update={"frontier": changed}))
    assert figure is not None
    (drawn,) = (v for v in values(figure) if v["name"] == measured.artifact)
    assert (drawn["own"], drawn["loss"]) == (True, same.loss)
    assert len(values(figure)) == 3


def test_the_verdict_in_a_sentence() -> None:
    report = samples.report()
    card = words.cards(report)[0]
    assert card.best == "gguf-int4-b32"
    assert card.words == "1 pass, 1 fail"
    assert words.headline(report).startswith("Ready to ship on")
    failed = tuple(v for v in report.verdicts if v.status == "fail")
    assert words.headline(report.model_copy(update={"verdicts": failed})) == (
        "No artifact keeps every budget yet."
    )
    assert "was checked" in words.headline(report.model_copy(update={"verdicts": ()}))


def test_a_missed_budget_says_by_how_much_and_what_to_try() -> None:
    found = words.misses(samples.report())
    assert [miss.status for miss in found] == sorted(
        (miss.status for miss in found), key=["fail", "inconclusive", "not run"].index
    )
    miss = found[0]
    assert "size.download 9.0 MiB (≤ 8.0 MiB): misses by 1.0 MiB" in miss.what
    assert "iPhone 14" in miss.where  # both devices in one
    assert miss.remedy


def test_a_pass_that_failed_says_why() -> None:
    report = samples.report()
    broken = samples.language_model(
        "gguf-int8-b32", 9.0, 0.1, memory=None, failures={"memory": "killed by SIGKILL"}
    )
    found = verdicts.verdict(samples.BUDGETS, measured=broken)
    told = words.misses(report.model_copy(update={"verdicts": (found,)}))
    assert any("killed by SIGKILL" in miss.what for miss in told)


def test_where_cpus_differ_is_told_with_the_cure() -> None:
    place = PlaceDifferences(
        place="x86: avx2", how="emulated", status="cured", reason="x86: avx2: saturates\n  set it",
        operator="MatMulInteger", differing=3, compared=40, cure={"session.x64quantprecision": "1"},
    )  # fmt: skip
    found = Differences(
        artifact="onnx-int8", artifact_sha256="a" * 64, reference="here", places=(place,)
    )
    report = samples.report()
    told = tuple(v.model_copy(update={"differences": found}) for v in report.verdicts[:2])
    report = report.model_copy(update={"verdicts": (*told, *report.verdicts[2:])})
    (told_once,) = cpus.compared(report)
    assert told_once.title == "onnx-int8: 1 the same with a setting of the loader"
    assert told_once.is_fine
    assert told_once.notes == ["x86: avx2: saturates; set it"]
    (row,) = told_once.table.rows
    assert len(row) == len(told_once.table.columns)
    assert {"x86: avx2", "MatMulInteger", "3 of 40", "session.x64quantprecision=1"} <= {*row}
    assert cpus.compared(samples.report()) == []


def test_verdicts_alone_make_a_page(tmp_path: Path) -> None:
    """Nothing measured but the size, no device known: an empty section is no reason to fail."""
    from edgeq.report.page.render import render

    bare = verdicts.measurement(memory=None, latency=None, quality=None)
    report = samples.report(
        devices=(), verdicts=(verdicts.verdict({}, measured=bare),), artifacts=()
    )
    assert "<h1>sample</h1>" in render(report)


def test_only_a_page_of_ours_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.html"
    for content in ("<html></html>", f"{record._OPENING}AAAA</script>"):
        path.write_text(content)
        with pytest.raises(InvalidInput, match=r"other\.html"):
            record.read_report(path)


def test_a_page_does_not_grow_without_end() -> None:
    verdict = samples.report().verdicts[0]
    spoken = verdict.measurement.generation
    assert spoken is not None
    many = spoken.model_copy(update={"token_seconds": spoken.token_seconds * 400})
    long = verdict.model_copy(
        update={"measurement": verdict.measurement.model_copy(update={"generation": many})}
    )
    (fewer,), step = record.thinned((long,))
    assert fewer.measurement.generation is not None
    kept = fewer.measurement.generation.token_seconds
    assert step > 1
    assert kept == many.token_seconds[::step]
    assert record.thinned((verdict,)) == ((verdict,), 1)
