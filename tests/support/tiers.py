"""Which tests are fast: what one runs while editing, `nox -s fast`; and which are left to `slow`.

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
    "formats/gguf/test_cache.py",
    "formats/gguf/test_command_line.py",
    "formats/gguf/test_convert.py",
    "formats/gguf/test_encoder.py",
    "formats/gguf/test_hostile.py",
    "formats/gguf/test_library.py",
    "formats/gguf/test_model.py",
    "formats/gguf/test_quantize.py",
    "formats/gguf/test_trial.py",
    "formats/gguf/test_vocabulary.py",
    "formats/gguf/test_pretokenizers.py",
    "formats/gguf/test_write.py",
    "formats/gguf/test_write_memory.py",
    "formats/onnx/test_decoder.py",
    "formats/onnx/test_outliers.py",
    "formats/onnx/test_prepacked.py",
    "formats/test_chat.py",
    "formats/test_chat_templates.py",
    "formats/test_hostile_bundle.py",
    "formats/test_load.py",
    "measure",
    "models/test_decoder_onnx.py",
    "models/test_gemma3n.py",
    "models/test_float_onnx.py",
    "models/test_original_tokenizer.py",
    "pipeline",
    "places",
    "report/test_browser.py",
    "report/test_command.py",
    "report/test_explain_plan.py",
    "report/test_page.py",
    "report/test_progress.py",
)
# Over ten seconds each, tests or whole files, next to a shorter test of the same idea: only
# `nox -s slow` runs them.
RARE = (
    "cli/test_commands.py::test_compare_shows_the_neighbours_that_change",
    "formats/coreml/test_write.py::test_minilm_is_as_good_and_as_small_as_its_number_format_allows",
    "pipeline/audit/test_quality.py::test_quality_on_a_text_of_the_reference_s_own",
    "pipeline/audit/test_reference.py::test_a_text_that_is_cut_otherwise_matters",
    "pipeline/starters/test_cpp.py::test_a_language_model_in_gguf",
    "pipeline/starters/test_kotlin.py::test_a_language_model_and_an_end_that_comes_sooner",
    "pipeline/starters/test_kotlin.py::test_a_model_of_arrays",
    "pipeline/starters/test_kotlin.py::test_an_encoder_and_another_length",
    "pipeline/test_allocate.py::test_equal_budgets_make_equal_bytes",
    "pipeline/test_allocate.py::test_quality_is_kept_by_the_smallest_file",
    "pipeline/test_allocate.py::test_rounding_never_sees_the_evaluation_data",
    "pipeline/test_build.py::test_a_killed_build_is_resumed_to_the_same_bytes",
    "pipeline/test_build_awq.py",
    "pipeline/test_build_coreml.py::test_codes_of_activations_are_those_of_the_onnx_artifact",
    "pipeline/test_build_learned.py",
    "pipeline/test_build_recover.py",
    "pipeline/test_onnx_texts.py::test_a_dimension_keeps_the_first_values",
    "pipeline/test_onnx_texts.py::test_core_ml_gives_the_answers_of_the_file",
    "pipeline/test_questions.py::test_a_verdict_counts_right_answers",
    "pipeline/test_recover.py::test_a_killed_training_goes_on_to_the_same_bytes",
    "pipeline/test_sequential.py::test_a_stopped_build_goes_on_with_the_same_codes",
    "pipeline/test_sequential.py::test_no_gain_from_the_evaluation_text",
    "pipeline/test_text_classification.py::test_labels_of_several_at_a_time_have_a_threshold_each",
    "pipeline/test_whisper.py::test_a_verdict_counts_words",
    "places/test_limits.py::test_mapped_weights_thrash_instead_of_failing",
)
# Arithmetic and tables inside those folders.
FAST = (
    "measure/test_bystanders.py",
    "measure/test_disagreement.py",
    "measure/test_interval_formulas.py",
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
    """Give `slow` to each test that is not for `nox -s fast`, and `rare` to those in RARE."""
    fast = {TESTS / name for name in FAST}
    slow = {TESTS / name for name in PLACES}
    for item in items:
        lies_in = {item.path, *item.path.parents}
        is_listed = bool(slow & lies_in) and not fast & lies_in
        if is_listed or BUILDS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        file = item.path.relative_to(TESTS).as_posix()
        if {file, f"{file}::{item.name.partition('[')[0]}"} & {*RARE}:
            item.add_marker(pytest.mark.rare)
