"""The pictures from daily life that the piece may use, each tied to what it is to explain.

Four fields and no others: encoding photos and video, editing a book, packing, tuning an engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Field = Literal["encoding", "editing", "packing", "engine"]


@dataclass(frozen=True)
class Analogy:
    """A picture in a sentence or two, and the field of daily life that it is from."""

    field: Field
    text: str


PHOTO = Analogy(
    "encoding",
    "A camera that saves a photo as a JPEG file does something like it: it keeps the picture and "
    "stores each shade less exactly than the sensor saw it, because nobody will miss the "
    "difference.",
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
EDITOR = Analogy(
    "editing",
    "An editor who shortens a book does not cut every page by the same share. The chapter that "
    "carries the plot stays nearly whole, a long description gives up most, and the proof is a "
    "reader who still follows the story.",
)
ENGINE = Analogy(
    "engine",
    "A mechanic who tunes an engine changes a setting, puts the car on the test bench, and reads "
    "the gauge. What the gauge does not confirm is not handed to the customer.",
)
REPACK = Analogy(
    "packing",
    "It is the moment at the airport when the suitcase is on the scale and still over the limit. "
    "Pushing harder on the lid does not help; what helps is to know what each thing weighs, and to "
    "choose what stays at home.",
)

ALL = (PHOTO, VIDEO, SUITCASE, EDITOR, ENGINE, REPACK)
