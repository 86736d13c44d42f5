"""preprocessor_config.json says of images what transformers' own class does with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("PIL", reason="the extra images is not installed")

import transformers
from PIL import Image

from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput
from edgeq.formats.images import prepared
from edgeq.models.image_processor import read_image_settings

CASES: list[tuple[str, dict[str, Any]]] = [
    ("ViTImageProcessor", {}),
    ("ViTImageProcessor", {"do_normalize": False, "do_rescale": False}),
    ("DeiTImageProcessor", {}),
    ("CLIPImageProcessor", {}),
    ("BitImageProcessor", {"size": {"shortest_edge": 256}, "resample": 2}),
    ("MobileNetV1ImageProcessor", {}),
    ("MobileNetV2ImageProcessor", {"crop_size": {"height": 192, "width": 224}}),
    ("ConvNextImageProcessor", {}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0.9}),
    ("SiglipImageProcessor", {}),
    ("EfficientNetImageProcessor", {}),
    ("EfficientNetImageProcessor", {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
    ("EfficientNetImageProcessor", {"do_center_crop": True, "include_top": False}),
    ("EfficientNetImageProcessor", {"do_normalize": False}),
    ("MobileViTImageProcessor", {}),  # smaller than its crop
    ("MobileViTImageProcessor", {"size": {"shortest_edge": 255}}),
    ("MobileViTImageProcessor", {"do_flip_channel_order": False}),
    ("BeitImageProcessor", {"do_center_crop": False}),
    ("BeitImageProcessor", {}),
    ("LevitImageProcessor", {}),
    ("PoolFormerImageProcessor", {}),
    ("PoolFormerImageProcessor", {"size": {"height": 200, "width": 200}}),
    ("PvtImageProcessor", {}),
    ("SegformerImageProcessor", {"size": {"height": 96, "width": 130}}),
    ("DetrImageProcessor", {"size": {"height": 96, "width": 130}}),
    ("YolosImageProcessor", {"size": {"height": 96, "width": 130}, "do_pad": False}),
    ("RTDetrImageProcessor", {}),
]


def image(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_settings_give_the_arrays_of_the_class(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    processor = getattr(transformers, name)(**changes)
    processor.save_pretrained(tmp_path)
    settings = read_image_settings(tmp_path / "preprocessor_config.json")
    value = ValueInfo(name="pixel_values", dtype="float32", shape=settings.shape)
    for size in ((301, 199), (97, 140)):
        wanted = processor(image(*size), return_tensors="np")["pixel_values"]
        found = prepared(image(*size), settings, value, "image")
        np.testing.assert_allclose(found, wanted, rtol=0, atol=4e-6)


def test_a_number_as_size_means_what_it_meant_to_its_class(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    for name, size in (("ViT", (224, 224)), ("ConvNext", (224, 224))):
        own = {"feature_extractor_type": f"{name}FeatureExtractor", "size": 224, "crop_pct": 0.875}
        if name == "ViT":
            del own["crop_pct"]
        path.write_text(
            json.dumps({**own, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
        )
        settings = read_image_settings(path)
        assert settings.size == size
        assert settings.resize == (256 if name == "ConvNext" else None)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"image_processor_type": "PerceiverImageProcessor"}, "steps that edgeq does not know"),
        ({"do_pad": True}, "do_pad"),
        ({"size": {"shortest_edge": 99}}, "each image keeps its shape"),
        ({"do_resize": False}, "resizes no image"),
        ({"resample": 9}, "resample"),
        ({"size": {"longest_edge": 224}}, "size"),
        ({"image_mean": [0.5, 0.5]}, "2 numbers"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**transformers.ViTImageProcessor().to_dict(), **changes}))
    with pytest.raises(InvalidInput, match=what):
        read_image_settings(path)
