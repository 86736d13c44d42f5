"""The base of every record."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable record that refuses unknown keys. A process builds the schemas that it uses."""

    model_config = ConfigDict(frozen=True, defer_build=True, extra="forbid")
