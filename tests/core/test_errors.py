"""How errors are put where a sentence goes on around them."""

from __future__ import annotations

from edgeq.core.errors import InvalidInput, Problem, in_one_line


def test_an_error_in_a_sentence_has_its_remedy_and_no_place_twice() -> None:
    own = Problem("x86: sse4", "would be killed there", "install a build\nfor that CPU")
    other = Problem("model.onnx", "is damaged")
    error = InvalidInput([own, other])
    assert in_one_line(error, "x86: sse4") == (
        "would be killed there; next: install a build for that CPU; model.onnx: is damaged"
    )
    assert in_one_line(error).startswith("x86: sse4: would be killed")
