"""How images are prepared, as `preprocessor_config.json` of transformers states it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeq.core.errors import InvalidInput
from edgeq.core.images import ImageSettings
from edgeq.core.tasks.task import exporting
from edgeq.models.jsonfile import read_json
from edgeq.models.settings import Settings

PROCESSOR_FILE = "preprocessor_config.json"
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's numbers
_SQUARE, _SHORTER = "a square", "the shorter side"
_STRETCHED_FROM = 384  # ConvNext cuts nothing off larger images
_HARMLESS = (
    *("processor_class", "_processor_class", "image_processor_type", "feature_extractor_type"),
    *("do_convert_rgb", "do_reduce_labels", "_valid_processor_keys", "rescale_factor"),
    *("data_format", "input_data_format", "device", "return_tensors", "disable_grouping"),
    *("default_to_square", "crop_size", "image_mean", "image_std", "resample", "crop_pct"),
)
# Of labels, and of images that are put together in a batch.
_OF_DETECTORS = ("do_pad", "format", "do_convert_annotations", "max_size", "annotations")


@dataclass(frozen=True)
class _Class:
    """One of transformers' classes.

    number: what a single number as size means. crops: whether the middle is cut out by default.
    resized: the shorter side before that, of a size and the settings. normalizes: whether it can.
    """

    number: str = _SQUARE
    crops: bool = False
    resized: Callable[[int, Settings], int] | None = None
    normalizes: bool = True
    detects: bool = False


def _by_share(usual: float) -> Callable[[int, Settings], int]:
    """A crop is this share of what it is cut out of."""

    def resized(size: int, settings: Settings) -> int:
        share = settings.get("crop_pct", usual)
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if not is_number or not 0 < share <= 1:
            raise settings.unusable("crop_pct", share, "a share up to 1")
        return int(size / share)

    return resized


def _levit(size: int, settings: Settings) -> int:
    return int(256 / 224 * size)


_DETECTOR = _Class(_SHORTER, detects=True)
# Others have steps of their own.
_CLASSES = {
    **dict.fromkeys(("ViT", "Siglip", "Pvt", "Segformer", "EfficientNet"), _Class()),
    **dict.fromkeys(("DeiT", "Beit"), _Class(crops=True)),
    **dict.fromkeys(("CLIP", "Bit", "MobileNetV1", "MobileNetV2"), _Class(_SHORTER, crops=True)),
    **dict.fromkeys(("Detr", "ConditionalDetr", "DeformableDetr", "RTDetr", "Yolos"), _DETECTOR),
    "ConvNext": _Class(_SHORTER, resized=_by_share(224 / 256)),
    "Levit": _Class(_SHORTER, crops=True, resized=_levit),
    "PoolFormer": _Class(_SHORTER, crops=True, resized=_by_share(0.9)),
    "MobileViT": _Class(_SHORTER, crops=True, normalizes=False),
}


def read_image_settings(path: Path) -> ImageSettings:
    """The settings in the file. Raises InvalidInput for a key or class that is not understood."""
    settings = Settings(read_json(path, str(path)), str(path), path.name)
    settings.ignore(_HARMLESS)
    name, kind = _class(settings)
    if kind.detects:
        settings.ignore(_OF_DETECTORS)
    found = {
        **_sizes(settings, name, kind),
        **_numbers(settings, kind),
        "resample": _filter(settings),
        "color": "BGR" if settings.flag("do_flip_channel_order", name == "MobileViT") else "RGB",
    }
    problems = list(settings.unread())
    if problems:
        raise InvalidInput(problems)
    try:
        return ImageSettings.model_validate(found)
    except ValidationError as error:
        raise _refused(settings, error.errors()[0]["msg"]) from None


def _refused(settings: Settings, what: str) -> InvalidInput:
    remedy = f"{exporting(Path(settings.where).parent)}; then run edgeq new EXPORTED/model.onnx "
    return settings.error(what, f"{remedy}and write its model.image as the model was trained")


def _class(settings: Settings) -> tuple[str, _Class]:
    stated = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    name = stated.removesuffix("Fast").removesuffix("ImageProcessor")
    name = name.removesuffix("FeatureExtractor")
    if name not in _CLASSES:
        raise _refused(settings, f"{stated} has steps that edgeq does not know")
    return name, _CLASSES[name]


def _sizes(settings: Settings, name: str, kind: _Class) -> dict[str, Any]:
    if not settings.flag("do_resize", True):
        what = "it resizes no image (do_resize: false), so inputs have any size"
        raise settings.error(what, _one_size(settings))
    size = _size(settings, "size", kind.number)
    if name == "ConvNext":
        if not isinstance(size, int):
            raise settings.unusable("size", size, "the length of a side")
        assert kind.resized is not None
        larger = {} if size >= _STRETCHED_FROM else {"resize": kind.resized(size, settings)}
        return {"size": size, **larger}
    if name == "PoolFormer" and isinstance(size, list):
        if size[0] != size[1]:
            raise settings.unusable("size", size, "the same height and width")
        size = size[0]
    if kind.resized is not None and isinstance(size, int):
        size = kind.resized(size, settings)
    if not settings.flag("do_center_crop", kind.crops):
        if isinstance(size, int):
            what = "each image keeps its shape, and a model on a device takes images of one"
            raise settings.error(what, _one_size(settings))
        return {"size": size}
    crop = _pair(_size(settings, "crop_size", _SQUARE))
    return {"size": crop, "resize": size, "fill": 0}


def _one_size(settings: Settings) -> str:
    return (
        f'decide on one: write "do_resize": true, "size": {{"height": 640, "width": 640}}, or '
        f"what the model was trained with, to {settings.where}"
    )


def _size(settings: Settings, name: str, number: str) -> int | list[int]:
    """The length of the shorter side, or height and width."""
    value = settings.need(name)
    if isinstance(value, Mapping) and "shortest_edge" in value:
        if set(value) - {"shortest_edge", "longest_edge"}:
            raise settings.unusable(name, value, "height and width, or shortest_edge")
        if value.get("longest_edge") is not None and settings.flag("do_center_crop", False):
            raise settings.unusable(name, value, "shortest_edge alone")
        value, number = value["shortest_edge"], _SHORTER
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        value = [value["height"], value["width"]]
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in numbers):
        raise settings.unusable(name, value, "height and width, or shortest_edge")
    return _pair(value) if number == _SQUARE else value


def _pair(size: int | list[int]) -> list[int]:
    return size if isinstance(size, list) else [size, size]


def _numbers(settings: Settings, kind: _Class) -> dict[str, Any]:
    """Scale, mean and deviation; EfficientNet's classes shift before and divide twice."""
    scale, mean, deviation = 1.0, [0.0], [1.0]
    is_shifted = settings.flag("rescale_offset")
    if settings.flag("do_rescale", True):
        scale, mean = settings.number("rescale_factor", 1 / 255), [float(is_shifted)]
    own = settings.need("image_std") if kind.normalizes else deviation
    if settings.flag("do_normalize", kind.normalizes):
        mean = _each(mean, settings.need("image_mean"), lambda shift, other: shift + other)
        deviation = own
    if settings.flag("include_top"):
        deviation = _each(deviation, own, lambda once, again: once * again)
    return {"scale": scale, "mean": mean, "deviation": deviation}


def _each(first: Any, second: Any, joined: Callable[[Any, Any], Any]) -> Any:
    """Channel by channel; one number stands for all. Other values are left as they are."""
    first, second = (each if isinstance(each, list) else [each] for each in (first, second))
    if not all(isinstance(number, int | float) for number in (*first, *second)):
        return second
    if 1 in (len(first), len(second)):
        longest = max(len(first), len(second))
        first, second = (each * (longest // len(each)) for each in (first, second))
    return [joined(a, b) for a, b in zip(first, second, strict=False)]


def _filter(settings: Settings) -> str:
    number = settings.need("resample")
    if number not in range(len(_FILTERS)) or isinstance(number, bool):
        raise settings.unusable("resample", number, "the number of one of Pillow's filters")
    return _FILTERS[number]
