"""How a detector's outputs become boxes: the same words in a recipe and in a bundle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from edgeq.core.frozen import Frozen
from edgeq.core.validation_messages import refuse

Part = Literal["box", "objectness", "scores", "score", "class"]
_ROWS: tuple[tuple[Part, ...], ...] = (
    ("box",),
    ("box", "scores"),
    ("box", "objectness", "scores"),
    ("box", "score", "class"),
)
_Name = Annotated[str, Field(min_length=1)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class DetectionSettings(Frozen):
    """From the outputs for one image to boxes with labels, in this order: take apart, choose the
    likeliest label, drop what scores less than the threshold, suppress overlapping boxes."""

    boxes: _Name = Field(description="The output with a row for each box.", examples=["output0"])
    row: Annotated[
        tuple[Part, ...],
        BeforeValidator(lambda each: tuple(each) if isinstance(each, list) else each),
    ] = Field(
        default=("box",),
        description="What the numbers of a row are: box (four of them), objectness (which the "
        "scores are multiplied by), scores (one for each label), score and class (of the likeliest "
        "label).",
        examples=[["box", "scores"], ["box", "objectness", "scores"], ["box", "score", "class"]],
    )
    transposed: bool = Field(
        default=False, description="Whether that output has a column for each box instead of a row."
    )
    scores: _Name | None = Field(
        default=None,
        description="The output with the scores, if they are in one of their own: one for each "
        "label, or with `classes`, one for each box.",
    )
    classes: _Name | None = Field(
        default=None, description="The output with the number of each box's label, if there is one."
    )
    box: Literal["xyxy", "yxyx", "cxcywh", "xywh"] = Field(
        default="xyxy",
        description="The four numbers of a box: two corners, as x, y or as y, x; or its center or "
        "its top left corner, then width and height.",
    )
    unit: Literal["pixels", "fractions"] = Field(
        default="pixels", description="Pixels of the input, or fractions of its width and height."
    )
    background: Literal["first", "last"] | None = Field(
        default=None,
        description="Whether there is one more class than labels, for no object: before the first "
        "label or after the last.",
    )
    several_labels: bool = Field(
        default=False,
        description="Whether a box can have several labels, and is given once for each of them "
        "whose score is not below the threshold; by default it has the likeliest one.",
    )
    threshold: _Share = Field(
        default=0.25, description="Boxes with a lower score are dropped.", examples=[0.25]
    )
    overlap: _Share | None = Field(
        default=None,
        description="A box is dropped if its intersection with one of a higher score, divided by "
        "their union, is above this. By default none is: the model did that.",
        examples=[0.45],
    )
    across_labels: bool = Field(
        default=False, description="Whether a box also suppresses those with other labels."
    )
    most: int = Field(default=300, ge=1, le=10_000, description="The most boxes for one image.")

    @model_validator(mode="after")
    def _is_whole(self) -> DetectionSettings:
        if self.row not in _ROWS:
            known = " or ".join(f"[{', '.join(row)}]" for row in _ROWS)
            raise refuse(f"row [{', '.join(self.row)}] is not known", f"write {known}")
        if self.has_scores_in_rows == (self.scores is not None):
            what = "the scores are in the rows of boxes or in an output of their own"
            raise refuse(what, "write 'scores: OUTPUT', or 'row: [box, scores]'")
        if self.classes is not None and self.scores is None:
            raise refuse("'classes' needs 'scores'", "write 'scores: OUTPUT', with their scores")
        if self.several_labels and self.names_class:
            raise refuse("the model says one label for each box", "remove 'several_labels'")
        if self.across_labels and self.overlap is None:
            raise refuse("across_labels is for suppression", "add 'overlap: 0.45', or remove it")
        return self

    @property
    def has_scores_in_rows(self) -> bool:
        """Whether the output with the boxes has scores, too."""
        return len(self.row) > 1

    @property
    def names_class(self) -> bool:
        """Whether the model says a number for the likeliest label, not a score for each."""
        return self.classes is not None or "class" in self.row

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that are read."""
        named = (self.boxes, self.scores, self.classes)
        return tuple(name for name in named if name is not None)

    def width(self, labels: int) -> int:
        """The numbers in a row of `boxes`, for a model of so many labels."""
        widths = {"box": 4, "scores": self.columns(labels)}
        return sum(widths.get(part, 1) for part in self.row)

    def columns(self, labels: int) -> int:
        """The scores of a box that has one for each label."""
        return labels + (self.background is not None)
