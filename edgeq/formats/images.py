"""From an image to the input of a model, as `ImageSettings` say."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import read_bytes
from edgeq.core.images import ImageSettings

if TYPE_CHECKING:
    from PIL import Image

AnyImage: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]"
"""A path, the bytes of a file, an image of Pillow, or pixels: uint8 (height, width[, channels])."""

_FORMATS = ("PNG", "JPEG")
_MOST_BYTES = 256 << 20
_MOST_PIXELS = 100_000_000
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def prepared(image: AnyImage, settings: ImageSettings, value: ValueInfo, where: str) -> Any:
    """The array that the input `value` takes for an image. `where` names it in errors.

    Transparency is dropped, as by Pillow's `convert`. Raises InvalidInput for what is not a PNG or
    JPEG image of 8 bits per channel, Missing without Pillow.
    """
    picture = _fitted(opened(image, where), settings)
    pixels: npt.NDArray[Any] = np.asarray(picture, np.float64)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if settings.color == "BGR":
        pixels = pixels[:, :, ::-1]
    if not settings.is_unscaled:
        # In float32 after the scale, as image processors compute.
        mean, deviation = (np.array(e, np.float32) for e in (settings.mean, settings.deviation))
        pixels = ((pixels * settings.scale).astype(np.float32) - mean) / deviation
    if settings.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[None], value.dtype)


def _fitted(image: Image.Image, settings: ImageSettings) -> Image.Image:
    """The image in the input's colors and size."""
    from PIL import Image

    image = image.convert("L" if settings.color == "grayscale" else "RGB")
    place = settings.placed(image.height, image.width)
    size = (place.width, place.height)
    if size != image.size and settings.antialias:
        image = image.resize(size, Image.Resampling[settings.resample.upper()])
    elif size != image.size:
        ratios = (image.width / place.width, image.height / place.height)
        matrix = (ratios[0], 0, 0, 0, ratios[1], 0)
        image = image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    height, width = settings.size
    fill = (settings.fill,) * len(image.getbands())
    canvas = Image.new(image.mode, (width, height), fill if len(fill) > 1 else fill[0])
    canvas.paste(image, (place.left, place.top))
    return canvas


def opened(given: AnyImage, where: str) -> Image.Image:
    """Decoded, and turned as its metadata say."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise missing_extra("pillow", "images", "read images") from None
    try:
        if isinstance(given, Image.Image):
            image = given
        elif isinstance(given, np.ndarray):
            image = Image.fromarray(given)
        else:
            content = given
            if not isinstance(content, bytes):
                content = read_bytes(Path(content), _MOST_BYTES, "make it smaller")
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        if image.width * image.height > _MOST_PIXELS:
            what = f"has {image.width} × {image.height} pixels, over {_MOST_PIXELS}"
            raise InvalidInput(Problem(where, what, "make it smaller"))
        if image.mode not in _MODES:
            what = f"its pixels are of Pillow's mode {image.mode}, not 8 bits per channel"
            raise InvalidInput(Problem(where, what, "save it as PNG or JPEG of 8 bits per channel"))
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, UnidentifiedImageError):  # its text shows Python's buffer
            reason = f"neither {' nor '.join(_FORMATS)}"
        what = f"cannot be read as an image: {reason}"
        remedy = f"give a {' or '.join(_FORMATS)} file, or pixels as uint8"
        raise InvalidInput(Problem(where, what, remedy)) from None
