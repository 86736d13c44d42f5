"""What a worker that ends without a reply is said to have died of."""

from __future__ import annotations

import pytest

from edgeq.places.process import PassFailed, conclude

TRACEBACK = """a warning from a library
Traceback (most recent call last):
  File "worker.py", line 34, in <module>
    sys.exit(serve(perform))
             ^^^^^^^^^^^^^^
  File "library.py", line 9, in forward
    return method(**inputs)
           ^^^^^^^^^^^^^^^^
"""


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (f"{TRACEBACK}TypeError: no argument 'a'\n", "TypeError: no argument 'a'"),
        (f"{TRACEBACK}ValueError: two lines\n  of reason\n", "ValueError: two lines of reason"),
        ("terminate called\n  what():  bad_alloc\n", "terminate called what(): bad_alloc"),
        ("", "it gave no reason"),
    ],
)
def test_the_error_is_the_reason_and_not_the_code_that_led_to_it(errors: str, reason: str) -> None:
    with pytest.raises(PassFailed) as caught:
        conclude("proof", 1, "", errors)
    assert str(caught.value) == f"the proof pass ended with status 1: {reason}"
