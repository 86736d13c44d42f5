"""Terms that the records of several rooms share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Progress = Callable[[str], None]
"""Called with what starts now, in a few words."""


Effort = Literal["quick", "full"]


Pass = Literal["memory", "latency", "quality"]


How = Literal["measured", "emulated", "estimated", "not run"]


Arch = Literal["x86_64", "aarch64"]
