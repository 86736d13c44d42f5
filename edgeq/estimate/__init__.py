"""Memory and speed of models on devices that are not here, each with an interval.

`decode_speed` and `estimate_decode` tell how fast a language model writes, `estimate_memory` what a
process takes, `estimate_for` both for a device profile.
"""

from __future__ import annotations

from edgeq.estimate.calibrate import Measured
from edgeq.estimate.contents import Contents, contents_of_artifact, contents_of_plan
from edgeq.estimate.devices import Estimates, estimate_for
from edgeq.estimate.interval import Interval
from edgeq.estimate.memory import MemoryEstimate, estimate_memory
from edgeq.estimate.sizes import Sizes, sizes_of_config, sizes_of_decoder
from edgeq.estimate.speed import decode_speed, estimate_decode, estimate_prompt

__all__ = [
    "Contents",
    "Estimates",
    "Interval",
    "Measured",
    "MemoryEstimate",
    "Sizes",
    "contents_of_artifact",
    "contents_of_plan",
    "decode_speed",
    "estimate_decode",
    "estimate_for",
    "estimate_memory",
    "estimate_prompt",
    "sizes_of_config",
    "sizes_of_decoder",
]
