"""A classifier's preprocessing as `preprocessor_config.json` of transformers states it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.images import ImageSettings
from edgeq.models.jsonfile import read_json
from edgeq.models.settings import Settings

PROCESSOR_FILE = "preprocessor_config.json"
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's numbers
_SQUARE, _SHORTER = "a square", "the shorter side"
# What a single number as size means. Others have steps of their own, such as padding.
_CLASSES = {
    "ViT": _SQUARE,
    "DeiT": _SQUARE,
    "CLIP": _SHORTER,
    "Bit": _SHORTER,
    "ConvNext": _SHORTER,
    "MobileNetV1": _SHORTER,
    "MobileNetV2": _SHORTER,
}
_REMEDY = "write the recipe's model.image yourself, as the model was trained"
_STRETCHED_FROM = 384  # ConvNext cuts nothing off larger images
_HARMLESS = (
    *("processor_class", "_processor_class", "image_processor_type", "feature_extractor_type"),
    *("do_convert_rgb", "do_reduce_labels", "_valid_processor_keys", "rescale_factor"),
    *("data_format", "input_data_format", "device", "return_tensors", "disable_grouping"),
    *("default_to_square", "crop_size", "image_mean", "image_std", "resample", "crop_pct"),
)


def read_image_settings(path: Path) -> ImageSettings:
    """The settings in the file. Raises InvalidInput for a key or class that is not understood."""
    settings = Settings(read_json(path, str(path)), str(path), path.name)
    settings.ignore(_HARMLESS)
    kind = _kind(settings)
    found = {
        **_sizes(settings, kind),
        **_numbers(settings),
        "resample": _filter(settings),
    }
    problems = list(settings.unread())
    if problems:
        raise InvalidInput(problems)
    try:
        return ImageSettings.model_validate(found)
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise InvalidInput(Problem(str(path), what, _REMEDY)) from None


def _kind(settings: Settings) -> str:
    name = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    kind = name.removesuffix("Fast").removesuffix("ImageProcessor")
    kind = kind.removesuffix("FeatureExtractor")
    if kind not in _CLASSES:
        what = f"{name} has steps that edgeq does not know"
        raise InvalidInput(Problem(settings.where, what, _REMEDY))
    return kind


def _sizes(settings: Settings, kind: str) -> dict[str, Any]:
    if not settings.flag("do_resize", True):
        what = "it resizes no image (do_resize: false), so inputs have any size"
        raise InvalidInput(Problem(settings.where, what, _REMEDY))
    size = _size(settings, "size", _CLASSES[kind])
    share = settings.get("crop_pct")
    if kind == "ConvNext":
        if not isinstance(size, int) or isinstance(share, bool):
            raise settings.unusable("size", size, "the length of a side")
        share = share if isinstance(share, int | float) and share > 0 else 224 / 256
        return {"size": size, **({} if size >= _STRETCHED_FROM else {"resize": int(size / share)})}
    if not settings.flag("do_center_crop", False):
        if isinstance(size, int):
            raise settings.unusable("size", size, "height and width, for nothing is cut off")
        return {"size": size}
    return {"size": _pair(_size(settings, "crop_size", _SQUARE)), "resize": size}


def _size(settings: Settings, name: str, number: str) -> int | list[int]:
    """The length of the shorter side, or height and width."""
    value = settings.need(name)
    if isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        value, number = value["shortest_edge"], _SHORTER
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        value = [value["height"], value["width"]]
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in numbers):
        raise settings.unusable(name, value, "height and width, or shortest_edge")
    return _pair(value) if number == _SQUARE else value


def _pair(size: int | list[int]) -> list[int]:
    return size if isinstance(size, list) else [size, size]


def _numbers(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {"scale": 1.0}
    if settings.flag("do_rescale", True):
        found["scale"] = settings.number("rescale_factor", 1 / 255)
    if settings.flag("do_normalize", True):
        found["mean"], found["deviation"] = settings.need("image_mean"), settings.need("image_std")
    return found


def _filter(settings: Settings) -> str:
    number = settings.need("resample")
    if number not in range(len(_FILTERS)) or isinstance(number, bool):
        raise settings.unusable("resample", number, "the number of one of Pillow's filters")
    return _FILTERS[number]
