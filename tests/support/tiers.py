"""Which tests are fast: what one runs while editing, `nox -s fast`.

`slow` are those that build or run real models through the pipeline, start many processes, emulate
or open a browser: whatever uses one of BUILDS, and every file and folder of PLACES.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
BUILDS = {"project", "tiny", "tiny_store"}
PLACES = (
    "cli/test_commands.py",
    "cli/test_exit.py",
    "cli/test_no_network.py",
    "cli/test_own_net.py",
    "cli/test_pipe.py",
    "cli/test_terminal.py",
    "core/test_child.py",
    "core/test_visible.py",
    "devices/test_detect.py",
    "docs",
    "estimate/test_memory.py",
    "faults",
    "formats/apple",
    "formats/coreai",
    "formats/coreml/test_executor.py",
    "formats/coreml/test_model.py",
    "formats/coreml/test_models.py",
    "formats/coreml/test_operators.py",
    "formats/coreml/test_swift.py",
    "formats/coreml/test_write.py",
    "formats/coreml/test_write_decoder.py",
    "formats/gguf/test_convert.py",
    "formats/gguf/test_hostile.py",
    "formats/gguf/test_model.py",
    "formats/gguf/test_quantize.py",
    "formats/gguf/test_trial.py",
    "formats/gguf/test_vocabulary.py",
    "formats/gguf/test_pretokenizers.py",
    "formats/gguf/test_write.py",
    "formats/gguf/test_write_memory.py",
    "formats/onnx/test_decoder.py",
    "formats/onnx/test_prepacked.py",
    "formats/test_chat.py",
    "formats/test_chat_templates.py",
    "formats/test_hostile_bundle.py",
    "formats/test_load.py",
    "measure",
    "models/test_decoder_onnx.py",
    "models/test_float_onnx.py",
    "pipeline",
    "places",
    "report/test_browser.py",
    "report/test_command.py",
    "report/test_explain_plan.py",
    "report/test_page.py",
    "report/test_progress.py",
)
# Arithmetic and tables inside those folders.
FAST = (
    "measure/test_bystanders.py",
    "measure/test_disagreement.py",
    "measure/test_intervals.py",
    "measure/test_latency.py",
    "measure/test_metrics.py",
    "measure/test_neighbours.py",
    "measure/test_quality.py",
    "measure/test_tags.py",
    "measure/test_time_budgets.py",
    "pipeline/test_allocate_holdout.py",
    "pipeline/test_allocate_inputs.py",
    "pipeline/test_allocate_solve.py",
    "pipeline/test_app_store_limits.py",
    "pipeline/test_asset_packs.py",
    "pipeline/test_cross_cpu_lines.py",
    "pipeline/test_judge.py",
    "pipeline/test_matrix_records.py",
    "pipeline/test_under_limit.py",
    "places/test_limits_search.py",
)


def mark_slow(items: Iterable[pytest.Item]) -> None:
    """Give `slow` to each test that is not for `nox -s fast`."""
    fast = {TESTS / name for name in FAST}
    slow = {TESTS / name for name in PLACES}
    for item in items:
        lies_in = {item.path, *item.path.parents}
        is_listed = bool(slow & lies_in) and not fast & lies_in
        if is_listed or BUILDS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
