"""The everyday analogies that an explanation may use, each tied to the idea it explains.

They come from two fields: encoding photos and video, and packing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Field = Literal["encoding", "packing"]


@dataclass(frozen=True)
class Analogy:
    """An analogy of a sentence or two, and its field."""

    field: Field
    text: str


PHOTO = Analogy(
    "encoding",
    "A camera that saves a photo as a JPEG file does something like it: it keeps the picture and "
    "stores each shade less exactly than the sensor saw it.",
)
VIDEO = Analogy(
    "encoding",
    "A video service does something like it with every film: it lowers the bit rate until the "
    "film fits the connection, and spends what it has on the scenes where a viewer would notice.",
)
SUITCASE = Analogy(
    "packing",
    "Packing for a flight is something like it: the suitcase has a limit, so clothes are folded "
    "and pressed until they take less room, and come out a little creased but wearable.",
)

ALL = (PHOTO, VIDEO, SUITCASE)
