"""Valid answers of an agent on another machine; anything else comes from another program."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeq.core.errors import Missing, Problem
from edgeq.devices.address import Address

_SHOWN = 200  # letters of what was wrong


class Answer(BaseModel):
    """An answer with exactly its fields, of exactly their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Failure(Answer):
    """A refusal by the other system. free: bytes free on its disk."""

    text: str
    full: bool
    free: int | None


class Greeting(Answer):
    """The machine's facts. packages: versions by name. managed: whether pip is refused there."""

    python: str
    executable: str
    packages: dict[str, str | None]
    managed: bool
    system: str
    home: str
    room: str


class Have(Answer):
    """Bytes that are there of each file, by its SHA-256, None for all; and what the disk has."""

    have: dict[str, Annotated[int, Field(ge=0)] | None]
    free: int = Field(ge=0)


class Done(Answer):
    """Whether it was done."""

    ok: bool


class Laid(Answer):
    """The directory where files were laid out."""

    path: str


class Ran(Answer):
    """How a process ended: its status, negative for a signal, None for one that took too long."""

    status: int | None = Field(ge=-64, le=255)
    output: str
    errors: str


class Load(Answer):
    """Processes that wanted a CPU in the last minute."""

    load_average: float | None


class Sent(Answer):
    """The SHA-256 of a file whose pieces were sent before."""

    sha256: str


_Expected = TypeVar("_Expected", bound=Answer)


def parse_answer(kind: type[_Expected], header: dict[str, Any], address: Address) -> _Expected:
    """A message's header as an answer. Raises Missing for anything else."""
    try:
        return kind.model_validate({key: header[key] for key in header if key != "size"})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = f"answers as no agent of edgeq does: {place}: {first['msg']}"[:_SHOWN]
        remedy = "look at what the login there starts, and whether it is the machine you mean"
        raise Missing(Problem(address.name, what, remedy)) from None
