"""Images become the arrays that transformers' image processors make of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra images is not installed")

from PIL import Image
from pydantic import ValidationError

from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput
from edgeq.core.images import ImageSettings
from edgeq.formats.images import prepared

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
COLORS = {"mean": MEAN, "deviation": DEVIATION}


def noise(mode: str, width: int, height: int) -> Image.Image:
    """An image with edges and noise."""
    rng = np.random.default_rng(width)
    steps = np.add.outer(np.arange(height) // 7, np.arange(width) // 5)[:, :, None] * [9, 17, 31]
    pixels = (steps + rng.integers(0, 60, (height, width, 3))) % 256
    image = Image.fromarray(pixels.astype(np.uint8))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(pixels[:, :, 0].astype(np.uint8)))
    return image.convert(mode)


def value(settings: ImageSettings, dtype: str = "float32") -> ValueInfo:
    return ValueInfo(name="pixel_values", dtype=dtype, shape=settings.shape)


def turned(image: Image.Image, orientation: int) -> bytes:
    """A file whose metadata say how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


def processor(name: str, **settings: Any) -> Any:
    transformers = pytest.importorskip("transformers", reason="the build side is not installed")
    return getattr(transformers, name)(**settings)


CASES = [
    # A ViT: stretched to a square.
    (
        ("ViTImageProcessor", {"size": {"height": 24, "width": 24}, "resample": 2}),
        {"size": 24, "mean": 0.5, "deviation": 0.5},
    ),
    # A ResNet's shorter side, then its middle.
    (
        (
            "CLIPImageProcessor",
            {
                "size": {"shortest_edge": 37},
                "crop_size": {"height": 32, "width": 32},
                "resample": 3,
                "image_mean": MEAN,
                "image_std": DEVIATION,
            },
        ),
        {"size": 32, "resize": 37, "resample": "bicubic", **COLORS},
    ),
    # A MobileNet with a middle that is not square.
    (
        (
            "MobileNetV2ImageProcessor",
            {
                "size": {"shortest_edge": 40},
                "crop_size": {"height": 30, "width": 36},
                "resample": 1,
            },
        ),
        {"size": [30, 36], "resize": 40, "resample": "lanczos", "mean": 0.5, "deviation": 0.5},
    ),
]


@pytest.mark.parametrize(("own", "ours"), CASES, ids=lambda case: str(case)[:30])
@pytest.mark.parametrize("size", [(61, 47), (40, 97), (24, 24), (300, 41)])
def test_arrays_are_those_of_transformers(own: tuple[str, Any], ours: Any, size: Any) -> None:
    made = processor(own[0], **own[1])
    settings = ImageSettings(**ours)
    for mode in ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK"):
        image = noise(mode, *size)
        wanted = made(image.convert("RGB"), return_tensors="np")["pixel_values"]
        found = prepared(image, settings, value(settings), "image")
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_transformers_turns_them(tmp_path: Path, orientation: int) -> None:
    utils = pytest.importorskip("transformers.image_utils", reason="no build side")
    path = tmp_path / "photo.jpg"
    path.write_bytes(turned(noise("RGB", 60, 35), orientation))
    settings = ImageSettings(size=24, mean=0.5, deviation=0.5)
    made = processor("ViTImageProcessor", size={"height": 24, "width": 24})
    wanted = made(utils.load_image(str(path)), return_tensors="np")["pixel_values"]
    for given in (path, str(path), path.read_bytes()):
        found = prepared(given, settings, value(settings), "image")
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


def test_channels_and_layout_are_as_the_model_takes_them() -> None:
    image = noise("RGB", 20, 10)
    pixels = np.asarray(image)
    plain = ImageSettings(size=[10, 20], scale=1, layout="NHWC")
    found = prepared(image, plain, value(plain, "uint8"), "image")
    assert found.dtype == np.uint8
    assert np.array_equal(found[0], pixels)
    swapped = ImageSettings(size=[10, 20], color="BGR", mean=[1, 2, 3], scale=1)
    found = prepared(pixels, swapped, value(swapped), "image")
    assert np.array_equal(found[0, 0], pixels[:, :, 2] - 1.0)
    assert np.array_equal(found[0, 2], pixels[:, :, 0] - 3.0)
    grey = ImageSettings(size=[10, 20], color="grayscale", scale=1)
    found = prepared(image, grey, value(grey), "image")
    assert np.array_equal(found[0, 0], np.asarray(image.convert("L"), np.float32))


@pytest.mark.parametrize(
    ("size", "place", "align"),
    [
        ((301, 117), (12, 32, 10, 0), "center"),
        ((90, 211), (32, 14, 0, 9), "center"),
        ((301, 117), (12, 32, 0, 0), "top-left"),
        ((32, 32), (32, 32, 0, 0), "center"),
        ((9, 16), (32, 18, 0, 7), "center"),
    ],
)
def test_a_letterbox_is_bilinear_between_four_pixels(
    size: tuple[int, int], place: tuple[int, int, int, int], align: str
) -> None:
    """As torch without antialiasing, to one step of 8 bits."""
    torch = pytest.importorskip("torch", reason="the build side is not installed")
    image = noise("RGB", *size)
    high, wide, top, left = place
    given = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1)[None].copy())
    wanted = torch.nn.functional.interpolate(given, (high, wide), mode="bilinear").numpy()
    settings = ImageSettings.model_validate(
        {"size": 32, "resize": "fit", "fill": 114, "align": align, "antialias": False, "scale": 1}
    )
    found = prepared(image, settings, value(settings), "image")
    inside = (slice(None), slice(None), slice(top, top + high), slice(left, left + wide))
    np.testing.assert_allclose(found[inside], wanted, rtol=0, atol=1)
    around = np.ones(found.shape, bool)
    around[inside] = False
    assert (found[around] == 114).all()


@pytest.mark.parametrize("given", [{"size": 8}, {"size": 8, "resize": "fit", "fill": 3}])
def test_settings_are_read_as_they_were_written(given: dict[str, Any]) -> None:
    settings = ImageSettings.model_validate(given)
    assert ImageSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_what_is_no_image_of_eight_bits_is_refused(tmp_path: Path) -> None:
    settings = ImageSettings(size=8)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(deep)
    with pytest.raises(InvalidInput, match="not 8 bits per channel"):
        prepared(deep, settings, value(settings), "image")
    whole = turned(noise("RGB", 64, 64), 1)
    other = io.BytesIO()
    noise("RGB", 9, 9).save(other, "GIF")
    for broken in (whole[: len(whole) // 2], b"GIF89a", other.getvalue(), b""):
        with pytest.raises(InvalidInput, match=r"images\[3\]: cannot be read as an image"):
            prepared(broken, settings, value(settings), "images[3]")
    with pytest.raises(InvalidInput, match="No such file"):
        prepared(tmp_path / "none.png", settings, value(settings), "image")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"size": 224, "resize": 200}, "smaller than size"),
        ({"size": 8, "mean": [0.1, 0.2]}, "2 numbers, and RGB 3 channels"),
        ({"size": 8, "deviation": 0}, "greater than 0"),
        ({"size": 8, "color": "grayscale", "mean": MEAN}, "3 numbers, and grayscale 1 channels"),
        ({"size": 8, "pad": True}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: Any, what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        ImageSettings(**given)
